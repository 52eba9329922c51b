"""Every reader of files from outside, with a whole file for each: what the tests of bad input damage and read again."""

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from characters import confusable
from damage import (
    Edit,
    Recipe,
    edit_arrays,
    edit_bytes,
    edit_checkpoint,
    edit_json,
    edit_onnx,
    edit_png,
    edit_safetensors,
    edit_zip,
)
from data import preparing
from data.prepared import CHUNK_NAME, MAPPING_FILE, METADATA_FILE, SPLITS, PreparedDataset
from engine import checkpoints, model_files
from engine.run import Run
from evaluation.model import load_model
from export import safetensors_file
from files.command_line import InputError
from images.normalization import CANVAS, normalize
from images.reading import read_grey
from inference.confidence import confidence_of
from quantization.files import load_quantized, save_quantized
from quantization.network import calibrate, convert, prepare
from records.etl9g import IMAGE_HEIGHT, IMAGE_WIDTH, new_records
from structure.codes import HELD_OUT_FILE, held_out
from structure.table import _digest, _load, build_table
from train_etl9g_model import ARCHITECTURE, CNNConfig

CLASSES = "あいう亜腕"
REFUSED = (InputError, FileNotFoundError)  # what ends a script with one line and exit code 2


@dataclass(frozen=True)
class Reader:
    """A file's place and whole content, the ways to damage it, and the function that reads it.

    read() gives what was read, to be compared with ==, after a look at whether it makes sense; None stands for a file
    that was refused. `checked`: whether a change of any byte has to be seen: by a checksum, or as every byte counts.
    """

    path: Path
    whole: tuple[bytes, ...]
    edits: tuple[Edit, ...]
    read: Callable[[], object]
    checked: bool = False

    def damaged(self, choices: bytes) -> tuple[bytes, bytes, Edit]:
        """A whole content, the same damaged as these bytes say, and the way in which it is."""
        recipe = Recipe(choices)
        whole, edit = recipe.pick(self.whole), recipe.pick(self.edits)
        return whole, edit(whole, recipe), edit

    def try_damaged(self, choices: bytes) -> bool:
        """Reads a damaged file; returns whether it was refused.

        Raises whatever error is neither InputError nor FileNotFoundError, and AssertionError if a damage that has to
        be seen is not.
        """
        whole, content, edit = self.damaged(choices)
        found = self.read_content(content)
        if found is not None and self.checked and edit is edit_bytes:
            assert found == self.read_content(whole), "read as if whole, but not the same"
        return found is None

    def read_content(self, content: bytes):
        self.path.write_bytes(content)
        try:
            return self.read()
        except REFUSED as error:
            assert str(error), "refused without a word"
            assert "\n" not in str(error), f"more than one line: {error}"
            return None


