"""adapt.py: a narrow model learns a hand, labelled or not, and neither forgets, guesses nor replaces."""

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import adapt
from engine import adaptation, checkpoints, devices
from engine.adaptation import Samples, learn, sure_of, varied
from engine.batches import to_input
from engine.model_files import architecture_of
from evaluation import adapted
from evaluation.calibration import store
from evaluation.model import load_model
from export import onnx_file
from export.hub_folder import convert_to_folder
from in_process import exit_code
from optimization_config import restored
from quantization.making import quantize
from test_prepare_images import drawing
from tiny_models import CLASSES, TINY, save_float, save_int8, tiny_model


def shapes(folder: Path, characters: str, count: int, first: int = 0) -> Path:
    """Pictures of made-up shapes, in a folder for each character that they stand for."""
    for char in characters:
        (folder / char).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            drawing(char, number).save(folder / char / f"{number}.png")
    return folder


@pytest.fixture
def call(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """A function: exit code, stdout and stderr of adapt.py, which writes tmp_path / "mine.pth"."""
    for name, value in (("REPLAYED", 1), ("CHOOSING", 4), ("TESTING", 1), ("TOLERATED", 100)):
        monkeypatch.setattr(adapted, name, value)
    for name, value in (("STEPS", 70), ("OWN", 16), ("REPLAYED", 8), ("LEARNING_RATE", 2e-3)):
        monkeypatch.setattr(adaptation, name, value)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [str(w) for w in ("adapt.py", "--output", tmp_path / "mine.pth", *words)])
        return exit_code(adapt.main), *capsys.readouterr()

    return call


@pytest.mark.parametrize("script", TINY)
def test_every_architecture_learns_labelled_pictures(script, tmp_path, call, monkeypatch):
    monkeypatch.setattr(devices, "fast_bf16", lambda device: False)  # each processor rounds bf16 in its own way
    path, drawn = save_float(script, tmp_path / "model.pth"), shapes(tmp_path / "drawn", CLASSES, 10)
    shapes(drawn, "ア", 2)
    code, printed, error = call("--model", path, "--labels", drawn, "--accept-loss", 100)
    assert (code, error) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == f"{drawn}: left out, of characters outside the class list: 2 (ア 2)"
    assert lines[1] == "weights: 100% of the way from the old ones to the trained ones"
    gained = re.fullmatch(r"labelled pictures held out: (\S+) → (\S+) % of 10", lines[2])
    assert float(gained[1]) + 40 <= float(gained[2]), lines
    before, after = checkpoints.load(path), checkpoints.load(tmp_path / "mine.pth")
    assert after["source"].startswith("test shapes; adapted to 40 pictures and stand-in samples of KanjiVG, generator")
    assert {name: after[name] for name in ("script", "config", "classes")} == {
        name: before[name] for name in ("script", "config", "classes")
    }
    statistics = [name for name in before["model"] if "running" in name or "batches_tracked" in name]
    assert statistics or script == "train_vit"
    assert all(after["model"][name].equal(before["model"][name]) for name in statistics)


def test_the_result_is_a_model_file_like_any_other(tiny_dataset, tmp_path, call, monkeypatch):
    """Exported, quantised and adapted again; its confidence is its own, not that of the model before."""
    path, drawn = save_float("train_hiercode", tmp_path / "model.pth"), shapes(tmp_path / "drawn", CLASSES, 10)
    store(path, {"temperature": 0.123, "threshold": -1e6, "kept": 0.9})
    assert call("--model", path, "--labels", drawn, "--accept-loss", 100)[0] == 0
    mine = tmp_path / "mine.pth"
    confidence = checkpoints.load(mine).get("confidence")
    assert confidence["temperature"] != 0.123
    assert confidence["kept"] == 0.9
    onnx_file.convert(mine, tmp_path / "mine.onnx", None)
    assert "adapted to 40 pictures" in load_model(tmp_path / "mine.onnx").facts["source"]
    convert_to_folder(mine, tmp_path / "hub", [])
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "adapted to 40 pictures" in card
    assert "license: cc-by-sa-3.0" in card  # the stand-in's, whatever was trained on before
    quantize(mine, tiny_dataset(), tmp_path / "int8.pth", 20, None, None)
    shutil.copy(mine, tmp_path / "first.pth")
    monkeypatch.setattr(adaptation, "STEPS", 3)
    assert call("--model", tmp_path / "first.pth", "--labels", drawn, "--accept-loss", 100)[0] == 0  # replaces its own
    assert checkpoints.load(mine)["source"].count("adapted to") == 2


