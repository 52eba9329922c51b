"""The comparison with other programs: pictures redrawn, texts of one character scored, turns taken, wrong calls."""

import itertools
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
    table = alternatives.compare(readers, "あ漢", [(bar(), char) for char in characters])
    assert calls == ["one", "one", "other"] * 2  # chunks of 50 and 30
    _, _, first, second, third = table.splitlines()
    assert first.startswith("| one | as drawn | **25.00 % ± 4.84** | 50.00 % | 100.00 % |")  # 100 √(1/4 · 3/4 / 80)
    assert second.startswith(
        "| one | cropped, margin 20%, 2% thicker, 32 px | **25.00 % ± 4.84** | 50.00 % | 100.00 % |"
    )
    assert third.startswith("| other | as drawn | **25.00 % ± 4.84** | – | – |")
    assert third.endswith("| 7 |")


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
    table = Path("alternatives.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert table.startswith("2 images of in, 2 classes; one thread of ")
    _, _, own, *others = table.strip().splitlines()[2:]
    assert own.startswith("| bars.onnx | as drawn | **100.00 % ± 0.00** | 100.00 % | 100.00 % |")
    assert own.endswith(f"| {Path('bars.onnx').stat().st_size:,} |")
    # It takes あ for い, and い for nothing.
    assert ["**0.00 % ± 0.00**" in line for line in others] == [True] * len(alternatives.TESSERACT)
    assert all(line.startswith("| Tesseract 5.9, jpn | ") and line.endswith(" | 9 |") for line in others)
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
