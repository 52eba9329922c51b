"""A trained model as an ONNX file: exported, described by its metadata, compared with PyTorch."""

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from data.prepared import PreparedDataset
from files.atomic import atomic_write
from files.command_line import InputError
from files.folders import beside
from images.normalization import CANVAS, CONTRACT
from inference.recognizer import Recognizer
from quantization.files import load_trained

DEFAULT_OPSET = 18
OLDEST_OF_NEW_EXPORTER = 18  # asked for less it silently gives this
TOLERANCE = 1e-3  # largest difference of a logit
FILE_NAMES = {"best_kanji_model": "kanji_model"}


class ConversionError(OSError):
    """An exported file is not what was asked for, and was not kept. Ends a script with one line and exit code 1."""

    def __init__(self, reason: str):
        super().__init__(f"the model was not converted: {reason}")


def default_output(model_path: Path, any_image: bool = False) -> Path:
    stem = model_path.stem
    return beside(model_path, FILE_NAMES.get(stem, stem) + ("_any_image" if any_image else "") + ".onnx")


def published_config(config: dict) -> dict:
    """The settings without the folders and files of the machine it was trained on."""
    return {
        name: value
        for name, value in config.items()
        if not name.endswith(("_dir", "_from", "_path", "teacher", "font"))
    }


def export(model: nn.Module, path: Path, opset: int) -> None:
    """Writes the model as ONNX of this opset, batch dynamic. Raises ConversionError if another opset comes out."""
    options = {"input_names": ["input_image"], "output_names": ["logits"], "opset_version": opset}
    if opset >= OLDEST_OF_NEW_EXPORTER:
        batch = {"images": {0: torch.export.Dim("batch")}}
        options |= {"dynamo": True, "external_data": False, "dynamic_shapes": batch, "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": {"input_image": {0: "batch"}, "logits": {0: "batch"}}}
    with warnings.catch_warnings(action="ignore"):  # notes about the exporter's own future
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(model, (torch.zeros(2, 1, CANVAS, CANVAS),), str(path), **options)
    written = onnx.load(path)
    if opset_of(written) != opset:
        raise ConversionError(f"the exporter gave opset {opset_of(written)} instead of {opset}")
    # What the exporter notes for developers goes: lines of code, with the folders they lie in.
    graph, written.doc_string = written.graph, ""
    del graph.value_info[:]
    for part in (graph, *written.functions, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(written, path)


def describe(path: Path, facts: dict) -> None:
    """Puts what a user of the file has to know into its metadata."""
    entries = {"classes": facts["classes"], "contract": CONTRACT, "source": str(facts["source"])}
    entries |= {"generator": str(facts.get("generator") or ""), "script": facts["script"]}
    entries |= {"config": json.dumps(published_config(facts["config"])), "metrics": json.dumps(facts["metrics"])}
    if facts.get("confidence"):
        entries["confidence"] = json.dumps(facts["confidence"])
    model = onnx.load(path)
    onnx.helper.set_model_props(model, entries)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def probe_images(data_dir: Path | None, count: int, config: dict) -> torch.Tensor:
    """float32 (count, 1, 64, 64): test images of a dataset, split as the model's config says, else smoothed noise."""
    if data_dir is not None:
        dataset = PreparedDataset(data_dir, config.get("split", "writer"), config.get("seed", 0))
        positions = dataset.splits["test"].positions
        picked = np.random.default_rng(0).choice(positions, min(count, len(positions)), replace=False)
        return dataset.images(np.resize(picked, count)).float() / 255
    noise = torch.rand(count, 1, CANVAS, CANVAS, generator=torch.Generator().manual_seed(0))
    return (4 * torch.nn.functional.avg_pool2d(noise, 5, 1, 2) - 1.6).clamp(0, 1)


def write(model_path: Path, path: Path, data_dir: Path | None, opset: int) -> str:
    """Exports a trained model to `path`; one line on how much it differs from PyTorch, ConversionError if too much."""
    model, facts = load_trained(model_path)
    if facts["script"] == "train_qat" and "quantization" not in facts:
        remedy = "convert_int8_pytorch_to_quantized_onnx.py takes the quantized_NAME_int8.pth that was made of it"
        raise InputError(f"{model_path} is rounded as INT8 will be: {remedy}")
    images = probe_images(data_dir, 64, facts["config"])
    export(model, path, opset)
    describe(path, facts)
    recognizer, worst = Recognizer(path), 0.0
    for size in (1, 3, 64):
        with torch.inference_mode():
            expected = model(images[:size]).numpy()
        logits = recognizer.logits(images[:size].numpy())
        worst = max(worst, float(np.abs(expected - logits).max()))
        if worst > TOLERANCE or (expected.argmax(1) != logits.argmax(1)).any():
            raise ConversionError(f"the file's logits differ from PyTorch's by {worst:.2g} at a batch of {size}")
    kind = "test images" if data_dir else "random images"
    return f"equal to PyTorch on {kind}, batches of 1, 3, 64 (difference {worst:.1e})"


def summary(output: Path) -> str:
    model = onnx.load(output)
    classes = next(len(entry.value) for entry in model.metadata_props if entry.key == "classes")
    return f"{output}: opset {opset_of(model)}, {output.stat().st_size:,} bytes, {classes:,} classes"


def convert(model_path: Path, output: Path, data_dir: Path | None, opset: int = DEFAULT_OPSET) -> str:
    """Exports, compares, and only then names the file; returns lines that say what was made."""
    with atomic_write(output) as temporary:
        comparison = write(model_path, temporary, data_dir, opset)
    return f"{summary(output)}\n{comparison}"


def opset_of(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