def test_what_is_sure_and_often_seen_is_learned():
    shares, known, images = np.full((6, 4), 0.02), np.ones(6, bool), torch.arange(6)
    shares[range(6), [0, 0, 1, 1, 2, 3]] = [0.94, 0.95, 0.96, 0.89, 0.94, 0.94]
    learned = sure_of(images, shares, known)
    assert (learned.images.tolist(), learned.labels.tolist()) == ([0, 1], [0, 0])  # one of a class is few
    shares[3, 1] = 0.9
    assert sure_of(images, shares, known).labels.tolist() == [0, 0, 1, 1]
    known[0] = False  # none of the classes
    assert sure_of(images, shares, known).images.tolist() == [2, 3]


def test_what_a_source_has_much_of_is_likelier_in_all_of_its_pictures():
    """The hiragana こ has more than half of the probability, and is one class of three."""
    shares = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.05, 0.9, 0.05], [0.0, 0.5, 0.5]])
    weighted = adapted.by_kinds(shares, "こ二三", np.array([True, True, True, False]))
    assert weighted[3].tolist() == [0, 0.5, 0.5]  # both are kanji
    mean = 1.65 / 3  # of こ in what is known
    assert weighted[2, 1] == pytest.approx(0.9 * (1 - mean) / 2 / (0.05 * mean + 0.95 * (1 - mean) / 2))
    assert weighted.sum(axis=1) == pytest.approx(1)
    assert adapted.by_kinds(shares, "こ二三", np.zeros(4, bool)) is shares


def test_copies_vary_by_the_seed_alone():
    images = torch.zeros(3, 1, 64, 64, dtype=torch.uint8)
    images[:, :, 20:24, 10:50] = 255
    first, again, other = (list(varied(images, seed)) for seed in (1, 1, 2))
    assert len(first) == adaptation.COPIES
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))
    assert not first[0].equal(other[0])
    assert not first[0].equal(first[1])
    assert all(0.5 < copied.float().mean() / images.float().mean() < 2 for copied in first)


def test_unlabelled_pictures_are_learned_by_what_they_are_read_as(tmp_path, call, monkeypatch):
    """Of a model that knows the shapes; pictures that have labels are learned by these alone."""
    path, drawn = save_float("train_hiercode", tmp_path / "model.pth"), shapes(tmp_path / "drawn", CLASSES, 10)
    assert call("--model", path, "--labels", drawn, "--accept-loss", 100)[0] == 0
    monkeypatch.setattr(adaptation, "STEPS", 3)
    knowing = (tmp_path / "mine.pth").rename(tmp_path / "knowing.pth")
    store(knowing, {"temperature": 0.05, "score": "lead", "threshold": 0.0})
    new = shapes(tmp_path / "new" / "anna", CLASSES, 6, first=20)
    Image.new("L", (40, 40), 255).save(new / "blank.png")
    seen = []
    monkeypatch.setattr(adapted, "learn", lambda *words: seen.append(words[3]) or learn(*words))
    code, printed, error = call("--model", knowing, "--images", tmp_path / "new", "--accept-loss", 100)
    assert code == 0, error
    assert "left out, without ink: 1 (anna/blank.png)" in printed
    sure = len(seen[-1].labels)
    assert f"sure of {sure} of 30 pictures, of {len(seen[-1].labels.unique())} characters" in printed
    assert 10 < sure <= 30
    read = load_model(knowing).logits(seen[-1].images.numpy().astype(np.float32) / 255).argmax(axis=1)
    assert seen[-1].labels.tolist() == read.tolist()
    labels = shapes(tmp_path / "new" / "labelled", CLASSES, 5, first=40)
    assert call("--model", knowing, "--images", tmp_path / "new", "--labels", labels, "--accept-loss", 100)[0] == 0
    assert len(seen[-1].labels) == sure + 20