def raw_records(folder: Path) -> Reader:
    """A raw file of three records, of which those that are whole are taken."""
    random = np.random.default_rng(0)
    images = random.integers(0, 16, (3, IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    images[:, 30:90, 40:80] = 0
    records = new_records(images, 0, np.arange(3), b"KanjiVG stand-in 0/0")
    path, chunk = folder / "ETL9G_01", folder / "chunk.npz"

    def read():
        chunk.unlink(missing_ok=True)
        facts = preparing.make_chunk(path, chunk, skip_damaged=True)
        with np.load(chunk) as arrays:
            labels, sets = arrays["labels"].tolist(), arrays["sets"].tolist()
            assert arrays["images"].shape == (len(labels), CANVAS, CANVAS)
        assert len(labels) == len(sets) == facts["records"]
        assert all(0 <= label < 3036 for label in labels)
        return facts | {"labels": labels, "sets": sets}

    return Reader(path, (records.tobytes(),), (edit_bytes,), read)


def small_dataset(folder: Path) -> dict[str, bytes]:
    """The files of a prepared dataset of three classes and three sets, one sample of each class in each."""
    classes = CLASSES[:3]
    images = np.random.default_rng(0).integers(0, 256, (9, CANVAS, CANVAS), np.uint8)
    images[:, 8:] = 0  # small where it is compressed, and most damage hits something else
    source = {"file": "ETL9G_01", "sha256": "hash", "records": 9, "damaged": 0, "out_of_order": 0, "contract": 1}
    labels, sets = np.tile(np.arange(3, dtype=np.int16), 3), np.repeat(np.arange(3, dtype=np.int16), 3)
    chunk = io.BytesIO()
    np.savez(chunk, images=images, labels=labels, sets=sets, source=np.array(json.dumps(source)))
    rows = [{"label": i, "character": c, "code_point": f"U+{ord(c):04X}"} for i, c in enumerate(classes)]
    metadata = {
        "source": "test shapes",
        "samples": 9,
        "classes": 3,
        "splits": {"train": [0], "validation": [1], "test": [2]},
        "files": [{"file": "ETL9G_01", "sha256": "hash", "records": 9}],
    }
    return {
        MAPPING_FILE: json.dumps({"classes": rows}).encode(),
        METADATA_FILE: json.dumps(metadata).encode(),
        CHUNK_NAME.format(1): chunk.getvalue(),
    }


def read_dataset(folder: Path) -> tuple:
    dataset = PreparedDataset(folder)
    assert len(set(dataset.classes)) == len(dataset.classes)
    assert all(0 <= label < len(dataset.classes) for label in dataset.labels)
    positions = [set(dataset.splits[name].positions.tolist()) for name in SPLITS]
    assert sum(map(len, positions)) == len(set().union(*positions)) == len(dataset.labels)
    assert dataset.images(np.arange(len(dataset.labels))).shape[1:] == (1, CANVAS, CANVAS)
    return dataset.classes, dataset.source, dataset.labels.tolist(), dataset.sets.tolist()


def dataset_file(name: str, *edits: Edit, checked: bool = False) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        files = small_dataset(folder)
        for other, content in files.items():
            (folder / other).write_bytes(content)
        return Reader(folder / name, (files[name],), edits, lambda: read_dataset(folder), checked)

    return make


def finished_chunk(folder: Path) -> Reader:
    """A chunk that an earlier call made, which is kept only if nothing in it has changed."""
    path = folder / CHUNK_NAME.format(1)

    def read():
        found = preparing.finished_chunk(path, "ETL9G_01", "hash")
        assert found is None or found["records"] == 9
        return found

    return Reader(path, (small_dataset(folder)[path.name],), (edit_bytes, edit_zip, edit_arrays), read, checked=True)


def tiny_file(path: Path, **facts) -> tuple[bytes, torch.nn.Module, dict]:
    """A CNN as narrow as one can be: the bytes of its model file, the model, and what the file says."""
    torch.manual_seed(0)
    config = CNNConfig(width=0.13, embedding=2)
    model = ARCHITECTURE.model(config, CLASSES).eval()
    told = {"script": "train_etl9g_model", "config": dataclasses.asdict(config), "classes": CLASSES, "source": "test"}
    told |= {"confidence": {"temperature": 1.5, "score": "lead", "threshold": 0.1}}
    told |= {"generator": "test", "metrics": {"validation_top1": 50.0}, "epoch": 1, "best": 50.0} | facts
    checkpoints.save(path, told | {"model": model.state_dict()})
    return path.read_bytes(), model, told


def read_model(path: Path, load: Callable = model_files.load_trained) -> list:
    model, facts = load(path)
    assert len(set(facts["classes"])) == len(facts["classes"]) > 0
    assert model(torch.zeros(1, 1, CANVAS, CANVAS)).shape == (1, len(facts["classes"]))
    confidence_of(facts.get("confidence"), path)
    tensors = [(name, value.numpy().tobytes()) for name, value in model.state_dict().items()]
    return [*tensors, json.dumps(facts, default=repr)]


def float_checkpoint(folder: Path) -> Reader:
    path = folder / "model.pth"
    return Reader(
        path, (tiny_file(path)[0],), (edit_bytes, edit_zip, edit_checkpoint), lambda: read_model(path), checked=True
    )


def int8_checkpoint(folder: Path) -> Reader:
    path = folder / "model.pth"
    _, model, facts = tiny_file(path)
    network = prepare(model)
    calibrate(network, [torch.rand(4, 1, CANVAS, CANVAS)])
    save_quantized(path, convert(network), facts, {"how": "calibration", "images": 4})

    def read():
        return read_model(path, load_quantized)

    return Reader(path, (path.read_bytes(),), (edit_bytes, edit_zip, edit_checkpoint), read, checked=True)


def resumed_checkpoint(folder: Path) -> Reader:
    """A checkpoint that a run goes on from."""
    for name, content in small_dataset(folder).items():
        (folder / name).write_bytes(content)
    config = CNNConfig(
        width=0.13, embedding=2, batch_size=2, epochs=2, data_dir=str(folder), model_dir=str(folder), ema_decay=0.9
    )
    run = Run(ARCHITECTURE, config, PreparedDataset(folder))
    run.train_step(run.rows[:2])
    run.step = 1
    path = run.save()

    def read():
        run.restore(path, checkpoints.load(path))
        assert 0 <= run.epoch <= 2
        assert 0 <= run.step <= run.steps_per_epoch
        run.train_step(run.rows[:2])
        return [run.epoch, run.step, run.best]

    return Reader(path, (path.read_bytes(),), (edit_bytes, edit_zip, edit_checkpoint), read, checked=True)


def safetensors_file(folder: Path) -> Reader:
    path = folder / "model.safetensors"
    _, model, facts = tiny_file(folder / "model.pth")
    safetensors_file.write(model, facts, path, folder / "model.pth")
    return Reader(path, (path.read_bytes(),), (edit_bytes, edit_safetensors), lambda: read_model(path))


def onnx_model(by: np.ndarray, classes: str = CLASSES) -> onnx.ModelProto:
    """A model of a few bytes: the mean ink of each row of the picture times a matrix (64, classes)."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input_image", "across"], ["rows"], keepdims=0),
            helper.make_node("MatMul", ["rows", "by"], ["logits"]),
        ],
        "rows",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["n", 1, CANVAS, CANVAS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(classes)])],
        [numpy_helper.from_array(by, "by"), numpy_helper.from_array(np.array([1, 3]), "across")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    confidence = {"temperature": 1.5, "score": "lead", "threshold": 0.1}
    told = {
        "classes": classes,
        "config": json.dumps({"split": "writer", "seed": 0}),
        "confidence": json.dumps(confidence),
    }
    helper.set_model_props(model, told)
    return model


def onnx_file(folder: Path) -> Reader:
    path = folder / "model.onnx"
    whole = onnx_model(np.random.default_rng(0).normal(size=(CANVAS, len(CLASSES))).astype(np.float32))

    def read():
        model = load_model(path)
        logits = model.logits(np.full((2, 1, CANVAS, CANVAS), 0.5, np.float32))
        assert logits.shape == (2, len(model.classes))
        assert np.isfinite(logits).all()
        assert np.allclose(model.confidence.probabilities(logits).sum(axis=1), 1)
        return model.classes, logits.tobytes(), model.confidence

    return Reader(path, (whole.SerializeToString(),), (edit_bytes, edit_onnx), read)


def pictures() -> list[bytes]:
    """The same drawing in every format and kind of pixel that is read."""
    drawing = Image.new("L", (40, 30), 255)
    ImageDraw.Draw(drawing).line((5, 15, 35, 12), fill=0, width=3)
    kinds = [("PNG", m) for m in ("L", "RGBA", "P", "1", "LA", "RGB", "I;16")]
    kinds += [
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("BMP", "P"),
        ("WEBP", "RGBA"),
        ("PPM", "L"),
    ]
    kinds += [("TIFF", m) for m in ("L", "F", "I;16", "RGBA", "1", "CMYK", "YCbCr")]
    found = []
    for format, mode in kinds:
        exif, written = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6
        picture = (
            Image.fromarray(np.asarray(drawing).astype(np.uint16) * 200) if mode == "I;16" else drawing.convert(mode)
        )
        options = {"compression": "tiff_lzw"} if (format, mode) == ("TIFF", "L") else {}
        picture.save(written, format, **({"exif": exif} if format in {"PNG", "JPEG", "TIFF"} else {}), **options)
        found.append(written.getvalue())
    return found


def picture_file(folder: Path) -> Reader:
    path = folder / "picture"

    def read():
        grey = read_grey(path)
        assert grey.dtype == np.float32
        assert 0 <= grey.min() <= grey.max() <= 255
        assert max(grey.shape) <= 1024
        image = normalize(grey)
        assert np.isfinite(image).all()
        return image.tobytes()

    return Reader(path, tuple(pictures()), (edit_bytes,), read)


def png_file(folder: Path) -> Reader:
    return dataclasses.replace(picture_file(folder), whole=tuple(pictures()[:7]), edits=(edit_png,))


def held_out_list(folder: Path) -> Reader:
    """A list of held-out classes, where it lies beside structure_codes.py."""
    published = Path(structure_codes.__file__).with_name(HELD_OUT_FILE.format(500)).read_bytes()
    classes = prepare_dataset.etl9g_classes()

    def read():
        place, structure_codes.__file__ = structure_codes.__file__, str(folder / "structure_codes.py")
        try:
            found = held_out(500, classes)
        finally:
            structure_codes.__file__ = place
        assert len(found) == len(set(found)) == 500
        return found

    return Reader(folder / HELD_OUT_FILE.format(500), (published,), (edit_bytes,), read)


def structure_cache(folder: Path) -> Reader:
    characters, path = "語晴亜", folder / "cache.json"
    table = build_table(characters)
    trees = {char: str(node) for char, node in table.trees.items()}
    content = {
        "trees": trees,
        "shared_by": table.shared_by,
        "sha256": _digest(trees, table.shared_by),
    }

    def read():
        found = _load(path, characters)
        assert found is None or found == table
        return found

    return Reader(path, (json.dumps(content).encode(),), (edit_bytes, edit_json), read, checked=True)


def confusable_file(folder: Path) -> Reader:
    path = folder / confusable.FILE_NAME
    confusable.save(path, CLASSES, {"あ": {"い": 0.25}, "う": {"腕": 0.5}}, "test shapes")

    def read():
        found = confusable.load(path)
        assert all(isinstance(char, str) for char in found.looks_like([("い", 0.5), ("あ", 0.4)]))
        return found

    return Reader(path, (path.read_bytes(),), (edit_bytes, edit_json), read)


READERS: dict[str, Callable[[Path], Reader]] = {
    "held-out list": held_out_list,
    "structure cache": structure_cache,
    "confusable": confusable_file,
    "mapping": dataset_file(MAPPING_FILE, edit_bytes, edit_json),
    "metadata": dataset_file(METADATA_FILE, edit_bytes, edit_json),
    "chunk": dataset_file(CHUNK_NAME.format(1), edit_bytes, edit_zip, edit_arrays, checked=True),
    "finished chunk": finished_chunk,
    "picture": picture_file,
    "PNG": png_file,
    "ONNX": onnx_file,
    "checkpoint": float_checkpoint,
    "SafeTensors": safetensors_file,
    "INT8 checkpoint": int8_checkpoint,
    "resumed checkpoint": resumed_checkpoint,
    "raw records": raw_records,
}
