"""The comparison with other programs: pictures redrawn, texts of one character scored, turns taken, wrong calls."""

import itertools
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compare_alternatives
from evaluation import alternatives, other_readers
from evaluation.alternatives import Redrawing
from evaluation.other_readers import Reader, one_character_scores
from files.command_line import InputError
from test_evaluate import bar_model, draw_bar, script_in_process


def test_the_score_of_a_character_is_the_sum_over_all_ways_to_write_it():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 5)  # 5 steps, blank and 3 symbols
    expected = np.zeros(4)
    for path in itertools.product(range(4), repeat=5):
        text = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if len(text) == 1:
            expected[text[0]] += np.prod([shares[step, symbol] for step, symbol in enumerate(path)])
    np.testing.assert_allclose(one_character_scores(shares), expected, rtol=1e-12)
    assert expected[1:].min() > 0


def bar(height: int = 60, width: int = 100) -> np.ndarray:
    """A lying bar of 40 x 4 pixels of ink, off the middle."""
    picture = np.full((height, width), 255, np.uint8)
    picture[10:14, 5:45] = 0
    return picture


def ink_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(picture < 128)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_redrawing_crops_thickens_and_reduces():
    assert (Redrawing()(bar()) == bar()).all()
    cropped = Redrawing(margin=0.25)(bar())
    assert cropped.shape == (60, 60)  # 40 of ink, 10 on either side
    assert ink_box(cropped) == (28, 32, 10, 50)
    top, bottom, left, right = ink_box(Redrawing(thickness=0.06)(bar()))
    assert (bottom - top, right - left) == (10, 46)  # 6 % of 100 more
    reduced = Redrawing(0.25, 0, 30)(bar())
    assert reduced.shape == (30, 30)
    assert ink_box(reduced) == (14, 16, 5, 25)
    assert Redrawing(side=50)(bar()).shape == (30, 50)
    blank = np.full((20, 20), 255, np.uint8)
    assert (Redrawing(0.2, 0.04)(blank) == blank).all()


def test_turns_places_and_the_best_row():
    calls = []

    def reader(name: str, answers: list[str], ranks: bool = True) -> Reader:
        def chosen(output: list[str], among: str | None) -> list[str]:
            return [char for char in output if among is None or char in among]

        return Reader(name, 7, lambda pictures: calls.append(name) or [answers] * len(pictures), chosen, ranks)

    one, other = reader("one", ["い", "漢", "あ"]), reader("other", ["あ"], ranks=False)
    subjects = [
        alternatives.Subject(one, Redrawing(), "あ漢"),
        alternatives.Subject(one, Redrawing(0.2), "漢"),
        alternatives.Subject(other, Redrawing(), "あ"),
    ]
    characters = ["漢"] * 40 + ["あ"] * 20 + ["い"] * 20
    rows = alternatives.compare(subjects, [bar()] * 80, characters)
    assert calls == ["one", "one", "other"] * 2  # chunks of 50 and 30
    assert [row["top1"] for row in rows] == [25, 25, 25]
    assert [row["top1_among_classes"] for row in rows] == [50, 50, None]
    assert [row["top5"] for row in rows] == [100, 100, None]
    assert [row["best"] for row in rows] == [True, False, True]
    assert rows[0]["top1_standard_error"] == pytest.approx(4.841, abs=1e-3)  # 100 √(1/4 · 3/4 / 80)
    lines = alternatives.table(rows).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| one | as drawn | **25.00 % ± 4.84** | 50.00 % | 100.00 % |")
    assert lines[4].startswith("| other | as drawn | **25.00 % ± 4.84** | – | – |")


def test_processor_time_is_that_of_the_processes_started_too():
    begin = alternatives.processor_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    assert alternatives.processor_seconds() - begin >= 0.02


@pytest.fixture
def tesseract(tmp_path, monkeypatch) -> Path:
    """A tesserocr that reads い from wide ink and nothing from tall; returns its data."""

    class Engine:
        def __init__(self, path: str, lang: str, psm: int):
            assert (path, lang, psm) == (f"{tmp_path}/", "jpn", 10)

        def SetImage(self, picture: Image.Image) -> None:
            top, bottom, left, right = ink_box(np.asarray(picture))
            self.text = "い人\n" if right - left > bottom - top else "\n"

        def GetUTF8Text(self) -> str:
            return self.text

    module = types.ModuleType("tesserocr")
    module.PyTessBaseAPI, module.PSM = Engine, types.SimpleNamespace(SINGLE_CHAR=10)
    module.tesseract_version = lambda: "tesseract 5.9\n leptonica"
    monkeypatch.setitem(sys.modules, "tesserocr", module)
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    data = tmp_path / "jpn.traineddata"
    data.write_bytes(bytes(9))
    return data