def blots(count: int, classes: int = 5) -> Samples:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 1, 64, 64), generator=generator, dtype=torch.uint8)
    return Samples(images, torch.arange(count) % classes)


def test_learning_depends_on_the_seed_alone_and_leaves_the_model_as_it_is(monkeypatch):
    monkeypatch.setattr(adaptation, "STEPS", 3)
    model, facts = tiny_model("train_hiercode")
    architecture, before = architecture_of(facts["script"]), {k: v.clone() for k, v in model.state_dict().items()}
    first, again, other = (
        learn(model, architecture, restored(architecture.config, facts["config"]), blots(10), blots(20), seed)
        for seed in (1, 1, 2)
    )
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not all(value.equal(other[name]) for name, value in first.items())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_samples_by_made_up_writers_are_read_as_before(monkeypatch):
    """Whatever their labels say; the control learns from labels alone."""
    monkeypatch.setattr(adaptation, "STEPS", 30)
    monkeypatch.setattr(adaptation, "LEARNING_RATE", 2e-3)
    model, facts = tiny_model("train_hiercode")
    architecture, images, moved = architecture_of(facts["script"]), blots(20).images.flip(2), []
    replayed = Samples(images, torch.arange(20) % 3)
    with torch.no_grad():
        before = model(to_input(images)).softmax(1)
        for loss in (adaptation.distillation, lambda logits, _: 0 * logits.sum(1)):
            monkeypatch.setattr(adaptation, "distillation", loss)
            with torch.enable_grad():
                settings = restored(architecture.config, facts["config"])
                learned = learn(model, architecture, settings, blots(10), replayed, 0)
            changed = copy.deepcopy(model)
            changed.load_state_dict(learned)
            moved.append(float((changed(to_input(images)).softmax(1) - before).abs().sum(1).mean()))
    assert moved[0] < 0.8 * moved[1], moved


def test_classes_with_few_samples_are_shown_more_often_than_their_share(monkeypatch):
    monkeypatch.setattr(adaptation, "STEPS", 1000)
    labels = torch.tensor([0] * 90 + [1] * 10)
    rows = adaptation.rows_of_steps(Samples(torch.zeros(100), labels), 10, torch.Generator().manual_seed(0))
    assert len(rows) == 1000
    share = float((labels[torch.cat(rows)] == 1).double().mean())
    assert share == pytest.approx(10**0.5 / (10**0.5 + 90**0.5), abs=0.02)


def test_weights_that_are_not_finite_are_no_model(monkeypatch):
    model, facts = tiny_model("train_hiercode")
    architecture = architecture_of(facts["script"])
    monkeypatch.setattr(adaptation, "STEPS", 2)
    monkeypatch.setattr(adaptation, "LEARNING_RATE", float("inf"))
    with pytest.raises(FloatingPointError, match="the model was not adapted"):
        learn(model, architecture, restored(architecture.config, facts["config"]), blots(10), blots(10), 0)


def test_it_goes_only_as_far_as_made_up_writers_allow(monkeypatch):
    """Of a reader whose accuracy falls with what is learned; in the end not as far as that is certain."""
    monkeypatch.setattr(adapted, "TOLERATED", 0.1)
    network = nn.Linear(1, 1, bias=False)
    network.load_state_dict({"weight": torch.zeros(1, 1)})
    learned = {"weight": torch.ones(1, 1)}
    for fall, share in ((0.0, 1.0), (0.25, 0.35), (9.0, 0.25)):
        monkeypatch.setattr(adapted, "top1", lambda *_, fall=fall: 90 - fall * network.weight.item())
        network.load_state_dict({"weight": torch.zeros(1, 1)})
        assert adapted.go(network, None, learned, None) == share
        assert network.weight.item() == pytest.approx(share)


