"""Files from strangers run nothing: pickles, names of scripts, arrays of objects, data outside a model's folder; and
bombs, small files that ask for much memory or time, are refused before they get it.
"""

import ast
import contextlib
import importlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from data import preparing
from engine import model_files, training
from files.command_line import InputError, run
from images.reading import read_grey
from inference.recognizer import Recognizer
from readers import onnx_model, tiny_file
from test_bad_input import within_memory, within_time
from tiny_models import TINY, save_float

SCRIPTS = Path(__file__).parents[1] / "scripts"
SOURCES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SCRIPTS.rglob("*.py"))}
TRAINING = [name for name in SOURCES if name.startswith("train_")]

# How each script is given a model file of PyTorch; {} is the file, [] a prepared dataset.
LOADING = {
    "convert_to_onnx": ["--model-path {}", "--model-path {} --any-image"],
    "convert_to_edge": ["executorch --model-path {}", "coreml --model-path {}"],
    "convert_to_safetensors": ["--model-path {}", "--model-path {} --folder made"],
    "convert_int8_pytorch_to_quantized_onnx": ["--model-path {} --data-dir []"],
    "quantize_model": ["--model-path {} --data-dir []"],
    "evaluate": ["--model {} --data-dir []"],
    "calibrate_confidence": ["--model {} --data-dir []"],
    "zero_shot": ["--model {} --data-dir []"],
    "train_qat": ["--data-dir [] --model-path {}"],
    **{
        name: [f"--data-dir [] {flag} {{}} {' '.join(f'--{k} {v}' for k, v in TINY[name].items())}" for flag in flags]
        for name in TRAINING
        if name != "train_qat"
        for flags in [("--init-from", "--resume-from")]
    },
}
CALLS = [(name, arguments) for name, calls in LOADING.items() for arguments in calls]
# These load the model files that the scripts above made, are loaded by those, or take ONNX files alone.
THROUGH_OTHERS = {
    "compare_architectures",
    "quantization",
    "training",
    "checkpoints",
    "compare_alternatives",
    "watched_training",
}


class Evil:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(content: dict, change: Callable[[dict[str, bytes]], dict[str, bytes]], method=zipfile.ZIP_STORED) -> bytes:
    """A checkpoint with other records, its checksums right."""
    written, made = io.BytesIO(), io.BytesIO()
    torch.save(content, written)
    with zipfile.ZipFile(written) as old:
        records = change({info.filename: old.read(info) for info in old.infolist()})
    with zipfile.ZipFile(made, "w", method) as new:
        for name, record in records.items():
            new.writestr(name, record)
    return made.getvalue()


def saved(content: dict, **options) -> bytes:
    written = io.BytesIO()
    torch.save(content, written, **options)
    return written.getvalue()


