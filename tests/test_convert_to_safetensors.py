"""SafeTensors: read back bit for bit whatever the model holds, described in the header, as a file or a hub's folder."""

import json
import os
import re
import shutil
import stat
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import few_packages
from engine import checkpoints, model_files
from export import modeling, onnx_file, safetensors_file
from export.hub_folder import convert_to_folder
from export.onnx_file import ConversionError
from inference.recognizer import RELEASED
from quantization.files import load_trained
from script_runs import TRAININGS, run_script
from tiny_models import TINY, save_float, save_int8
from train_etl9g_model import CNN, CNNConfig

CLASSES = "あいう亜腕"
ROOT = Path(__file__).resolve().parents[1]


def saved(path: Path, **changes) -> Path:
    """A tiny CNN with random weights and running statistics, saved as training saves it."""
    torch.manual_seed(0)
    model = CNN(CNNConfig(width=0.25, embedding=16), CLASSES)
    model.train()
    for _ in range(3):
        model(torch.rand(16, 1, 64, 64))
    facts = {
        "script": "train_etl9g_model",
        "config": {"width": 0.25, "embedding": 16, "dropout": 0.0, "split": "writer", "data_dir": "/home/someone/data"},
        "classes": CLASSES,
        "source": "KanjiVG stand-in",
        "generator": "version 2",
        "metrics": {"epoch": 3, "validation_top1": 12.5, "images_per_second": 340.0},
        "epoch": 3,
    }
    checkpoints.save(path, facts | {"model": model.state_dict()} | changes)
    return path


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "best_kanji_model.pth")


