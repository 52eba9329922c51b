"""HierCode: prototypes by hand, classes added afterwards, codes that do not fit."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine import checkpoints
from evaluation import zero_shot
from export.safetensors_file import convert
from files.command_line import InputError
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.normalization import normalize_frames
from quantization.files import load_trained
from script_runs import run_script
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


def test_added_classes_measured_by_hand(monkeypatch):
    """A picture is a grey value and a code a number; the nearest class is read. Of 晴清品, 1, 2 and 6, that is wrong
    for 品 among all classes."""

    class Nearest:
        prototypes = SimpleNamespace(members=torch.tensor([[0], [10], [20], [30], [40], [57], [60]]))

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return -(255 * images[:, 0, 0, :1] - self.prototypes.members.T.float()).abs()

    grey = np.array([10, 20, 58], np.uint8)
    monkeypatch.setattr(zero_shot, "draw_samples", lambda *_: grey[:, None, None].repeat(64, 1).repeat(64, 2))
    figures = zero_shot.measure_added(Nearest(), CLASSES, "晴清品", 2)
    assert figures == {"among_added": 100, "among_all": pytest.approx(200 / 3)}


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
        ("明 --output more.pth --model vit.pth", "vit.pth does not read characters by their decomposition"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_line(saved, words, message, tmp_path):
    save_float("train_vit", tmp_path / "vit.pth")
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
