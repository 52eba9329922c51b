"""Files of others run nothing, and small files that ask for much memory are refused before they get it.

That no script calls pickle, eval or an unsafe torch.load is bandit's to see.
"""

import importlib
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

from engine import training
from files.command_line import InputError, run
from images.reading import read_grey
from inference.recognizer import Recognizer
from quantization.files import load_trained
from readers import onnx_model, tiny_file
from tiny_models import TINY

MOST_MEMORY = 1 << 29  # bytes more than before

# How each script is given a model file of PyTorch; {} is the file, [] a prepared dataset.
CALLS = [
    ("convert_to_onnx", "--model-path {}"),
    ("convert_to_onnx", "--model-path {} --any-image"),
    ("convert_to_safetensors", "--model-path {}"),
    ("convert_to_safetensors", "--model-path {} --folder made"),
    ("convert_int8_pytorch_to_quantized_onnx", "--model-path {} --data-dir []"),
    ("quantize_model", "--model-path {} --data-dir []"),
    ("evaluate", "--model {} --data-dir []"),
    ("calibrate_confidence", "--model {} --data-dir []"),
    ("add_classes", "--model {} --characters 明 --output more.pth"),
    ("train_qat", "--data-dir [] --model-path {}"),
]
for script in TINY:
    small = " ".join(f"--{name} {value}" for name, value in TINY[script].items())
    CALLS += [(script, f"--data-dir [] {flag} {{}} {small}") for flag in ("--init-from", "--resume-from")]


class Evil:
    """Unpickling this makes the file `canary`."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> list[Path]:
    """Model files that run a command when they are unpickled without care, and files that are none."""
    folder = tmp_path_factory.mktemp("bad")
    tiny_file(folder / "whole.pth")
    whole, evil = torch.load(folder / "whole.pth", weights_only=True), Evil(folder / "canary")
    torch.save(whole | {"config": {"evil": evil}}, folder / "config.pth")
    torch.save(whole | {"model": {evil: torch.zeros(1)}}, folder / "key.pth")
    torch.save({**whole, "source": evil}, folder / "older.pth", _use_new_zipfile_serialization=False)
    (folder / "plain.pth").write_bytes(pickle.dumps(whole | {"config": evil}, protocol=2))
    for name in ("config", "key", "older"):
        torch.load(folder / f"{name}.pth", weights_only=False)  # without care each runs its command
        (folder / "canary").unlink()
    content = (folder / "whole.pth").read_bytes()
    for name, part in {"empty": b"", "cut": content[: len(content) // 2], "png": b"\x89PNG\r\n\x1a\n" * 99}.items():
        (folder / f"{name}.pth").write_bytes(part)
    (folder / "whole.pth").unlink()
    return sorted(folder.iterdir())


def call(name: str, arguments: list[str], monkeypatch) -> int:
    """Runs a script's main in this process; returns its exit code."""
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run(module.main) if hasattr(module, "main") else training.train(module.ARCHITECTURE)
    return ended.value.code


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[" ".join(c).split(" --data-dir")[0] for c in CALLS])
def test_no_script_runs_what_is_in_a_model_file(
    name, arguments, bad_files, tiny_dataset, tmp_path, monkeypatch, capsys
):
    """Nor takes a file that is empty, cut off or of another kind: one line, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    dataset = tiny_dataset()
    for path in bad_files:
        words = [str(path) if word == "{}" else str(dataset) if word == "[]" else word for word in arguments.split()]
        assert call(name, words, monkeypatch) == 2, path
        assert not path.with_name("canary").exists(), path
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert path.name in line
        assert line.count("\n") == 1, line
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_script_of_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    """That is where Python looks first."""
    (tmp_path / "train_x.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    tiny_file(tmp_path / "model.pth", script="train_x")
    with pytest.raises(InputError, match="not one of this toolkit's"):
        load_trained(tmp_path / "model.pth")
    assert not (tmp_path / "canary").exists()


def safetensors_header(path: Path, length: int = 0, config: str = "{}", times: int = 1) -> None:
    facts = {"script": '"train_vit"', "classes": '"あ"', "config": config} | dict.fromkeys(
        map(str, range(times)), config
    )
    header = json.dumps({"__metadata__": facts}).encode()
    path.with_name("model.safetensors").write_bytes((length or len(header)).to_bytes(8, "little") + header)


def onnx_of_ten_gigabytes(path: Path) -> None:
    model = onnx_model(np.zeros((64, 5), np.float32))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["logits"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**10]), "shape"))
    onnx.save(model, path.with_name("model.onnx"))


BOMBS = {
    "a width": lambda path: tiny_file(path, config={"width": 1e5}),
    "a width beyond numbers": lambda path: tiny_file(path, config={"width": 1e300}),
    "an embedding": lambda path: tiny_file(path, config={"embedding": 700_000}),
    "a long header": lambda path: safetensors_header(path, length=2**62),
    "a deep header": lambda path: safetensors_header(path, config="[" * 100_000),
    "a large header": lambda path: safetensors_header(path, config="[" + "[]," * 4_900_000 + "[]]", times=6),
    "ONNX": onnx_of_ten_gigabytes,
    "a picture": lambda path: Image.new("1", (10_000, 10_000)).save(path.with_name("model.png")),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_files_that_ask_for_much_memory(bomb, tmp_path):
    BOMBS[bomb](tmp_path / "model.pth")
    (path,) = tmp_path.iterdir()
    measured = os.access("/proc/self/clear_refs", os.W_OK)  # elsewhere the system does not say how much was taken
    if measured:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS") if measured else 0
    with pytest.raises(InputError, match=path.name):
        {".png": read_grey, ".onnx": Recognizer}.get(path.suffix, load_trained)(path)
    assert not measured or memory("VmHWM") - before < MOST_MEMORY


def memory(kind: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM, the most since the reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind + ":"))


@pytest.mark.parametrize(
    ("columns", "value", "classes"), [(4, 0, "あいう亜腕"), (5, np.nan, "あいう亜腕"), (5, 0, "あいう亜あ")]
)
def test_an_onnx_model_that_would_be_misread(columns, value, classes, tmp_path):
    """Fewer logits than classes, logits that are no numbers, a class twice."""
    onnx.save(onnx_model(np.full((64, columns), value, np.float32), classes), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="damaged"):
        Recognizer(tmp_path / "model.onnx")


def test_pictures_that_start_programs_or_hold_no_numbers(tmp_path):
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n%%EOF\n")
    with Image.open(tmp_path / "eps.png") as picture:
        assert picture.format == "EPS"  # Pillow would read it with Ghostscript
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "nan.tif")
    for name in ("eps.png", "nan.tif"):
        with pytest.raises(InputError, match=name):
            read_grey(tmp_path / name)
