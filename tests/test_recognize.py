"""Recognition: image files of every kind, folders, JSON, wrong calls; without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

import script_runs
from characters.confusable import Confusable
from evaluation.recognition_picture import CELL
from images.reading import read_grey
from inference import recognizer
from inference.readings import _best, read

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An ONNX model worked by hand: 一 scores the ink of the middle rows, 丨 that of the middle columns."""
    weights = np.zeros((64 * 64, 2), np.float32)
    weights.reshape(64, 64, 2)[28:36, :, 0] = 1 / 16
    weights.reshape(64, 64, 2)[:, 28:36, 1] = 1 / 16
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input_image"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ],
        "by hand",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["n", 1, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.ones(2, np.float32), "bias")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(made, {"classes": "一丨"})
    path = tmp_path_factory.mktemp("model") / "by_hand.onnx"
    onnx.save(made, path)
    return path


def stroke(horizontal: bool) -> Image.Image:
    width, height = 120, 90
    picture = Image.new("L", (width, height), 255)
    middle = (20, height // 2, width - 20, height // 2) if horizontal else (width // 2, 15, width // 2, height - 15)
    ImageDraw.Draw(picture).line(middle, fill=0, width=6)
    return picture


def with_opacity(picture: Image.Image, grey: int) -> Image.Image:
    """The ink of a picture, of this grey, on a transparent ground."""
    return Image.merge("RGBA", [Image.new("L", picture.size, grey)] * 3 + [Image.eval(picture, lambda v: 255 - v)])


KINDS = {
    "png": lambda picture: picture,
    "jpg": lambda picture: picture,
    "inverted.png": lambda picture: Image.eval(picture, lambda v: 255 - v),
    "rgba.png": lambda picture: with_opacity(picture, 0),
    "white_on_clear.png": lambda picture: with_opacity(picture, 255),
    "palette.gif": lambda picture: picture.convert("P"),
    "16bit.png": lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint16) * 200),
    "1bit.tif": lambda picture: picture.convert("1"),
}


