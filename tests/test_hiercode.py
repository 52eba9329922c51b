"""HierCode: prototypes by hand, classes never shown, classes added afterwards, codes that do not fit."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import train_hiercode
from characters.jis import etl9g_classes
from data.prepared import PreparedDataset
from engine import checkpoints, training
from engine.architecture import loss_of_shown
from engine.run import Run
from evaluation import zero_shot
from export.safetensors_file import convert
from files.command_line import InputError
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.normalization import normalize_frames
from quantization.files import load_trained
from script_runs import run_script
from structure.codes import held_out
from tiny_models import save_float
from train_hiercode import HierCode, HierCodeConfig

CLASSES = "語晴清あが一品"
ROOT = Path(__file__).resolve().parent.parent
TINY = HierCodeConfig(width=0.25, dimensions=16, code_dropout=0.0)


@pytest.fixture
def model() -> HierCode:
    torch.manual_seed(0)
    model = HierCode(TINY, CLASSES)
    model(torch.rand(8, 1, 64, 64))  # running statistics
    return model.eval()


def test_a_prototype_by_hand(model):
    """晴 is left-right of 日 and 青: three products of a symbol's and a place's vector, added up."""
    made = model.prototypes
    number = {symbol: i for i, symbol in enumerate(made.symbols)}
    expected = sum(
        made.components[number[symbol]] * (made.places[place] + made.sides[side] + made.first_sides[first])
        for place, side, first, symbol in [(0, 0, 0, "⿰"), (1, 1, 1, "日"), (2, 2, 2, "青")]
    )
    assert torch.allclose(made()[CLASSES.index("晴")], expected, atol=1e-6)
    every = made()
    assert torch.allclose(made.train()(), every, atol=1e-5)
    made.dropout = 0.5
    assert not torch.allclose(made(), every, atol=1e-2)
    assert not any(len(parameter) == len(CLASSES) for parameter in model.parameters() if parameter.ndim)


def test_logits_are_scaled_cosines(model):
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        feature, prototypes = model.describe(model.features(images)), model.prototypes()
        expected = model.log_scale.exp() * F.cosine_similarity(feature[:, None], prototypes[None], dim=2)
        assert torch.allclose(model(images), expected, atol=1e-4)


def test_classes_that_are_held_out_are_neither_shown_nor_counted():
    config = HierCodeConfig(hold_out_classes=500, width=0.25, dimensions=8)
    model = HierCode(config, etl9g_classes())
    unseen = held_out(500, etl9g_classes())
    logits, column = model(torch.rand(4, 1, 64, 64))
    assert logits.shape == (4, len(etl9g_classes()) - 500)
    shown = [c for c in etl9g_classes() if c not in unseen]
    assert all(column[etl9g_classes().index(c)] == i for i, c in enumerate(shown[:200]))
    label = torch.tensor([etl9g_classes().index(c) for c in shown[1000:1004]])
    expected = F.cross_entropy(logits, torch.arange(1000, 1004), label_smoothing=config.label_smoothing)
    assert torch.allclose(loss_of_shown((logits, column), label, config), expected)


def test_a_run_shows_no_image_of_them_and_takes_no_model_that_saw_one(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(train_hiercode, "held_out", lambda count, classes: "晴" if count else "")
    data = tiny_dataset("語晴清", samples_per_set=2)
    small = {"data_dir": str(data), "width": 0.25, "dimensions": 8, "batch_size": 4, "epochs": 1, "precision": "fp32"}

    def settings(folder: str, count: int, init_from: str | None = None) -> HierCodeConfig:
        files = {"model_dir": str(tmp_path / folder), "init_from": init_from}
        return HierCodeConfig(**small, **files, hold_out_classes=count)

    run = Run(train_hiercode.ARCHITECTURE, settings("some", 500), PreparedDataset(data))
    for batches, rows in ((run.training, run.sampling.rows), (run.validation, run.sampling.validation_rows)):
        assert set(batches.get(rows)[1].tolist()) == {0, 2}
    for folder, count in (("all", 0), ("some", 500)):
        training.fit(train_hiercode.ARCHITECTURE, settings(folder, count))
    with pytest.raises(InputError, match="has seen 1 of the characters that are to be held out"):
        training.fit(train_hiercode.ARCHITECTURE, settings("new", 500, str(tmp_path / "all/hiercode_model_best.pth")))
    training.fit(train_hiercode.ARCHITECTURE, settings("new", 500, str(tmp_path / "some/hiercode_model_best.pth")))


@pytest.fixture
def saved(model, tmp_path) -> Path:
    path = tmp_path / "hiercode_model_best.pth"
    facts = {"script": "train_hiercode", "config": {"width": 0.25, "dimensions": 16}, "classes": CLASSES}
    checkpoints.save(path, facts | {"source": "test shapes", "metrics": {}, "model": model.state_dict()})
    return path


def test_other_codes_than_those_in_force_are_refused(saved):
    content = checkpoints.load(saved)
    content["model"]["prototypes.members"] = content["model"]["prototypes.members"].roll(1, 0)
    checkpoints.save(saved, content)
    with pytest.raises(InputError, match="its codes are not those of the structure table of KanjiVG"):
        load_trained(saved)


def test_shuffled_codes_are_nobodys_own(model):
    before = model.prototypes.members.clone()
    zero_shot.shuffle_codes(model, torch.tensor([0, 1, 2, 6]))
    after = model.prototypes.members
    assert torch.equal(after[3:6], before[3:6])
    assert not any(torch.equal(after[i], before[i]) for i in (0, 1, 2, 6))
    assert sorted(map(tuple, after.tolist())) == sorted(map(tuple, before.tolist()))


def test_zero_shot_needs_classes_that_were_held_out(saved, tiny_dataset, tmp_path):
    other = save_float("train_vit", tmp_path / "vit.pth")
    for path, message in ((saved, "was trained on every class"), (other, "was made by train_vit.py")):
        done = run_script("zero_shot", "--model", path, "--data-dir", tiny_dataset(CLASSES, samples_per_set=1))
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {path} {message}")


def test_zero_shot_measures(saved, tiny_dataset, monkeypatch):
    monkeypatch.setattr(zero_shot, "held_out", lambda count, classes: "晴清品" if count else "")
    monkeypatch.setattr(train_hiercode, "held_out", zero_shot.held_out)
    content = checkpoints.load(saved)
    content["config"]["hold_out_classes"] = 500
    checkpoints.save(saved, content)
    data = tiny_dataset(CLASSES)
    figures = zero_shot.measure(saved, data)
    assert (figures["held_out_classes"], figures["measured_on"]) == (3, 3 * 4)
    assert np.isfinite(list(figures.values())).all()
    test, (network, _) = PreparedDataset(data).splits["test"], load_trained(saved)
    with torch.inference_mode():
        logits = network(PreparedDataset(data).images(test.positions).float() / 255)
    unseen = torch.tensor([CLASSES.index(char) for char in "晴清品"])
    right, is_unseen = (logits.argmax(dim=1) == test.labels).float(), torch.isin(test.labels, unseen)
    assert figures["top1_of_shown_among_all"] == pytest.approx(100 * float(right[~is_unseen].mean()))
    assert figures["top1_among_all"] == pytest.approx(100 * float(right[is_unseen].mean()))
    among = unseen[logits[is_unseen][:, unseen].argmax(dim=1)] == test.labels[is_unseen]
    assert figures["top1_among_held_out"] == pytest.approx(100 * float(among.float().mean()))
    assert figures["top1_of_shown_among_all"] != figures["top1_among_all"]


def test_added_classes_equal_those_of_a_model_that_had_them(model, saved, tmp_path):
    convert(saved, saved.with_suffix(".safetensors"))
    output = tmp_path / "more.pth"
    done = run_script(
        "add_classes", "--model", saved.with_suffix(".safetensors"), "--characters", " 請\n晶 語", "--output", output
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"2 characters added, 9 in all: {output}"
    assert re.fullmatch(r" +[\d.]+ % among the added characters, [\d.]+ % among all", lines[-1])
    later, facts = load_trained(output)
    assert facts["classes"] == CLASSES + "請晶"
    assert (facts["source"], facts["metrics"]) == ("test shapes", {})
    whole = HierCode(TINY, "晶請" + CLASSES).eval()  # its codes in another order
    weights = {k: v for k, v in model.state_dict().items() if k not in {"prototypes.kinds", "prototypes.members"}}
    whole.load_state_dict(weights, strict=False)
    images = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(later(images)[:, : len(CLASSES)], model(images), atol=1e-5)
        assert torch.allclose(later(images), whole(images)[:, [2, 3, 4, 5, 6, 7, 8, 1, 0]], atol=1e-5)


def test_kept_classes_have_the_logits_that_they_had(model, saved, tmp_path):
    output = tmp_path / "fewer.pth"
    done = run_script("add_classes", "--model", saved, "--keep", "品語", "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"2 of 7 classes kept: {output}\n"
    fewer, facts = load_trained(output)
    images = torch.rand(3, 1, 64, 64)
    assert (facts["classes"], facts["metrics"]) == ("品語", {})
    with torch.no_grad():
        expected = model(images)[:, [CLASSES.index(char) for char in "品語"]]
        torch.testing.assert_close(fewer(images), expected)
    wide = HierCode(TINY, "あア匚品").eval()  # two of them have components of their own
    with torch.no_grad():
        torch.testing.assert_close(wide.restricted("品ア")(images), wide(images)[:, [3, 1]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("🈚 --output more.pth", "no decomposition of 🈚"),
        ("ア --output more.pth", "ア has the component ア, which no character of the model's table has"),
        ("亜 --output more.pth", "亜 has the component 亜, which the model never learned"),
        ("晴 --output more.pth", "every one of these characters is among the model's classes already"),
        ("語 --keep 明 --output more.pth", "not allowed with argument --characters"),
        ("明 --output more.onnx", "--output must end in .pth"),
        ("明 --output more.pth --model own.pth", "own.pth does not read characters by their decomposition"),
        ("明 --output more.pth --model vit.pth", "vit.pth does not read characters by their decomposition"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_line(saved, words, message, tmp_path):
    save_float("train_vit", tmp_path / "vit.pth")
    content = checkpoints.load(saved)
    config = content["config"] | {"codes": "own"}
    weights = HierCode(HierCodeConfig(**config), CLASSES).state_dict()
    checkpoints.save(tmp_path / "own.pth", content | {"config": config, "model": weights})
    done = run_script("add_classes", "--model", saved, "--characters", *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "more.pth").exists()


JOYO = "毀錮恣摯踪嘲哺瘍憬惧慄拉楷訃諧曖璧緻嗅喩"  # in daily use, but not among ETL9G's classes


def test_the_released_model_reads_characters_of_which_it_only_has_the_codes():
    """Twenty characters it never saw an image of, by twelve made-up writers each, among all 3,056; by chance 0.03 %."""
    model, _ = load_trained(ROOT / "models/released/hiercode_model_best.safetensors")
    classes, random, right = model.add_classes(JOYO), np.random.default_rng(3), 0
    for char in JOYO:
        frames = [write_character(char, stroke_models(char), new_writer(random), random) for _ in range(12)]
        images = torch.from_numpy(normalize_frames(np.stack(frames)))[:, None] / 255
        with torch.no_grad():
            right += int((model(images).argmax(dim=1) == classes.index(char)).sum())
    assert right / (12 * len(JOYO)) > 0.4