def test_a_fifth_of_the_labelled_pictures_is_held_out_copies_together():
    images = torch.from_numpy(np.stack([np.asarray(drawing("漢", n).resize((64, 64))) for n in range(11)]))[:, None]
    images = torch.cat([255 - images, 255 - images[:10], 255 - images[:4]])
    labels = torch.tensor([1] * 11 + [1] * 10 + [2] * 4)
    held = adapted.held_out(Samples(images, labels))
    assert held.nonzero().flatten().tolist() == [4, 9, 15, 20]  # of the second class there are too few


def test_a_model_that_forgets_is_not_written(tmp_path, call, monkeypatch):
    monkeypatch.setattr(adaptation, "STEPS", 3)
    path, drawn = save_float("train_etl9g_model", tmp_path / "model.pth"), shapes(tmp_path / "drawn", CLASSES, 2)
    figures = iter([50.0, 90.0, 91.0, 91.0, 60.0, 89.65])
    monkeypatch.setattr(adapted, "top1", lambda *_: next(figures))
    code, printed, error = call("--model", path, "--labels", drawn)
    assert (code, error) == (
        1,
        "error: not written: made-up writers lost 0.35 points, more than --accept-loss allows\n",
    )
    assert "labelled pictures that were learned from: 50.00 → 60.00 % of 10" in printed
    assert "made-up writers: 90.00 → 89.65 % of 5" in printed
    assert not (tmp_path / "mine.pth").exists()
    figures = iter([50.0, 90.0, 91.0, 91.0, 60.0, 89.65])
    assert call("--model", path, "--labels", drawn, "--accept-loss", 0.36)[0] == 0
    assert (tmp_path / "mine.pth").exists()


WRONG = {
    "": "give pictures, with --images, with --labels or with both",
    "--images drawn --output mine.onnx": "--output must end in .pth",
    "--images drawn --model model.onnx": "model.onnx is an export: give the .pth or .safetensors file",
    "--images drawn --model none.pth": "none.pth is missing: give the path of a checkpoint",
    "--images drawn --model int8.pth": "int8.pth is quantised already: give a float model",
    "--images drawn --output model.pth": "model.pth is the model itself: give another --output",
    "--images drawn --output other.pth": "other.pth was not made by this script and stays as it is",
    "--images none": "none is missing, or is no folder: give a folder of pictures",
    "--images empty": "empty holds no images",
    "--images blank": "blank: left out, without ink: 1 (a.png)",
    "--labels empty": "empty is missing or holds no images, in one folder for each character",
    "--labels katakana": "katakana: left out, of characters outside the class list: 2 (ア 2)",
    "--images drawn --labels drawn": "drawn holds no other pictures than those with labels",
    "--images drawn": "model.pth is sure of none of the pictures in drawn: label some, and give them with --labels",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_call_is_one_line_and_writes_nothing(words, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pth", "other.pth"):
        save_float("train_etl9g_model", Path(name))
    save_int8("train_etl9g_model", Path("int8.pth"))
    shapes(Path("drawn"), CLASSES, 2)
    shapes(Path("katakana"), "ア", 2)
    Path("empty").mkdir()
    Path("blank").mkdir()
    Image.new("L", (40, 40), 255).save("blank/a.png")
    before = sorted(tmp_path.rglob("*"))
    code, printed, error = call("--model", "model.pth", *words.split())
    sure_of_none = "drawn: sure of 0 of 10 pictures, of 0 characters\n"
    assert (code, printed) == (2, sure_of_none if words == "--images drawn" else "")
    assert WRONG[words] in error.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before