def test_texts_of_tesseract_become_answers(tesseract):
    reader = other_readers.tesseract_reader()
    assert (reader.name, reader.size, reader.ranks) == ("Tesseract 5.9, jpn", 9, False)
    assert [reader.answers(text, None) for text in reader.read([bar(), bar().T])] == [["い"], []]


def test_what_is_missing_is_named(tesseract, monkeypatch):
    tesseract.unlink()
    with pytest.raises(InputError, match="apt-get install tesseract-ocr-jpn"):
        other_readers.tesseract_reader()
    for name, reader in (("tesserocr", other_readers.tesseract_reader), ("rapidocr", other_readers.rapidocr_reader)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"{name} is missing: .*requirements-alternatives\.txt"):
            reader()


def test_the_highest_symbols_among_some():
    scores = np.array([0, 3, 1, 3, 5, 2, 4])
    assert other_readers.highest(scores, "零一二三四五六", None) == ["四", "六", "一", "三", "五"]
    assert other_readers.highest(scores, "零一二三四五六", "二五七") == ["五", "二"]


def test_pictures_are_dark_on_white_whatever_they_were(tmp_path):
    draw_bar(tmp_path / "あ" / "dark.png", True)
    draw_bar(tmp_path / "い" / "light.png", False, ink=255, paper=0)
    draw_bar(tmp_path / "ア" / "unknown.png", True)
    pictures, characters, description = alternatives.image_pictures(tmp_path, "あい", 9)
    assert sorted(characters) == ["あ", "い"]
    assert all(picture.dtype == np.uint8 and np.median(picture) == 255 and picture.min() == 0 for picture in pictures)
    assert description.startswith("2 images of")
    assert description.endswith("(1 of other characters than the first model's left out)")
    assert len(alternatives.image_pictures(tmp_path, "あい", 1)[0]) == 1
    with pytest.raises(InputError, match="has no image of a character that the model knows"):
        alternatives.image_pictures(tmp_path, "語", 1)


@pytest.fixture
def call(tmp_path, tesseract, monkeypatch, capsys):
    """A function that calls compare_alternatives.py against tesseract; returns its exit code, output and errors."""
    bar_model(tmp_path / "bars.onnx")
    draw_bar(tmp_path / "in" / "あ" / "a.png", True)
    draw_bar(tmp_path / "in" / "い" / "b.png", False, ink=255, paper=0)
    (tmp_path / "empty").mkdir()
    return script_in_process(compare_alternatives, tmp_path, monkeypatch, capsys, "--against", "tesseract")


def test_the_script_on_a_folder(call):
    code, out, _ = call("--model", "bars.onnx", "--images", "in")
    assert code == 0
    result = json.loads(Path("alternatives.json").read_text(encoding="utf-8"))
    assert result["description"].startswith("2 images of in, 2 classes; one thread of ")
    own, *others = result["rows"]
    assert (own["top1"], own["bytes"]) == (100, Path("bars.onnx").stat().st_size)
    assert len(others) == len(alternatives.TESSERACT)
    assert {row["top1"] for row in others} == {0}  # it takes あ for い and い for nothing
    assert Path("alternatives.md").read_text(encoding="utf-8") in out + "\n"


def test_the_script_on_a_dataset(call, tiny_dataset):
    code, out, _ = call("--model", "bars.onnx", "--data-dir", str(tiny_dataset("あい")), "--limit", "5")
    assert code == 0
    assert out.startswith("5 samples of the test split of ")
    assert json.loads(Path("alternatives.json").read_text(encoding="utf-8"))["rows"][0]["top5"] == 100  # of two classes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bars.pth"], "bars.pth is no ONNX file"),
        (["--model", "other.onnx"], "other.onnx"),
        (["--model", "bars.onnx", "--images", "nowhere"], "nowhere is missing"),
        (["--model", "bars.onnx", "--images", "empty"], "holds no images"),
        (["--model", "bars.onnx", "--against", "other"], "invalid choice"),
        (["--model", "bars.onnx", "--limit", "0"], "--limit"),
        (["--model", "bars.onnx", "--output", "."], "--output needs a name"),
    ],
)
def test_wrong_calls_end_with_one_line(call, arguments, message):
    code, _, err = call(*arguments)
    assert code == 2
    assert message in err.splitlines()[-1]
