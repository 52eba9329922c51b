"""Recognition: image files of every kind, folders, JSON, wrong calls; without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pillow_heif
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageChops, ImageDraw

import few_packages
import script_runs
from characters.confusable import Confusable
from evaluation.recognition_picture import CELL
from files import folders
from files.command_line import InputError
from files.packages import OldPackage
from images import finding, reading
from images.normalization import normalize
from images.reading import DecoderMissing, read_grey
from inference import recognizer
from inference.confidence import lead
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


def two_colours(picture: Image.Image, ink: tuple, paper: tuple) -> Image.Image:
    """In colours of one lightness."""
    drawn = Image.new("RGBA" if len(ink) == 4 else "RGB", picture.size, paper)
    drawn.paste(ink, mask=Image.eval(picture, lambda v: 255 - v))
    return drawn


KINDS = {
    "png": lambda picture: picture,
    "jpg": lambda picture: picture,
    "inverted.png": lambda picture: Image.eval(picture, lambda v: 255 - v),
    "rgba.png": lambda picture: with_opacity(picture, 0),
    "white_on_clear.png": lambda picture: with_opacity(picture, 255),
    "palette.gif": lambda picture: picture.convert("P"),
    "16bit.png": lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint16) * 200),
    "1bit.tif": lambda picture: picture.convert("1"),
    "jfif": lambda picture: picture,
    "jpe": lambda picture: picture,
    "jp2": lambda picture: picture,
    "avif": lambda picture: picture,
    "heic": lambda picture: picture.convert("RGB"),
    "red_on_green.png": lambda picture: two_colours(picture, (255, 0, 0), (0, 130, 0)),
    "red_on_green.jpg": lambda picture: two_colours(picture, (255, 0, 0), (0, 130, 0)),
    "green_on_red.png": lambda picture: two_colours(picture, (0, 130, 0), (255, 0, 0)),
    "pale.webp": lambda picture: two_colours(picture, (140, 176, 176), (200, 150, 150)),
    "red_on_green_and_clear.png": lambda picture: two_colours(picture, (255, 0, 0, 255), (0, 130, 0, 255)),
}


@pytest.mark.parametrize("horizontal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture(model, tmp_path, kind, horizontal):
    path = tmp_path / f"picture.{kind}"
    pillow_heif.register_heif_opener()
    KINDS[kind](stroke(horizontal)).save(path)
    top = read(recognizer.Recognizer(model), [read_grey(path)], 2, Confusable())[0].top
    assert top[0][0] == ("一" if horizontal else "丨")


@pytest.mark.parametrize("count", [1, 5, 30, 99])
def test_the_likeliest_come_in_order_and_of_equals_the_first(count):
    random = np.random.default_rng(0)
    for shares in (random.random(40), random.integers(0, 4, 40), np.zeros(40), np.arange(3)):
        expected = np.argsort(-shares, kind="stable")[:count]
        np.testing.assert_array_equal(_best(shares, count), expected)


@pytest.mark.parametrize("kind", ["jpeg", "avif", "heic", "tiff"])
def test_what_a_file_is_called_does_not_matter(kind, tmp_path):
    pillow_heif.register_heif_opener()
    stroke(True).convert("RGB").save(tmp_path / f"a.{kind}")
    expected = read_grey(tmp_path / f"a.{kind}")
    for name in ("b.png", "c", "d.JPG_large"):
        (tmp_path / f"a.{kind}").replace(tmp_path / name)
        np.testing.assert_array_equal(read_grey(tmp_path / name), expected)
        assert finding.find_images([tmp_path]) == [tmp_path / name]
        (tmp_path / name).replace(tmp_path / f"a.{kind}")


def test_colours_count_only_where_there_is_no_ink_without_them(tmp_path):
    """Whatever is read by its grey values is as Pillow makes it; paper of several shades is no ink."""
    random = np.random.default_rng(0)
    shade = np.linspace(0, 1, 80)[:, None] * np.ones((80, 80, 1)).transpose(1, 0, 2)
    noise = random.normal(0, 4, (80, 80, 3))
    pictures = {
        "faint": two_colours(stroke(True), (240, 215, 200), (235, 235, 245)),
        "yellow": two_colours(stroke(True), (255, 255, 0), (255, 255, 255)),
        "blank": Image.new("RGB", (60, 60), (200, 180, 160)),
        "pixel": Image.new("RGB", (1, 1), (200, 180, 160)),
        "grain": Image.fromarray((np.array([200, 180, 160]) + noise).astype(np.uint8)),
    }
    for name, picture in pictures.items():
        for suffix in ("png", "webp"):
            picture.save(tmp_path / f"{name}.{suffix}", lossless=True)
            grey = read_grey(tmp_path / f"{name}.{suffix}")
            np.testing.assert_array_equal(grey, np.asarray(picture.convert("L"), np.float32), err_msg=name)
    light = np.array([200, 170, 150]) * (1 - shade) + np.array([150, 190, 185]) * shade
    Image.fromarray((light + noise / 4).astype(np.uint8)).save(tmp_path / "light.png")
    assert not normalize(read_grey(tmp_path / "light.png")).any()


def test_too_old_a_pillow_is_not_a_damaged_image(tmp_path, monkeypatch):
    stroke(True).save(tmp_path / "a.png")
    monkeypatch.setattr(reading.PIL, "__version__", "9.5.0")
    says = r"Pillow 9\.5\.0 is too old, this needs 10\.1 or newer: pip install -U Pillow"
    with pytest.raises(OldPackage, match=says):
        read_grey(tmp_path / "a.png")


def test_without_a_decoder_it_says_which_package_has_one(tmp_path, monkeypatch):
    pillow_heif.register_heif_opener()
    stroke(True).convert("RGB").save(tmp_path / "a.heic")
    stroke(True).convert("RGB").save(tmp_path / "b.avif")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(reading.features, "check", lambda feature: False)
    for name, kind, remedy in (("a.heic", "HEIC", "pillow-heif"), ("b.avif", "AVIF", "-U Pillow")):
        with pytest.raises(DecoderMissing, match=f"{name} is a picture of the kind {kind}: pip install {remedy}$"):
            read_grey(tmp_path / name)
    assert len(finding.find_images([tmp_path])) == 2


@pytest.mark.parametrize("side", [8_000, 20_000])  # Pillow itself refuses the larger one
def test_too_large_a_picture_is_told_the_bound(side, tmp_path):
    Image.new("1", (side, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png has more than 50 million pixels: make it smaller"):
        read_grey(tmp_path / "a.png")


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
    above = float(lead(recognizer.Recognizer(model).picture_logits(grey))[0])
    for threshold, known in ((above - 0.01, True), (above + 0.01, False)):
        confidence = json.dumps({"threshold": threshold})
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


def test_it_reads_among_the_characters_of_a_script_alone(model, tmp_path):
    stroke(True).save(tmp_path / "a.png")
    own = with_facts(model, tmp_path / "own.onnx", confidence='{"temperature": 20}')
    assert run_script(tmp_path, "a.png", "--model", own, "--script", "kanji").stdout.startswith("a.png: 一 ")
    table = {"mixed_up": {}, "same_shape": {"丨": "ー1"}}
    (tmp_path / "confusable.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    said = json.loads(run_script(tmp_path, "a.png", "--model", own, "--script", "丨1", "--json").stdout)
    ((character, probability),) = [tuple(top.values()) for top in said["top"]]
    assert (character, probability > 0.3, said["looks_like"]) == ("丨", True, [])  # neither ー nor 1 is asked for
    done = run_script(tmp_path, "a.png", "--model", own, "--script", "kana")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.splitlines()[-1] == f"error: {own} reads none of the characters of --script kana: try --model all"
    )


def run_script(cwd: Path, *arguments) -> subprocess.CompletedProcess:
    return script_runs.run_script("recognize", *arguments, cwd=cwd)


@pytest.mark.parametrize("run", [script_runs.run_script, few_packages.run_script])
def test_a_folder_as_json_lines_without_the_image_that_is_bad(run, model, tmp_path):
    for name in (".hidden", "__MACOSX"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "._a.png").write_bytes(b"\0")
    stroke(True).save(tmp_path / "in" / "a.png")
    stroke(False).save(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "bad.png").write_text("no image")
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:80])
    for name in ("notes.txt", "d.pdf", "e.mov", "z", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "in" / name).write_text("not an image, and not asked for")
    result = run("recognize", "in", "--model", model, "--json", "--top", 1, cwd=tmp_path)
    errors = ["note: files in in that are no images, and passed over: 4 (d.pdf, e.mov, notes.txt, …)"]
    errors += [f"error: in/{name}.png is not an image that can be read, or is damaged" for name in ("bad", "cut")]
    assert (result.returncode, result.stderr.splitlines()) == (2, errors)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    top = [(line["image"], line["top"][0]["character"]) for line in lines]
    assert top == [("in/a.png", "一"), ("in/b.jpg", "丨")]
    assert all(0.5 < line["top"][0]["probability"] <= 1 for line in lines)


@pytest.mark.parametrize("run", [script_runs.run_script, few_packages.run_script])
def test_the_released_model_and_what_needs_more_packages(run, tmp_path):
    ImageChops.darker(stroke(True), stroke(False)).save(tmp_path / "a.png")
    assert run("recognize", "--help", cwd=tmp_path).stdout.startswith("usage: recognize.py")
    done = run("recognize", "a.png", cwd=tmp_path)
    assert (done.returncode, done.stdout[:8]) == (0, "a.png: 十"), done.stderr
    drawn = run("recognize", "a.png", "--picture", "b.png", cwd=tmp_path)
    missing = "error: the package cv2 is missing: pip install -r requirements.txt" in drawn.stderr.splitlines()
    assert (drawn.returncode, missing) == ((1, True) if run is few_packages.run_script else (0, False))


def test_many_pictures_that_cannot_be_decoded_are_counted(model, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    stroke(True).save(tmp_path / "a.png")
    done = few_packages.run_script("recognize", ".", "--model", model, cwd=tmp_path)
    assert (done.returncode, done.stdout[:8]) == (2, "a.png: 一")
    first = "error: 0.heic is a picture of the kind HEIC: pip install pillow-heif"
    assert done.stderr.splitlines() == [first, "error: pictures of the kind HEIC that were not read: 3"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "ascii"])
def test_json_is_json_in_every_encoding(encoding, model, tmp_path):
    names = [b"a.png", "café.png".encode(), "あ.png".encode(), "𠮟.png".encode(), b"no \xe9 text.png", b'"\\n.png']
    for name in names:
        stroke(True).save(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), "PNG")
    command = [sys.executable, SCRIPTS / "recognize.py", ".", "--json", "--model", model]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.decode(encoding).splitlines()]
    assert {os.fsencode(line["image"]) for line in lines} == {*names}
    assert {line["top"][0]["character"] for line in lines} == {"一"}
    assert encoding != "utf-8" or "一".encode() in done.stdout


@pytest.mark.parametrize("field", ["ir_version", "opset"])
def test_a_model_too_new_for_this_onnxruntime_is_not_a_damaged_one(field, model, tmp_path):
    newer = onnx.load(model)
    if field == "opset":
        newer.opset_import[0].version = 9999
    else:
        newer.ir_version = 9999
    onnx.save(newer, tmp_path / "newer.onnx")
    says = f"newer.onnx is too new for onnxruntime {recognizer.onnxruntime.__version__}: pip install -U onnxruntime"
    with pytest.raises(InputError, match=says):
        recognizer.Recognizer(tmp_path / "newer.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "missing.png is missing"),
        (["a.png", "--model", "missing.onnx"], "missing.onnx is missing"),
        (["a.png", "--model", "text.onnx"], "is not an ONNX model"),
        (["a.png", "--model", "foreign.onnx"], "is not a model of this toolkit"),
        (["a.png", "--model", "empty"], "empty is a folder"),
        (["a.png", "--model", "hiercod"], "hiercod is neither a model file nor one of hiercode, all, cnn, rnn, vit"),
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
    said = run_script(tmp_path, "a.png").stderr  # no accuracy: the file's own is of another test set than the README's
    source = recognizer.Recognizer(recognizer.RELEASED).facts["source"]
    assert said == f"reading with {recognizer.RELEASED}: 3,036 characters, trained on {source}\n"
    assert recognizer.confusable_path(recognizer.RELEASED) == folders.RELEASED / "confusable.json"
    assert recognizer.confusable_path(tmp_path / "a.onnx") == tmp_path / "confusable.json"
    own = tmp_path / "models" / "kanji_model.onnx"
    with_facts(model, own, metrics='{"validation_top1": 80.0}')
    done = run_script(tmp_path, "a.png")
    assert done.stdout.startswith("a.png: 一")
    assert done.stderr == "reading with models/kanji_model.onnx: 2 characters\n"
    with_facts(model, own, metrics='{"validation_top1": 0.0}')
    (warning,) = run_script(tmp_path, "a.png", "--model", own).stderr.splitlines()
    reads = "it reads 0.00 % of its held-out samples"
    assert warning == f"warning: {own} has hardly been trained, {reads}: choose another with --model"


@pytest.mark.parametrize("name", recognizer.SHORT_NAMES)
def test_a_released_model_has_a_short_name(name):
    said = run_script(SCRIPTS.parent, "examples/drawings/U+866B", "--model", name)
    assert said.stdout.partition(": ")[2].startswith("虫")
    path = recognizer.model_path(name)
    assert path.is_file() and "_int8" in path.name
    assert recognizer.model_path("models/cnn.onnx") == Path("models/cnn.onnx")


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