def malicious(content: dict, canary: Path) -> dict[str, bytes]:
    """Model files that make the file `canary` when they are unpickled without care."""
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    evil = Evil(os.system, command)
    tensor = torch.zeros(2)
    tensor.evil = evil
    weights = content["model"]
    first = next(iter(weights))
    return {
        "os.system": saved(content | {"config": {"evil": evil}}),
        "eval": saved(content | {"config": {"evil": Evil(eval, code)}}),
        "exec": saved(content | {"source": Evil(exec, code)}),
        "subprocess": saved(content | {"metrics": [Evil(subprocess.call, ["touch", str(canary)])]}),
        "in a tensor's state": saved(content | {"model": weights | {first: tensor}}),
        "as a key": saved(content | {"model": {**weights, "evil": evil}}),
        "instead of all": saved(evil),
        "older format": saved(content | {"config": {"evil": evil}}, _use_new_zipfile_serialization=False),
        "plain pickle": pickle.dumps(content | {"config": {"evil": evil}}, protocol=2),
        "plain pickle 4": pickle.dumps({"evil": evil}, protocol=4),
        "extra pickle": archive(content, lambda r: r | {next(iter(r)).split("/")[0] + "/evil.pkl": pickle.dumps(evil)}),
        "another data.pkl": archive(content, lambda r: {"evil/data.pkl": pickle.dumps(evil, protocol=2)} | r),
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("malicious")


@pytest.fixture(scope="module")
def files(place) -> dict[str, Path]:
    """A file of each malicious kind."""
    content = torch.load(save_float("train_etl9g_model", place / "whole.pth"), weights_only=True)
    found = {}
    for kind, data in malicious(content, place / "canary").items():
        found[kind] = place / f"{kind.replace(' ', '_')}.pth"
        found[kind].write_bytes(data)
    return found


@pytest.fixture(scope="module")
def dataset(tiny_dataset) -> Path:
    return tiny_dataset()


def test_the_files_are_malicious(files, place):
    """Without care each of them runs its command: otherwise the tests below would show nothing."""
    for kind, path in files.items():
        if kind == "extra pickle":
            with zipfile.ZipFile(path) as content:
                pickle.loads(content.read(content.namelist()[-1]))
        elif kind == "plain pickle 4":
            pickle.loads(path.read_bytes())
        elif kind == "another data.pkl":
            with zipfile.ZipFile(path) as content:
                pickle.loads(content.read("evil/data.pkl"))
        else:
            with contextlib.suppress(RuntimeError, KeyError):  # of torch, once it has run
                torch.load(path, weights_only=False)
        assert (place / "canary").exists(), kind
        (place / "canary").unlink()


def call(name: str, arguments: list[str], monkeypatch) -> int:
    """Runs a script's main in this process; returns its exit code."""
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    monkeypatch.setattr(training.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        run(module.main) if hasattr(module, "main") else training.train(module.ARCHITECTURE)
    return ended.value.code


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[" ".join(c).split(" --data-dir")[0] for c in CALLS])
def test_no_script_runs_what_is_in_a_model_file(name, arguments, files, place, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for kind, path in files.items():
        words = [str(path) if word == "{}" else str(dataset) if word == "[]" else word for word in arguments.split()]
        assert call(name, words, monkeypatch) == 2, kind
        assert not (place / "canary").exists(), kind
        told = capsys.readouterr().err
        assert told.startswith("error: "), kind
        assert told.count("\n") == 1, told
        assert path.name in told or (
            name == "convert_to_edge" and "pip install" in told
        )  # packages it has no need of here


def test_a_malicious_checkpoint_in_the_folder_of_a_run(files, place, dataset, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoint_epoch_001.pt").write_bytes(files["os.system"].read_bytes())
    arguments = ["--data-dir", str(dataset), "--checkpoint-dir", str(tmp_path), "--model-dir", str(tmp_path)]
    resume = ["--resume-from", str(tmp_path / "checkpoint_epoch_001.pt")]
    for more, told in (
        ([], "holds an earlier run"),
        (["--resume-from", "auto"], "is not a checkpoint of this toolkit"),
        (resume, "is not a checkpoint of this toolkit"),
        (["--overwrite", "--init-from", resume[1]], "is not a checkpoint of this toolkit"),
    ):
        assert call("train_etl9g_model", [*arguments, *more], monkeypatch) == 2
        assert told in capsys.readouterr().err
    assert not (place / "canary").exists()


def calls_of(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_the_scripts_above_are_all_that_load_model_files():
    loading = {"load_trained", "load_float", "load_quantized", "checkpoints.load", "start_from", "load_model"}
    loading |= {"checkpoints.load_trained", "checkpoints.start_from", "train"}
    found = {name for name, tree in SOURCES.items() if calls_of(tree) & loading}
    assert found - THROUGH_OTHERS == set(LOADING)


def test_files_are_loaded_without_pickle_everywhere():
    for name, tree in SOURCES.items():
        called = calls_of(tree)
        assert not called & {"eval", "exec", "compile", "pickle.load", "pickle.loads", "__import__", "marshal.loads"}, (
            name
        )
        assert "torch.load" not in called or name in {"checkpoints", "processes"}  # of what the first process sends
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}["weights_only"] == "True"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", name
            if isinstance(node, ast.keyword) and node.arg == "shell":
                assert ast.unparse(node.value) == "False", name


NAMES = ["os", "training", "train_", "../evil", "train_../x", "train_/x", "train_x.y", "train_vit.py", "train_vit\n"]
NAMES += ["train_etl9g_model/../train_vit", "rnn.radical_reader", "TRAIN_VIT", "train_漢", "train_x", ""]


@pytest.mark.parametrize("script", NAMES)
def test_a_script_name_imports_nothing_but_training_scripts(script, tmp_path, monkeypatch):
    """train_x.py lies in the current folder, and that is where Python looks first."""
    (tmp_path / "train_x.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    tiny_file(tmp_path / "model.pth", script=script)
    before = set(sys.modules)
    with pytest.raises(InputError, match="not one of this toolkit's"):
        model_files.load_trained(tmp_path / "model.pth")
    assert set(sys.modules) == before
    assert not (tmp_path / "canary").exists()


def test_a_script_of_the_current_folder_does_not_take_the_place_of_the_toolkits(tmp_path):
    (tmp_path / "train_etl9g_model.py").write_text("open('canary', 'w').close()")
    tiny_file(tmp_path / "model.pth")
    code = f"import sys; sys.path.append({str(SCRIPTS)!r}); import checkpoints, command_line, pathlib; "
    code += "command_line.run(lambda: checkpoints.load_trained(pathlib.Path('model.pth')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "another train_etl9g_model.py than this toolkit's comes first" in done.stderr
    assert not (tmp_path / "canary").exists()


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    evil = np.array([Evil(os.system, f"touch {tmp_path / 'canary'}")], object)
    arrays = {"images": np.zeros((1, 64, 64), np.uint8), "labels": np.zeros(1, np.int16), "sets": np.zeros(1, np.int16)}
    for name in ("source", *arrays):
        np.savez(tmp_path / "chunk.npz", **{"source": np.array("{}"), **arrays, name: evil})
        assert preparing.finished_chunk(tmp_path / "chunk.npz", "ETL9G_01", "hash") is None
    assert not (tmp_path / "canary").exists()


def with_outside_data(location: str) -> bytes:
    """An ONNX model whose matrix lies in another file."""
    model = onnx_model(np.zeros((64, 5), np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "1280"}.items():
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


@pytest.mark.parametrize("kind", ["../secret", "absolute", "link", "folder/../../secret", "/etc/passwd"])
def test_onnx_reads_no_file_outside_its_folder(kind, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(np.ones(320, np.float32).tobytes())
    (folder / "link").symlink_to("../secret")
    path = folder / "model.onnx"
    path.write_bytes(with_outside_data(str(tmp_path / "secret") if kind == "absolute" else kind))
    with pytest.raises(InputError, match="is not an ONNX model"):
        Recognizer(path)
    for name, arguments in {"convert_to_onnx": ["--any-image", "--model-path"], "evaluate": ["--model"]}.items():
        assert call(name, [*arguments, str(path)], monkeypatch) == 2
        assert "is not an ONNX model" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "{" * 20_000_000, '{"a": 1, "a": 2}', "[1]", "\0"])
def test_json_bombs_in_metadata(text, tmp_path):
    model = onnx_model(np.zeros((64, 5), np.float32))
    helper.set_model_props(model, {"classes": "あいう亜腕", "config": text})
    onnx.save(model, tmp_path / "model.onnx")
    evaluate = importlib.import_module("evaluate")
    with within_memory(), within_time(), pytest.raises(InputError, match=r"config is damaged|is not an ONNX model"):
        evaluate.load_model(tmp_path / "model.onnx")
    header = json.dumps({"__metadata__": {"script": '"train_vit"', "classes": '"あ"', "config": text}}).encode()
    for length in (len(header), 2**62):
        (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + header)
        with within_memory(), within_time(), pytest.raises(InputError, match=r"model.safetensors"):
            model_files.load_trained(tmp_path / "model.safetensors")


def test_a_header_of_ninety_megabytes(tmp_path):
    """Its lists would take 2 GB."""
    facts = {"script": '"train_vit"', "config": "{}", "classes": '"あ"'}
    facts |= {str(number): "[" + "[]," * 4_900_000 + "[]]" for number in range(6)}
    header = json.dumps({"__metadata__": facts}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with within_memory(), within_time(), pytest.raises(InputError, match="is not a SafeTensors file"):
        model_files.load_trained(tmp_path / "model.safetensors")


def deflated_zeros(content: dict) -> bytes:
    """A checkpoint of 1 MB that unpacks to 1.2 GB."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(content | {"model": {"w": torch.zeros(64)}}))) as old:
        records = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new:
        for name, record in records.items():
            with new.open(name, "w") as file:
                for _ in range(1200 if name.endswith("data/0") else 0):
                    file.write(bytes(1_000_000))
                numel = b"J" + (300_000_000).to_bytes(4, "little")
                file.write(b"" if name.endswith("data/0") else record.replace(b"K@", numel))
    return written.getvalue()


def calling(function, *arguments) -> Callable[[dict], bytes]:
    return lambda content: saved(content | {"config": {"a": Evil(function, *arguments)}})


def nested(content: dict, levels: int = 8, entries: int = 100) -> bytes:
    """A dict of a hundred times the same dict of a hundred times the same dict: written out, 10^16 entries."""
    inner: dict | int = 0
    for _ in range(levels):
        inner = {str(i): inner for i in range(entries)}
    return saved(content | {"config": inner})


BOMBS = {
    "deflated": deflated_zeros,
    "bytearray": calling(bytearray, 10**10),
    "nested": nested,
    "nested wide": lambda content: nested(content, 3, 3000),
    "wide": lambda content: saved(content | {"config": content["config"] | {"width": 1e5}}),
    "wider": lambda content: saved(content | {"config": content["config"] | {"width": 1e300}}),
    "embedding": lambda content: saved(content | {"config": content["config"] | {"embedding": 2**40}}),
    "embedding of 2 GB": lambda content: saved(content | {"config": content["config"] | {"embedding": 700_000}}),
    "classes": lambda content: saved(content | {"classes": "".join(map(chr, range(0x4E00, 0x9FFF)))}),
    "expanded": lambda content: saved(
        content | {"model": content["model"] | {"features.0.0.weight": torch.zeros(()).expand(10**6, 10**6)}}
    ),
    "deep": lambda content: saved(content | {"script": "train_vit", "config": {"depth": 10**9}}),
    "LSTM": lambda content: saved(content | {"script": "train_radical_rnn", "config": {"hidden": 8000}}),
    "prototypes": lambda content: saved(content | {"script": "train_hiercode", "config": {"dimensions": 10**6}}),
    "wide INT8": lambda content: saved(
        content | {"config": content["config"] | {"width": 20.0}, "quantization": {"how": "calibration"}}
    ),
    "opcodes": lambda content: archive(
        content,
        lambda records: {
            name: b"\x80\x02" + b"\x8f" * 10**8 if name.endswith("data.pkl") else r for name, r in records.items()
        },
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_model_files_that_ask_for_too_much(bomb, tmp_path):
    path = save_float("train_etl9g_model", tmp_path / "model.pth")
    content = torch.load(path, weights_only=True)
    path.write_bytes(BOMBS[bomb](content))
    del content
    with within_memory(), within_time(), pytest.raises(InputError, match=r"model\.pth"):
        model_files.load_trained(path)


def graph(nodes: list, initializers: list) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["n", 1, 64, 64])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "bomb", inputs, outputs, initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"classes": "あいう亜腕"})
    return model


def endless() -> onnx.ModelProto:
    """A loop of 2^40 turns."""
    passing = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "on"), ("x", "y"))]
    inputs = [("turn", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, [1])]
    outputs = [("on", TensorProto.BOOL, []), ("y", TensorProto.FLOAT, [1])]
    body = helper.make_graph(
        passing, "body", *([helper.make_tensor_value_info(*v) for v in vs] for vs in (inputs, outputs))
    )
    values = {"turns": np.array(2**40), "start": np.array(True), "zero": np.zeros(1, np.float32)}
    loop = helper.make_node("Loop", list(values), ["logits"], body=body)
    return graph([loop], [numpy_helper.from_array(value, name) for name, value in values.items()])


@pytest.mark.parametrize("numbers", [10**9, 10**14])
def test_an_onnx_model_that_fills_the_memory(numbers, tmp_path, capfd):
    shape = numpy_helper.from_array(np.array([numbers]), "shape")
    onnx.save(graph([helper.make_node("ConstantOfShape", ["shape"], ["logits"])], [shape]), tmp_path / "model.onnx")
    with within_memory(), within_time(), pytest.raises(InputError, match="is a damaged model"):
        Recognizer(tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


def test_an_onnx_model_that_never_ends(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("recognize.LONGEST_TRIAL", 0.5)
    onnx.save(endless(), tmp_path / "model.onnx")
    with within_time(), pytest.raises(InputError, match=r"is a damaged model.*terminate"):
        Recognizer(tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("by", "classes"),
    [
        (np.zeros((64, 4), np.float32), "あいう亜腕"),
        (np.full((64, 5), np.nan, np.float32), "あいう亜腕"),
        (np.zeros((64, 5), np.float32), "あいう亜あ"),
    ],
    ids=["fewer logits", "not numbers", "a class twice"],
)
def test_an_onnx_model_that_would_be_misread(by, classes, tmp_path):
    model = onnx_model(by)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    helper.set_model_props(model, {"classes": classes})
    if np.isnan(by).any():  # times nothing a number that is none is none too
        assert not np.isfinite(by * 0).any()
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="damaged"):
        Recognizer(tmp_path / "model.onnx")


def png(path: Path, width: int, height: int, depth: int, kind: int, samples: int) -> None:
    """A whole PNG of so many pixels, all 0, in a file of some kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(1)
    row = bytes(1 + width * samples * depth // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_a_picture_of_a_hundred_megapixels_is_refused(tmp_path):
    png(tmp_path / "huge.png", 10_000, 10_000, 8, 0, 1)
    with within_memory(), within_time(), pytest.raises(InputError, match="10000 x 10000 pixels: make it smaller"):
        read_grey(tmp_path / "huge.png")


@pytest.mark.parametrize(("depth", "kind", "samples"), [(8, 6, 4), (16, 0, 1), (8, 0, 1), (16, 6, 4)])
def test_a_large_picture_is_read_in_little_memory(depth, kind, samples, tmp_path):
    png(tmp_path / "large.png", 7000, 7000, depth, kind, samples)
    with within_memory(), within_time():
        assert read_grey(tmp_path / "large.png").shape == (1024, 1024)


def test_formats_that_start_programs_are_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "EPS"  # Pillow would read it with Ghostscript
    with pytest.raises(InputError, match="is not an image that can be read"):
        read_grey(tmp_path / "picture.png")


def test_values_that_are_no_numbers_are_no_picture(tmp_path):
    values = np.zeros((20, 20), np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "picture.tif")
    with pytest.raises(InputError, match="some of its values are no numbers"):
        read_grey(tmp_path / "picture.tif")


def test_a_file_whose_name_is_no_text_is_named_all_the_same(tmp_path):
    onnx.save(onnx_model(np.ones((64, 5), np.float32)), tmp_path / "model.onnx")
    picture = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Image.new("L", (30, 30), 255).save(tmp_path / "blank.png")
    try:
        (tmp_path / "blank.png").rename(os.fsdecode(picture))
    except OSError:
        pytest.skip("this file system takes only names that are text")
    command = [sys.executable, SCRIPTS / "recognize.py", picture, "--model", tmp_path / "model.onnx"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\udcff\\udcfe.png: nothing is drawn here" in done.stdout