@pytest.mark.parametrize("horizontal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture(model, tmp_path, kind, horizontal):
    path = tmp_path / f"picture.{kind}"
    KINDS[kind](stroke(horizontal)).save(path)
    top = read(recognizer.Recognizer(model), [read_grey(path)], 2, Confusable())[0].top
    assert top[0][0] == ("一" if horizontal else "丨")


@pytest.mark.parametrize("count", [1, 5, 30, 99])
def test_the_likeliest_come_in_order_and_of_equals_the_first(count):
    random = np.random.default_rng(0)
    for shares in (random.random(40), random.integers(0, 4, 40), np.zeros(40), np.arange(3)):
        expected = np.argsort(-shares, kind="stable")[:count]
        np.testing.assert_array_equal(_best(shares, count), expected)


def test_a_blank_picture_is_nothing(model):
    assert read(recognizer.Recognizer(model), [np.full((50, 50), 255, np.float32)], 5, Confusable())[0].top == []


def with_facts(model: Path, path: Path, **facts: str) -> Path:
    changed = onnx.load(model)
    properties = {entry.key: entry.value for entry in changed.metadata_props}
    helper.set_model_props(changed, properties | facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(changed, path)
    return path


def test_what_is_none_of_the_characters_is_said(model, tmp_path):
    stroke(True).save(tmp_path / "a.png")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    grey = [read_grey(tmp_path / "a.png")]
    score = float(recognizer.Recognizer(model).picture_logits(grey).max())
    for threshold, known in ((score - 0.01, True), (score + 0.01, False)):
        confidence = json.dumps({"score": "logit", "threshold": threshold})
        strict = with_facts(model, tmp_path / "strict.onnx", confidence=confidence)
        line = run_script(tmp_path, "a.png", "--model", strict).stdout
        assert line.startswith("a.png: 一" if known else "a.png: not one of these characters (nearest: 一")
        lines = run_script(tmp_path, "a.png", "blank.png", "--model", strict, "--json").stdout.splitlines()
        assert [json.loads(line)["known"] for line in lines] == [known, False]
        assert json.loads(lines[0])["top"][0]["character"] == "一"
    assert run_script(tmp_path, "blank.png", "--model", strict).stdout == "blank.png: nothing is drawn here\n"


def test_it_says_what_else_a_character_looks_like(model, tmp_path):
    stroke(True).save(tmp_path / "a.png")
    own = with_facts(model, tmp_path / "models" / "own.onnx", confidence='{"temperature": 20}')  # of two minds
    table = {"mixed_up": {"丨": {"一": 0.2}}, "same_shape": {"一": "ー"}}
    assert "looks like" not in run_script(tmp_path, "a.png", "--model", own).stdout
    (own.parent / "confusable.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    assert run_script(tmp_path, "a.png", "--model", own).stdout.endswith("  (looks like: katakana ー, 丨)\n")
    answer = run_script(tmp_path, "a.png", "--model", own, "--json", "--top", 1).stdout  # one asked for, two considered
    assert json.loads(answer)["looks_like"] == ["ー", "丨"]
    (own.parent / "confusable.json").write_text("{", encoding="utf-8")
    done = run_script(tmp_path, "a.png", "--model", own)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "confusable.json is damaged" in done.stderr


def run_script(cwd: Path, *arguments) -> subprocess.CompletedProcess:
    return script_runs.run_script("recognize", *arguments, cwd=cwd)


def test_a_folder_as_json_lines_without_the_image_that_is_bad(model, tmp_path):
    (tmp_path / "in").mkdir()
    stroke(True).save(tmp_path / "in" / "a.png")
    stroke(False).save(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "bad.png").write_text("no image")
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:80])
    (tmp_path / "in" / "notes.txt").write_text("not an image, and not asked for")
    result = run_script(tmp_path, "in", "--model", model, "--json", "--top", 1)
    errors = [f"error: in/{name}.png is not an image that can be read, or is damaged" for name in ("bad", "cut")]
    assert (result.returncode, result.stderr.splitlines()) == (2, errors)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    top = [(line["image"], line["top"][0]["character"]) for line in lines]
    assert top == [("in/a.png", "一"), ("in/b.jpg", "丨")]
    assert all(0.5 < line["top"][0]["probability"] <= 1 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png is missing"),
        (["a.png", "--model", "missing.onnx"], "missing.onnx is missing"),
        (["a.png", "--model", "text.onnx"], "is not an ONNX model"),
        (["a.png", "--model", "foreign.onnx"], "is not a model of this toolkit"),
        (["a.png", "--model", "empty"], "empty is a folder"),
        (["empty"], "holds no images"),
        (["a.png", ""], "an IMAGE has no name"),
        (["a.png", "--picture", "b.jpg"], "--picture names a PNG file"),
        (["a.png", "--picture", "folder.png"], "--picture names a PNG file"),
        (["a.png", "--top", "0"], "--top"),
    ],
)
def test_wrong_calls_end_with_one_line(model, tmp_path, arguments, message):
    stroke(True).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    if "--model" not in arguments:
        arguments = [*arguments, "--model", model]
    result = run_script(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_it_needs_three_packages_alone():
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
import recognize
packages = {{name.partition(".")[0] for name in sys.modules}}
print(*sorted(packages & {{"torch", "filelock", "tqdm", "onnx", "cv2", "safetensors", "threadpoolctl", "kanjivg"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_it_says_which_model_reads_ones_own_before_the_released_one(model, tmp_path):
    stroke(True).save(tmp_path / "a.png")
    assert recognizer.default_model() == recognizer.RELEASED
    said = run_script(tmp_path, "a.png").stderr
    assert said.startswith(f"reading with {recognizer.RELEASED}: 3,036 characters, trained on KanjiVG stand-in, 9")
    assert said.endswith(" % of held-out samples right\n")
    own = tmp_path / "models" / "kanji_model.onnx"
    with_facts(model, own, metrics='{"validation_top1": 80.0}')
    done = run_script(tmp_path, "a.png")
    assert done.stdout.startswith("a.png: 一")
    assert done.stderr == "reading with models/kanji_model.onnx: 2 characters, 80.00 % of held-out samples right\n"
    with_facts(model, own, metrics='{"validation_top1": 0.0}')
    (warning,) = run_script(tmp_path, "a.png", "--model", own).stderr.splitlines()
    assert warning == f"warning: {own} has hardly been trained: choose another with --model"


def test_the_picture_shows_what_was_read(model, tmp_path):
    """Framed green or red in a folder named by its character; a file that cannot be read is left out."""
    for folder in ("一", "二", "三四"):
        (tmp_path / "drawn" / folder).mkdir(parents=True)
        stroke(True).save(tmp_path / "drawn" / folder / "1.png")
    (tmp_path / "drawn" / "broken.png").write_bytes(b"none")
    done = run_script(tmp_path, "drawn", "--model", model, "--picture", "out/sheet.png")
    assert done.returncode == 2
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        picture = np.asarray(sheet)
    places = ((0, 0), (1, 0), (0, 1))
    frames = [picture[(CELL + 22) * line + 14, picture.shape[1] // 2 * column + 7] for line, column in places]
    right, unknown, wrong = (frame.astype(int) for frame in frames)
    assert right[1] > right[0]  # green
    assert wrong[0] > wrong[1]  # 二 was read as 一: red
    assert unknown[0] == unknown[1]  # 三四 names no class: grey
