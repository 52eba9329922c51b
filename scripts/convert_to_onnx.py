"""Export a trained model to ONNX, and prove it: compared with PyTorch before the file gets its name.

    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth

Input `input_image` float32 (N, 1, 64, 64), ink 1 on paper 0; output `logits` (N, classes). The file's metadata names
its classes, input contract, data source and measured accuracy.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from atomic_file import atomic_write
from checkpoints import load_trained
from command_line import run
from etl9g_dataset import PreparedDataset
from normalization import CANVAS, CONTRACT
from recognize import Recognizer

DEFAULT_OPSET = 18
OLDEST_OF_NEW_EXPORTER = 18  # asked for less it silently gives this
TOLERANCE = 1e-3  # largest difference of a logit
BATCHES = (1, 3, 64)
FILE_NAMES = {"best_kanji_model": "kanji_model"}


class ConversionError(RuntimeError):
    """An exported file that is not what was asked for; it has not been kept."""


def default_output(model_path: Path) -> Path:
    stem = model_path.stem
    return model_path.with_name(FILE_NAMES.get(stem, stem) + ".onnx")


def export(model: nn.Module, path: Path, opset: int) -> None:
    """Writes the model as ONNX of this opset, batch dynamic. Raises ConversionError if another opset comes out."""
    example = torch.zeros(2, 1, CANVAS, CANVAS)
    names = {"input_names": ["input_image"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes about the exporter's own future
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        if opset >= OLDEST_OF_NEW_EXPORTER:
            batch = {"images": {0: torch.export.Dim("batch")}}
            new = {"dynamo": True, "external_data": False, "dynamic_shapes": batch, "verbose": False}
            torch.onnx.export(model, (example,), str(path), opset_version=opset, **new, **names)
        else:
            axes = {"input_image": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(
                model, (example,), str(path), dynamo=False, opset_version=opset, dynamic_axes=axes, **names
            )
    found = next(entry.version for entry in onnx.load(path).opset_import if entry.domain in {"", "ai.onnx"})
    if found != opset:
        raise ConversionError(f"the exporter gave opset {found} instead of {opset}")


def describe(path: Path, facts: dict) -> None:
    """Puts what a user of the file has to know into its metadata."""
    model = onnx.load(path)
    told = {
        "classes": facts["classes"],
        "contract": CONTRACT,
        "source": facts["source"],
        "generator": facts.get("generator") or "",
        "script": facts["script"],
        "config": json.dumps(facts["config"]),
        "metrics": json.dumps(facts["metrics"]),
    }
    onnx.helper.set_model_props(model, {name: str(value) for name, value in told.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def probe_images(data_dir: Path | None, count: int) -> torch.Tensor:
    """Real test images where a dataset is at hand, smoothed noise otherwise; float32 (count, 1, 64, 64)."""
    if data_dir is not None:
        dataset = PreparedDataset(data_dir)
        positions = dataset.splits["test"].positions
        picked = np.random.default_rng(0).choice(positions, min(count, len(positions)), replace=False)
        return dataset.images(np.resize(picked, count)).float() / 255
    noise = torch.rand(count, 1, CANVAS, CANVAS, generator=torch.Generator().manual_seed(0))
    return (4 * torch.nn.functional.avg_pool2d(noise, 5, 1, 2) - 1.6).clamp(0, 1)


@torch.no_grad()
def compare(model: nn.Module, path: Path, images: torch.Tensor) -> float:
    """The largest difference of a logit between PyTorch and the file, over batches of 1, 3 and 64.

    Raises ConversionError if it is too large or a top-1 differs.
    """
    recognizer, worst = Recognizer(path), 0.0
    for size in BATCHES:
        batch = images[:size].contiguous()
        expected, found = model(batch).numpy(), recognizer.logits(batch.numpy())
        if expected.shape != found.shape or not np.isfinite(found).all():
            raise ConversionError(f"a batch of {size} gives {found.shape} instead of {expected.shape}, or not numbers")
        worst = max(worst, float(np.abs(expected - found).max()))
        if worst > TOLERANCE or (expected.argmax(1) != found.argmax(1)).any():
            raise ConversionError(f"the file's logits differ from PyTorch's by {worst:.2g} at a batch of {size}")
    return worst


def convert(model_path: Path, output: Path, data_dir: Path | None, opset: int = DEFAULT_OPSET) -> str:
    """Exports, compares, and only then names the file; returns one line that says what was made."""
    model, facts = load_trained(model_path)
    images = probe_images(data_dir, max(BATCHES))
    with atomic_write(output) as temporary:
        export(model, temporary, opset)
        describe(temporary, facts)
        worst = compare(model, temporary, images)
    kind = "test images" if data_dir else "random images"
    return (
        f"{output}: opset {opset}, {output.stat().st_size:,} bytes, {len(facts['classes']):,} classes; "
        f"equal to PyTorch on {kind} in batches of {', '.join(map(str, BATCHES))} (largest difference {worst:.1e})"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", type=Path, required=True, help="a checkpoint, best model or SafeTensors file")
    parser.add_argument(
        "--output", type=Path, help="default: beside the model; kanji_model.onnx for best_kanji_model.pth"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="compare on this dataset's test images (default: dataset, if there)"
    )
    parser.add_argument(
        "--opset", type=int, default=DEFAULT_OPSET, help=f"ONNX opset, 13 to 23 (default {DEFAULT_OPSET})"
    )
    arguments = parser.parse_args()
    if not 13 <= arguments.opset <= 23:
        parser.error("--opset must lie between 13 and 23")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    data_dir = arguments.data_dir
    if data_dir is None and (Path("dataset") / "metadata.json").is_file():
        data_dir = Path("dataset")
    try:
        print(
            convert(
                arguments.model_path,
                arguments.output or default_output(arguments.model_path),
                data_dir,
                arguments.opset,
            )
        )
    except ConversionError as error:
        raise OSError(f"{arguments.model_path} was not converted: {error}") from None


if __name__ == "__main__":
    run(main)
