"""SafeTensors: read back bit for bit whatever the model holds, told in the header, in a file or in a hub's folder."""

import json
import os
import re
import stat
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn

from engine import checkpoints, model_files
from export import hub_folder, safetensors_file
from export.onnx_file import ConversionError
from files.command_line import InputError
from quantization.files import load_trained
from script_runs import run_script
from train_etl9g_model import CNN, CNNConfig

SCRIPTS = Path(__file__).parents[1] / "scripts"
CLASSES = "あいう亜腕"
ARCHITECTURES = sorted(
    p.stem for p in SCRIPTS.glob("train_*.py") if re.search(r"^ARCHITECTURE = ", p.read_text(), re.M)
)


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


def header_of(path: Path) -> dict:
    """The JSON at the head of a SafeTensors file, read by hand: eight bytes of length, then the text."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def test_the_file_is_read_back_as_the_same_model(model_path):
    output = safetensors_file.default_output(model_path)
    told = safetensors_file.convert(model_path, output)
    assert output.name == "kanji_model.safetensors"
    assert "5 classes" in told
    (expected, _), (found, facts) = load_trained(model_path), load_trained(output)
    images = torch.rand(7, 1, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        assert found(images).equal(expected(images))
    assert (facts["script"], facts["classes"], facts["epoch"]) == ("train_etl9g_model", CLASSES, 3)
    assert facts["metrics"]["validation_top1"] == 12.5
    assert not list(output.parent.glob(".*"))  # nothing half-written stays
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(output.stat().st_mode) == 0o666 & ~umask  # as readable as any other file


def test_the_header_tells_each_fact_as_json(model_path, tmp_path):
    safetensors_file.convert(model_path, tmp_path / "a.safetensors")
    told = header_of(tmp_path / "a.safetensors")["__metadata__"]
    assert told["format"] == "pt"
    assert json.loads(told["classes"]) == CLASSES
    assert json.loads(told["source"]) == "KanjiVG stand-in"
    assert json.loads(told["config"]) == {"width": 0.25, "embedding": 16, "dropout": 0.0, "split": "writer"}
    assert "64x64" in json.loads(told["contract"])


def test_how_a_model_was_quantised_is_told_for_it_decides_how_it_is_built():
    facts = {"config": {"width": 1, "resume_from": "a.pt"}, "quantization": {"bits": 8}, "generator": None, "rng": {}}
    told = safetensors_file.published_facts(facts)
    assert told.keys() == {"config", "quantization", "contract"}
    assert (told["config"], told["quantization"]) == ({"width": 1}, {"bits": 8})


def test_the_averaged_weights_are_the_ones_that_count(model_path, tmp_path):
    averaged = {name: value * 2 for name, value in checkpoints.load(model_path)["model"].items()}
    saved(tmp_path / "checkpoint_epoch_003.pt", ema=averaged, rng={"torch": torch.zeros(3)})
    safetensors_file.convert(tmp_path / "checkpoint_epoch_003.pt", tmp_path / "a.safetensors")
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert found.keys() == averaged.keys()
    assert all(found[name].equal(value) for name, value in averaged.items())


class Awkward(nn.Module):
    """Tied and transposed weights, channels last, buffers of every kind, an empty one and a scalar."""

    def __init__(self, _config, classes: str):
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, len(classes))
        self.head.weight = nn.Parameter(torch.rand(4, len(classes)).t())
        self.register_buffer("part", self.first.weight.detach()[:2])  # shares the weight's memory
        self.register_buffer("table", torch.arange(6).reshape(2, 3).t())
        self.register_buffer("bytes", torch.tensor([-128, 127], dtype=torch.int8))
        self.register_buffer("chosen", torch.tensor([True, False, True]))
        self.register_buffer("short", torch.rand(3).to(torch.bfloat16))
        self.register_buffer("nothing", torch.zeros(0, 5))
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(self.convolution(images).mean((2, 3)))).relu()) + self.table.sum()


def test_whatever_a_model_holds(tmp_path, monkeypatch):
    awkward = SimpleNamespace(name="awkward", config=CNNConfig, model=Awkward)
    monkeypatch.setattr(model_files, "architecture_of", lambda script, path: awkward)
    model = Awkward(None, CLASSES)
    saved(tmp_path / "awkward.pth", model=model.state_dict())
    safetensors_file.convert(tmp_path / "awkward.pth", tmp_path / "awkward.safetensors")
    found = safetensors.torch.load_file(tmp_path / "awkward.safetensors")
    assert found.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert found[name].dtype == value.dtype, name
        assert found[name].equal(value), name


@pytest.mark.parametrize("script", ARCHITECTURES)
def test_every_architecture(tmp_path, script):
    architecture = model_files.architecture_of(script, tmp_path)
    torch.manual_seed(0)
    model = architecture.model(architecture.config(), CLASSES).eval()
    facts = {"script": script, "config": vars(architecture.config()), "classes": CLASSES, "source": "test"}
    checkpoints.save(tmp_path / "model.pth", facts | {"metrics": {}, "model": model.state_dict()})
    safetensors_file.convert(tmp_path / "model.pth", tmp_path / "model.safetensors")
    found, _ = load_trained(tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert found(images).equal(model(images))


@pytest.mark.parametrize("damaged", ["value", "dtype", "missing", "logits"])
def test_a_file_that_is_not_read_back_the_same_gets_no_name(model_path, tmp_path, monkeypatch, damaged):
    read = model_files.load_safetensors

    def otherwise(path: Path) -> dict:
        content = read(path)
        weights = content["model"]
        if damaged == "value":
            weights["classify.1.bias"][0] += 1e-7
        elif damaged == "dtype":
            weights["classify.1.bias"] = weights["classify.1.bias"].double()
        elif damaged == "missing":
            del weights["classify.1.bias"]
        return content

    def changed(content: dict, path: Path, integer) -> nn.Module:
        model = model_files.build(content, path, integer)
        with torch.no_grad():
            model.classify[1].bias += 1e-5
        return model

    monkeypatch.setattr(safetensors_file, "load_safetensors", otherwise)
    if damaged == "logits":
        monkeypatch.setattr(safetensors_file, "build", changed)
    for convert, name in ((safetensors_file.convert, "a.safetensors"), (hub_folder.convert_to_folder, "a")):
        with pytest.raises(ConversionError):
            convert(model_path, tmp_path / name)
        assert not list(tmp_path.iterdir())


def front_matter(card: str) -> dict:
    """The YAML of a model card, as far as it goes here: names with a value or a list of values."""
    _, yaml, _ = card.split("---\n", 2)
    fields, name = {}, ""
    for line in yaml.splitlines():
        if line.startswith("- "):
            fields[name].append(line[2:])
        else:
            name, value = re.fullmatch(r"(\w+):(?: (\S+))?", line).groups()
            fields[name] = value or []
    return fields


def test_a_folder_for_a_hub(model_path, tmp_path):
    folder = tmp_path / "hub" / "kanji"
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("the hub's own")
    hub_folder.convert_to_folder(model_path, folder)
    names = {"model.safetensors", "config.json", "README.md", ".gitattributes"}
    assert {path.name for path in folder.iterdir()} == names
    assert [path.name for path in folder.parent.iterdir()] == ["kanji"]
    model, facts = load_trained(folder / "model.safetensors")
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert model(images).equal(load_trained(model_path)[0](images))
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert settings["classes"] == facts["classes"] == CLASSES
    assert settings["config"]["width"] == 0.25
    assert "/home/someone" not in "".join((folder / name).read_text("utf-8") for name in ("config.json", "README.md"))


def test_the_card_of_a_model_of_the_stand_in(model_path, tmp_path):
    hub_folder.convert_to_folder(model_path, tmp_path / "kanji")
    card = (tmp_path / "kanji" / "README.md").read_text(encoding="utf-8")
    fields = front_matter(card)
    assert (fields["license"], fields["pipeline_tag"]) == ("cc-by-sa-3.0", "image-classification")
    assert fields["datasets"] == ["KanjiVG-stand-in"]
    assert "kanji" in fields["tags"]
    weights = checkpoints.load(model_path)["model"]
    assert f"5 classes, {sum(value.numel() for value in weights.values()):,} weights" in card
    assert "| validation_top1 | 12.5 |" in card
    assert "images_per_second" not in card
    assert "CC BY-SA 3.0" in card
    assert "Ulrich Apel" in card


def test_the_card_of_a_model_of_real_handwriting(tmp_path):
    saved(tmp_path / "real.pth", source="ETL9G", metrics={})
    hub_folder.convert_to_folder(tmp_path / "real.pth", tmp_path / "real")
    card = (tmp_path / "real" / "README.md").read_text(encoding="utf-8")
    assert (front_matter(card)["license"], front_matter(card)["datasets"]) == ("mit", ["ETL9G"])
    assert "KanjiVG" not in card
    assert "ETL Character" in card
    assert "The file holds no figures." in card


def test_the_script_writes_beside_the_model(tmp_path):
    saved(tmp_path / "best_kanji_model.pth")
    done = run_script("convert_to_safetensors", "--model-path", "best_kanji_model.pth", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kanji_model.safetensors: ")
    assert (tmp_path / "kanji_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-path", "missing.pth"], "missing.pth is missing"),
        (["--model-path", "text.pth"], "is not a checkpoint"),
        (["--model-path", "text.safetensors"], "is not a SafeTensors file"),
        (["--model-path", "another.pth"], "do not fit"),
        (["--model-path", "model.pth", "--folder", "text.pth"], "is a file"),
        (["--model-path", "model.pth", "--output", "model.bin"], ".safetensors"),
        (["--model-path", "model.pth", "--folder", "mine"], "README.md was not made by this script"),
        (["--model-path", "model.pth", "--output", "a.safetensors", "--folder", "a"], "not allowed with"),
    ],
)
def test_wrong_calls_end_with_one_line(model_path, tmp_path, arguments, message):
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/README.md").write_text("mine")
    saved(tmp_path / "model.pth")
    saved(tmp_path / "another.pth", model={"weight": torch.ones(2)})
    before = sorted(tmp_path.iterdir())
    result = run_script("convert_to_safetensors", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_tensor_that_has_no_place_in_the_file_is_named(tmp_path):
    model = nn.Module()
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(InputError, match="sparse"):
        safetensors_file._dense_tensors(model, tmp_path / "a.pth")
