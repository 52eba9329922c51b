"""Every reader of files from outside, each with a whole file: what the tests of bad input damage and read again."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from characters import confusable
from data import preparing
from data.prepared import CHUNK_NAME, MAPPING_FILE, METADATA_FILE, PreparedDataset, mapping_row
from engine import checkpoints
from evaluation.model import load_model
from export import safetensors_file
from images.normalization import CANVAS, normalize
from images.reading import read_grey
from quantization.files import load_trained
from records.etl9g import IMAGE_HEIGHT, IMAGE_WIDTH, new_records
from structure.trees import cache_file, structure_table
from tiny_models import save_int8
from train_etl9g_model import ARCHITECTURE, CNNConfig

CLASSES = "あいう亜腕"
Reader = tuple[Path, Callable[[], object]]  # a file, and the function that reads it


def raw_records(folder: Path) -> Reader:
    """Three records, of which those that are whole are taken."""
    images = np.zeros((3, IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    images[:, 30:90, 40:80] = 7
    path, chunk = folder / "ETL9G_01", folder / "chunk.npz"
    path.write_bytes(new_records(images, 0, np.arange(3), b"KanjiVG stand-in 0/0").tobytes())

    def read() -> None:
        chunk.unlink(missing_ok=True)
        facts = preparing.make_chunk(path, chunk, skip_damaged=True)
        with np.load(chunk) as arrays:
            assert len(arrays["images"]) == len(arrays["labels"]) == facts["records"]

    return path, read


def dataset_file(name: str) -> Callable[[Path], Reader]:
    """One of the files of a prepared dataset of three classes and three sets, one sample of each class in each."""

    def make(folder: Path) -> Reader:
        images = np.random.default_rng(0).integers(0, 256, (9, CANVAS, CANVAS), np.uint8)
        labels, sets = np.tile(np.arange(3, dtype=np.int16), 3), np.repeat(np.arange(3, dtype=np.int16), 3)
        np.savez(folder / CHUNK_NAME.format(1), images=images, labels=labels, sets=sets)
        rows = [mapping_row(label, char) for label, char in enumerate(CLASSES[:3])]
        (folder / MAPPING_FILE).write_text(json.dumps({"classes": rows}))
        splits = {"train": [0], "validation": [1], "test": [2]}
        metadata = {"source": "test shapes", "samples": 9, "classes": 3, "splits": splits}
        metadata |= {"files": [{"file": "ETL9G_01", "sha256": "hash", "records": 9}]}
        (folder / METADATA_FILE).write_text(json.dumps(metadata))

        def read() -> None:
            dataset = PreparedDataset(folder)
            assert len(dataset.images(np.arange(len(dataset.labels)))) == sum(map(len, dataset.splits.values()))

        return folder / name, read

    return make


def tiny_file(path: Path, **facts) -> tuple[torch.nn.Module, dict]:
    """A CNN as narrow as one can be, written to a model file: the model, and what the file says."""
    torch.manual_seed(0)
    config = CNNConfig(width=0.13, embedding=2)
    model = ARCHITECTURE.model(config, CLASSES).eval()
    says = {"script": "train_etl9g_model", "config": dataclasses.asdict(config), "classes": CLASSES, "source": "test"}
    says |= {"confidence": {"temperature": 1.5, "score": "lead", "threshold": 0.1}, "metrics": {}, "epoch": 1} | facts
    checkpoints.save(path, says | {"model": model.state_dict()})
    return model, says


def trained(path: Path) -> Reader:
    def read() -> None:
        model, facts = load_trained(path)
        assert model(torch.zeros(1, 1, CANVAS, CANVAS)).shape == (1, len(facts["classes"]))
        kinds = {"source": str, "epoch": int, "metrics": dict, "confidence": dict, "quantization": dict}
        assert all(isinstance(facts.get(name), kind | None) for name, kind in kinds.items())

    return path, read


def checkpoint(folder: Path) -> Reader:
    tiny_file(folder / "model.pth")
    return trained(folder / "model.pth")


def int8_checkpoint(folder: Path) -> Reader:
    return trained(save_int8("train_etl9g_model", folder / "int8.pth"))


def safetensors(folder: Path) -> Reader:
    safetensors_file.write(*tiny_file(folder / "model.pth"), folder / "model.safetensors")
    return trained(folder / "model.safetensors")


def onnx_model(by: np.ndarray, classes: str = CLASSES) -> onnx.ModelProto:
    """A model of a few bytes: the mean ink of each row of the picture times a matrix (64, classes)."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input_image", "across"], ["rows"], keepdims=0),
            helper.make_node("MatMul", ["rows", "by"], ["logits"]),
        ],
        "rows",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["n", 1, CANVAS, CANVAS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None])],
        [numpy_helper.from_array(by, "by"), numpy_helper.from_array(np.array([1, 3]), "across")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    confidence = {"temperature": 1.5, "score": "lead", "threshold": 0.1}
    config = {"split": "writer", "seed": 0}
    says = {"classes": classes, "config": json.dumps(config), "confidence": json.dumps(confidence)}
    helper.set_model_props(model, says)
    return model


def onnx_file(folder: Path) -> Reader:
    path = folder / "model.onnx"
    onnx.save(onnx_model(np.random.default_rng(0).normal(size=(CANVAS, len(CLASSES))).astype(np.float32)), path)

    def read() -> None:
        model = load_model(path)
        logits = model.logits(np.full((2, 1, CANVAS, CANVAS), 0.5, np.float32))
        assert np.allclose(model.confidence.probabilities(logits).sum(axis=1), 1)

    return path, read


def picture(name: str, mode: str) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        drawing = Image.new("L", (40, 30), 255)
        ImageDraw.Draw(drawing).line((5, 15, 35, 12), fill=0, width=3)
        drawing.convert(mode).save(folder / name)

        def read() -> None:
            grey = read_grey(folder / name)
            assert 0 <= grey.min() <= grey.max() <= 255
            assert np.isfinite(normalize(grey)).all()

        return folder / name, read

    return make


def structure_cache(folder: Path) -> Reader:
    """Below $XDG_CACHE_HOME; one that is damaged is built again."""
    table = structure_table("語晴亜")

    def read() -> None:
        structure_table.cache_clear()
        assert structure_table("語晴亜") == table

    return cache_file("語晴亜"), read


def confusable_file(folder: Path) -> Reader:
    path = folder / confusable.FILE_NAME
    confusable.save(path, CLASSES, {"あ": {"い": 0.25}, "う": {"腕": 0.5}}, "test shapes")
    return path, lambda: confusable.load(path).looks_like([("い", 0.5), ("あ", 0.4)])


READERS: dict[str, Callable[[Path], Reader]] = {
    "raw records": raw_records,
    "chunk": dataset_file(CHUNK_NAME.format(1)),
    "mapping": dataset_file(MAPPING_FILE),
    "metadata": dataset_file(METADATA_FILE),
    "checkpoint": checkpoint,
    "INT8 checkpoint": int8_checkpoint,
    "SafeTensors": safetensors,
    "ONNX": onnx_file,
    "PNG": picture("picture.png", "RGBA"),
    "JPEG": picture("picture.jpg", "L"),
    "TIFF": picture("picture.tif", "F"),
    "confusable": confusable_file,
    "structure cache": structure_cache,
}