def assert_same_logits(path: Path, original: Path) -> None:
    images = torch.rand(7, 1, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        assert load_trained(path)[0](images).equal(load_trained(original)[0](images))


def test_the_script_writes_a_file_that_is_read_back_as_the_same_model(tmp_path):
    original = saved(tmp_path / "best_kanji_model.pth")
    done = run_script("convert_to_safetensors", "--model-path", "best_kanji_model.pth", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"kanji_model\.safetensors: [\d,]+ bytes, \d+ tensors, 5 classes\n", done.stdout)
    output = tmp_path / "kanji_model.safetensors"
    assert_same_logits(output, original)
    assert not list(tmp_path.glob(".*"))  # nothing half-written stays
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~umask  # as readable as any other file


def test_the_header_holds_each_fact_as_json_and_no_folder_of_this_machine(model_path, tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_file.convert(model_path, path)
    content = path.read_bytes()  # read by hand: eight bytes of length, then the text
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    assert header.pop("format") == "pt"
    facts = {name: json.loads(text) for name, text in header.items()}
    assert (facts["classes"], facts["source"], facts["epoch"]) == (CLASSES, "KanjiVG stand-in", 3)
    assert facts["config"] == {"width": 0.25, "embedding": 16, "dropout": 0.0, "split": "writer"}
    assert facts["metrics"]["validation_top1"] == 12.5
    assert "64x64" in facts["contract"]
    safetensors_file.convert(model_path, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == content


def test_the_averaged_weights_are_the_ones_that_count(model_path, tmp_path):
    averaged = {name: value * 2 for name, value in checkpoints.load(model_path)["model"].items()}
    saved(tmp_path / "checkpoint_epoch_003.pt", ema=averaged, rng={"torch": torch.zeros(3)})
    safetensors_file.convert(tmp_path / "checkpoint_epoch_003.pt", tmp_path / "a.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert tensors.keys() == averaged.keys()
    assert all(tensors[name].equal(value) for name, value in averaged.items())


@pytest.mark.parametrize("script", TRAININGS)
def test_every_architecture(tmp_path, script):
    architecture = model_files.architecture_of(script, tmp_path)
    torch.manual_seed(0)
    model = architecture.model(architecture.config(), CLASSES).eval()
    facts = {"script": script, "config": vars(architecture.config()), "classes": CLASSES, "source": "test"}
    checkpoints.save(tmp_path / "model.pth", facts | {"metrics": {}, "model": model.state_dict()})
    safetensors_file.convert(tmp_path / "model.pth", tmp_path / "model.safetensors")
    assert_same_logits(tmp_path / "model.safetensors", tmp_path / "model.pth")


@pytest.mark.parametrize("damage", ["value", "missing", "logits"])
def test_a_file_that_is_not_read_back_the_same_gets_no_name(model_path, tmp_path, monkeypatch, damage):
    read, build, name = safetensors_file.load_safetensors, safetensors_file.build, "classify.1.bias"

    def damaged(path: Path) -> dict:
        content = read(path)
        if damage == "value":
            content["model"][name][0] += 1e-7
        elif damage == "missing":
            del content["model"][name]
        return content

    def changed(*arguments) -> nn.Module:
        model = build(*arguments)
        with torch.no_grad():
            model.classify[1].bias += 1e-5
        return model

    monkeypatch.setattr(safetensors_file, "load_safetensors", damaged)
    if damage == "logits":
        monkeypatch.setattr(safetensors_file, "build", changed)
    for convert, output in ((safetensors_file.convert, ["a.safetensors"]), (convert_to_folder, ["a", []])):
        with pytest.raises(ConversionError):
            convert(model_path, tmp_path / output[0], *output[1:])
        assert not list(tmp_path.iterdir())


def test_a_folder_for_a_hub(model_path, tmp_path):
    folder, exported = tmp_path / "hub" / "kanji", tmp_path / "a.onnx"
    onnx_file.convert(model_path, exported, None)
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("the hub's own")
    convert_to_folder(model_path, folder, [exported])
    names = {"model.safetensors", "config.json", "modeling.py", "a.onnx", "README.md", ".gitattributes"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == ["kanji"]
    assert_same_logits(folder / "model.safetensors", model_path)
    assert (folder / "a.onnx").read_bytes() == exported.read_bytes()
    settings, card = ((folder / name).read_text(encoding="utf-8") for name in ("config.json", "README.md"))
    assert (json.loads(settings)["classes"], json.loads(settings)["config"]["width"]) == (CLASSES, 0.25)
    assert "/home/someone" not in settings + card
    assert "- `a.onnx`: ONNX, for onnxruntime; takes normalised images.\n" in card


def example_of(folder: Path) -> str:
    """The code of a card."""
    return (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


KINDS = [*((script, {}) for script in TINY), ("train_vit", {"patch_size": 16})]


@pytest.mark.parametrize(("script", "changes"), KINDS, ids=str)
def test_the_folder_gives_the_logits_with_torch_and_safetensors_alone(script, changes, tmp_path, monkeypatch):
    monkeypatch.setitem(TINY, script, TINY[script] | changes)
    path, folder = save_float(script, tmp_path / "model.pth"), tmp_path / "hub"
    convert_to_folder(path, folder, [])
    images = torch.rand(5, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    torch.save(images, folder / "images.pt")
    code = """
import torch
from modeling import Model
torch.save(Model()(torch.load("images.pt")), "logits.pt")
"""
    done = few_packages.run_code(code + example_of(folder), "torch safetensors", folder)
    assert done.returncode == 0, done.stderr  # PyTorch warns that there is no numpy
    assert done.stdout.strip() in CLASSES
    with torch.no_grad():
        assert torch.load(folder / "logits.pt").equal(load_trained(path)[0](images))


def test_the_example_of_the_card_reads_a_picture(tmp_path):
    released, folder = RELEASED.parent / "released", tmp_path / "hub"
    any_image = released / f"{RELEASED.stem}_any_image.onnx"
    convert_to_folder(released / "hiercode_model_best.safetensors", folder, [any_image])
    shutil.copyfile(next((ROOT / "examples/drawings/U+62EC").iterdir()), folder / "picture.png")
    done = few_packages.run_code(example_of(folder), few_packages.READING, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("括 0.9")


def test_a_folder_whose_code_gives_other_logits_is_not_made(model_path, tmp_path, monkeypatch):
    monkeypatch.setitem(modeling.NETWORKS, "train_etl9g_model", lambda *given: modeling.cnn(*given) + 1e-6)
    with pytest.raises(ConversionError, match=r"modeling\.py gives other logits"):
        convert_to_folder(model_path, tmp_path / "hub", [])
    assert not list(tmp_path.iterdir())


STANDIN = ["license: cc-by-sa-3.0", "- KanjiVG-stand-in", "| validation_top1 | 12.5 |", "Ulrich Apel"]
REAL = ["license: mit", "- ETL9G", "ETL Character Database", "The file holds no figures."]


@pytest.mark.parametrize(
    ("changes", "lines", "others"),
    [({}, STANDIN, ["images_per_second", "AIST", "{"]), ({"source": "ETL9G", "metrics": {}}, REAL, ["KanjiVG", "{"])],
)
def test_the_card_says_what_the_model_was_trained_on(changes, lines, others, tmp_path):
    path = saved(tmp_path / "model.pth", **changes)
    convert_to_folder(path, tmp_path / "hub", [])
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    head = card.split("---\n")[1].splitlines()
    assert {"language: ja", "pipeline_tag: image-classification", "- kanji"} <= set(head)
    assert all(re.fullmatch(r"- \S+|\w+:( \S+)?", line) for line in head)
    numbers = sum(value.numel() for value in checkpoints.load(path)["model"].values())
    assert f"5 classes, {numbers:,} weights" in card
    assert not [line for line in lines if line not in card]
    assert not [word for word in others if word in card]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-path", "missing.pth"], "missing.pth is missing"),
        (["--model-path", "text.pth"], "is not a checkpoint"),
        (["--model-path", "another.pth"], "do not fit"),
        (["--model-path", "model.pth", "--folder", "text.pth"], "is a file"),
        (["--model-path", "model.pth", "--output", "model.bin"], ".safetensors"),
        (["--model-path", "model.pth", "--folder", "mine"], "README.md was not made by this script"),
        (["--model-path", "model.pth", "--output", "a.safetensors", "--folder", "a"], "not allowed with"),
        (["--model-path", "model.pth", "--onnx", "a.onnx"], "--onnx goes with --folder"),
        (["--model-path", "model.pth", "--folder", "a", "--onnx", "a.onnx"], "a.onnx is missing"),
        (["--model-path", "model.pth", "--folder", "a", "--onnx", RELEASED], "has other classes than model.pth"),
        (["--model-path", "model.pth", "--folder", "a", "--onnx", RELEASED, RELEASED], "have the same name"),
        (["--model-path", "int8.pth", "--folder", "a"], "int8.pth is quantised already: give a float model"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, arguments, message):
    (tmp_path / "text.pth").write_text("no model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    saved(tmp_path / "model.pth")
    saved(tmp_path / "another.pth", model={"weight": torch.ones(2)})
    save_int8("train_etl9g_model", tmp_path / "int8.pth")
    before = sorted(tmp_path.iterdir())
    result = run_script("convert_to_safetensors", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.iterdir()) == before
