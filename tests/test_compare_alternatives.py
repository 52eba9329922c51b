"""The comparison with other programs: pictures redrawn, texts of one character scored, turns taken, wrong calls."""

import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compare_alternatives
from evaluation import alternatives
from evaluation.alternatives import Reader, redraw
from files.command_line import InputError
from test_evaluate import bar_model, draw_bar


def test_the_score_of_a_character_is_the_sum_over_all_ways_to_write_it():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 5)  # 5 steps, blank and 3 symbols
    expected = np.zeros(4)
    for path in itertools.product(range(4), repeat=5):
        text = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if len(text) == 1:
            expected[text[0]] += np.prod([shares[step, symbol] for step, symbol in enumerate(path)])
    np.testing.assert_allclose(alternatives.one_character_scores(shares), expected, rtol=1e-12)
    assert expected[1:].min() > 0


def bar() -> np.ndarray:
    """A lying bar of 40 x 4 pixels of ink, off the middle."""
    picture = np.full((60, 100), 255, np.uint8)
    picture[10:14, 5:45] = 0
    return picture


def ink_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(picture < 128)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def test_redrawing_crops_thickens_and_reduces():
    assert ink_box(redraw(bar(), 0.25, 0, 60)) == (28, 32, 10, 50)  # 40 of ink, 10 on either side
    assert ink_box(redraw(bar(), 0.25, 0.1, 60)) == (25, 35, 7, 53)  # 10 % of 60 more
    assert ink_box(redraw(bar(), 0.25, 0, 30)) == (14, 16, 5, 25)
    blank = np.full((20, 20), 255, np.uint8)
    assert (redraw(blank, 0.2, 0.04, 20) == blank).all()


def test_turns_places_and_the_best_row():
    calls = []

    def reader(name: str, answers: list[str], *redrawings: tuple | None, ranks: bool = True) -> Reader:
        def read(pictures: list[np.ndarray]) -> list[list[str]]:
            calls.append(name)
            return [answers] * len(pictures)

        return Reader(name, 7, read, list, list(redrawings), ranks)

    readers = [reader("one", ["い", "漢", "あ"], None, (0.2, 0.02, 32)), reader("other", ["あ"], None, ranks=False)]
    characters = ["漢"] * 40 + ["あ"] * 20 + ["い"] * 20
    rows = alternatives.compare(readers, "あ漢", [(bar(), char) for char in characters])
    assert calls == ["one", "one", "other"] * 2  # chunks of 50 and 30
    assert [row["top1"] for row in rows] == [25, 25, 25]
    assert [row["top1_among_classes"] for row in rows] == [50, 50, None]
    assert [row["top5"] for row in rows] == [100, 100, None]
    assert [row["best"] for row in rows] == [True, False, True]
    assert rows[0]["top1_standard_error"] == pytest.approx(4.841, abs=1e-3)  # 100 √(1/4 · 3/4 / 80)
    lines = alternatives.table(rows).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| one | as drawn | **25.00 % ± 4.84** | 50.00 % | 100.00 % |")
    assert lines[3].startswith("| one | cropped, margin 20%, 2% thicker, 32 px | 25.00 % ± 4.84 |")


class Engine:
    """A tesseract that reads い from wide ink and nothing from tall."""

    def __init__(self, path: str, lang: str, psm: int):
        assert (Path(path), lang, psm) == (Path.cwd(), "jpn", 10)

    def SetImage(self, picture: Image.Image) -> None:
        top, bottom, left, right = ink_box(np.asarray(picture))
        self.text = "い人\n" if right - left > bottom - top else "\n"

    def GetUTF8Text(self) -> str:
        return self.text


@pytest.fixture
def work(tmp_path, monkeypatch) -> None:
    """A folder with a model, images and Engine's data; the script's arguments."""
    bar_model(tmp_path / "bars.onnx")
    draw_bar(tmp_path / "in" / "あ" / "a.png", True)
    draw_bar(tmp_path / "in" / "い" / "b.png", False, ink=255, paper=0)
    draw_bar(tmp_path / "in" / "ア" / "unknown.png", True)
    (tmp_path / "jpn.traineddata").write_bytes(bytes(9))
    module = types.SimpleNamespace(PyTessBaseAPI=Engine, PSM=types.SimpleNamespace(SINGLE_CHAR=10))
    module.tesseract_version = lambda: "tesseract 5.9\n leptonica"
    monkeypatch.setitem(sys.modules, "tesserocr", module)
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", "--model", "bars.onnx", "--images", "in", "--against"])


def test_pictures_are_dark_on_white_whatever_they_were(work):
    pictures = alternatives.image_pictures(Path("in"), "あい", 9)
    assert sorted(char for _, char in pictures) == ["あ", "い"]
    assert all(p.dtype == np.uint8 and np.median(p) == 255 and p.min() == 0 for p, _ in pictures)
    with pytest.raises(InputError, match="has no image of a character that the model knows"):
        alternatives.image_pictures(Path("in"), "語", 1)


def test_the_script(work, capsys):
    sys.argv += ["tesseract"]
    compare_alternatives.main()
    result = json.loads(Path("alternatives.json").read_text(encoding="utf-8"))
    assert result["description"].startswith("2 images of in, 2 classes; one thread of ")
    own, *others = result["rows"]
    assert (own["top1"], own["top5"], own["bytes"]) == (100, 100, Path("bars.onnx").stat().st_size)
    assert [row["top1"] for row in others] == [0] * len(alternatives.TESSERACT)  # it takes あ for い, い for nothing
    assert {(row["reader"], row["bytes"]) for row in others} == {("Tesseract 5.9, jpn", 9)}
    assert Path("alternatives.md").read_text(encoding="utf-8") in capsys.readouterr().out
    reader = alternatives.tesseract_reader()
    assert [reader.ranking(text) for text in reader.read([bar(), bar().T])] == [["い"], []]
    Path("jpn.traineddata").unlink()
    with pytest.raises(InputError, match="apt-get install tesseract-ocr-jpn"):
        alternatives.tesseract_reader()


def test_a_missing_package_is_named(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    sys.argv += ["rapidocr"]
    with pytest.raises(InputError, match=r"rapidocr is missing: .*requirements-alternatives\.txt"):
        compare_alternatives.main()
