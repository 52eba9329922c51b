"""Export a trained model to ONNX, and prove it: compared with PyTorch before the file gets its name.

    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth --any-image --top 10

Input `input_image` float32 (N, 1, 64, 64), ink 1 on paper 0; output `logits` (N, classes). The file's metadata names
its classes, input contract, data source and measured accuracy.

With --any-image the normalisation is in the file too: input `image` uint8 (N, H, W, C), pictures of any size and either
polarity; outputs `probabilities` and `classes` (N, k), likeliest first, and `logits`. MODEL may then be an ONNX file
of this toolkit as well, float or quantised. A grey picture (H, W) goes in as `picture[None, :, :, None]`.
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

from any_image_model import AnyImageError, any_image_model, opset_of, prove
from atomic_file import atomic_write, scratch_folder
from checkpoints import load_trained
from command_line import InputError, run
from etl9g_dataset import PreparedDataset
from normalization import CANVAS, CONTRACT
from normalization_graph import OLDEST_OPSET
from output_folders import beside, check_not
from recognize import Recognizer

DEFAULT_OPSET = 18
DEFAULT_TOP = 10
OLDEST_OF_NEW_EXPORTER = 18  # asked for less it silently gives this
TOLERANCE = 1e-3  # largest difference of a logit
BATCHES = (1, 3, 64)
FILE_NAMES = {"best_kanji_model": "kanji_model"}


class ConversionError(RuntimeError):
    """An exported file that is not what was asked for; it has not been kept."""


def default_output(model_path: Path, any_image: bool = False) -> Path:
    stem = model_path.stem
    return beside(model_path, FILE_NAMES.get(stem, stem) + ("_any_image" if any_image else "") + ".onnx")


def published_config(config: dict) -> dict:
    """The settings without the folders and files of the machine it was trained on."""
    return {name: value for name, value in config.items() if not name.endswith(("_dir", "_from", "_path", "teacher"))}


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
    written = onnx.load(path)
    found = opset_of(written)
    if found != opset:
        raise ConversionError(f"the exporter gave opset {found} instead of {opset}")
    onnx.save(without_notes(written), path)


def without_notes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what the exporter notes for developers: lines of code, with the folders they lie in."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *model.functions, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if part is not model:
            del part.metadata_props[:]
    return model


def check_plain_float(path: Path, facts: dict) -> None:
    """Raises InputError for a model that is on its way to integers."""
    if facts["script"] == "train_qat" and "quantization" not in facts:
        raise InputError(
            f"{path} is rounded as INT8 will be: convert_int8_pytorch_to_quantized_onnx.py takes the "
            "quantized_NAME_int8.pth that train_qat.py made of it"
        )


def metadata(facts: dict) -> dict[str, str]:
    """What a user of the file has to know."""
    told = {
        "classes": facts["classes"],
        "contract": CONTRACT,
        "source": facts["source"],
        "generator": facts.get("generator") or "",
        "script": facts["script"],
        "config": json.dumps(published_config(facts["config"])),
        "metrics": json.dumps(facts["metrics"]),
    }
    if facts.get("confidence"):
        told["confidence"] = json.dumps(facts["confidence"])
    return {name: str(value) for name, value in told.items()}


def describe(path: Path, facts: dict) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata(facts))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def probe_images(data_dir: Path | None, count: int, config: dict) -> torch.Tensor:
    """Test images where a dataset is at hand, which is split as the config of the model says, smoothed noise otherwise;
    float32 (count, 1, 64, 64)."""
    if data_dir is not None:
        dataset = PreparedDataset(data_dir, config.get("split", "writer"), config.get("seed", 0))
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


def write(model_path: Path, path: Path, data_dir: Path | None, opset: int) -> str:
    """Exports a trained model to `path` and compares; returns what was found."""
    model, facts = load_trained(model_path)
    check_plain_float(model_path, facts)
    images = probe_images(data_dir, max(BATCHES), facts["config"])
    export(model, path, opset)
    describe(path, facts)
    worst = compare(model, path, images)
    kind = "test images" if data_dir else "random images"
    return f"equal to PyTorch on {kind} in batches of {', '.join(map(str, BATCHES))} (largest difference {worst:.1e})"


def summary(output: Path) -> str:
    model = onnx.load(output)
    classes = next(len(entry.value) for entry in model.metadata_props if entry.key == "classes")
    return f"{output}: opset {opset_of(model)}, {output.stat().st_size:,} bytes, {classes:,} classes"


def convert(model_path: Path, output: Path, data_dir: Path | None, opset: int = DEFAULT_OPSET) -> str:
    """Exports, compares, and only then names the file; returns one line that says what was made."""
    with atomic_write(output) as temporary:
        found = write(model_path, temporary, data_dir, opset)
    return f"{summary(output)}; {found}"


def convert_any_image(model_path: Path, output: Path, data_dir: Path | None, opset: int, top: int) -> str:
    """Puts the normalisation before a trained model or an ONNX file, compares, names the file; returns one line."""
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        original, found = model_path, []
        if model_path.suffix.lower() != ".onnx":
            original = folder / "model.onnx"
            found.append(write(model_path, original, data_dir, opset))
        elif Recognizer(model_path).takes_pictures:
            raise InputError(f"{model_path} takes pictures already")
        onnx.save(any_image_model(onnx.load(original), top), temporary)
        found.append(str(prove(temporary, original)))
    return "; ".join([summary(output), *found])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model-path",
        type=Path,
        required=True,
        help="a checkpoint, best model or SafeTensors file; or see --any-image",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="default: beside the model; for best_kanji_model.pth kanji_model.onnx or kanji_model_any_image.onnx",
    )
    parser.add_argument(
        "--any-image", action="store_true", help="put the normalisation into the file; MODEL_PATH may be ONNX too"
    )
    parser.add_argument("--top", type=int, help="how many classes an --any-image file names (default 10)")
    parser.add_argument(
        "--data-dir", type=Path, help="compare on this dataset's test images (default: dataset, if there)"
    )
    parser.add_argument("--opset", type=int, help=f"ONNX opset, 13 to 23 (default {DEFAULT_OPSET})")
    arguments = parser.parse_args()
    if arguments.opset is not None and not 13 <= arguments.opset <= 23:
        parser.error("--opset must lie between 13 and 23")
    if arguments.any_image and arguments.opset is not None and arguments.opset < OLDEST_OPSET:
        parser.error(f"--any-image needs --opset {OLDEST_OPSET} or newer")
    if arguments.top is not None and (not arguments.any_image or arguments.top < 1):
        parser.error("--top goes with --any-image and must be at least 1")
    if arguments.model_path.suffix.lower() == ".onnx" and not arguments.any_image:
        parser.error(f"{arguments.model_path} is ONNX already: --any-image puts the normalisation into it")
    if arguments.model_path.suffix.lower() == ".onnx" and (arguments.data_dir or arguments.opset is not None):
        parser.error(f"{arguments.model_path} keeps its opset and is compared on pictures: no --opset, no --data-dir")
    arguments.opset = DEFAULT_OPSET if arguments.opset is None else arguments.opset
    return arguments


def main() -> None:
    arguments = parse_arguments()
    data_dir = arguments.data_dir
    if data_dir is None and (Path("dataset") / "metadata.json").is_file():
        data_dir = Path("dataset")
    model_path, opset = arguments.model_path, arguments.opset
    output = arguments.output or default_output(model_path, arguments.any_image)
    check_not(output, model_path)
    try:
        if arguments.any_image:
            print(convert_any_image(model_path, output, data_dir, opset, arguments.top or DEFAULT_TOP))
        else:
            print(convert(model_path, output, data_dir, opset))
    except (ConversionError, AnyImageError) as error:
        raise OSError(f"{model_path} was not converted: {error}") from None


if __name__ == "__main__":
    run(main)
