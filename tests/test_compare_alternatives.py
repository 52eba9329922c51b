"""The comparison with other programs: pictures redrawn, texts of one character scored, turns taken, wrong calls."""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compare_alternatives
from evaluation import alternatives, other_readers
from evaluation.other_readers import Reader, Redrawing, one_character_scores
from files.command_line import InputError
from script_runs import run_script
from test_evaluate import bar_model, draw_bar

SCRIPT = Path(compare_alternatives.__file__)
TESSERACT = "#!/bin/sh\ncase $1 in --list-langs) echo 'List of \"{folder}/\" (1):'; echo {language};; "


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


def test_the_names_of_redrawings_differ():
    for redrawings in (alternatives.RAPIDOCR, alternatives.TESSERACT):
        assert len({str(redrawing) for redrawing in redrawings}) == len(redrawings)
    assert str(Redrawing()) == "as drawn"


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


def fake_tesseract(folder: Path, monkeypatch, lines: str, language: str = "jpn") -> Path:
    """A program called tesseract that prints these TSV lines, alone on PATH."""
    (folder / "jpn.traineddata").write_bytes(bytes(9))
    program = folder / "tesseract"
    program.write_text(
        TESSERACT.format(folder=folder, language=language)
        + f"--version) echo tesseract 5.9;; *) printf '{lines}';; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


def test_pages_of_tesseract_become_answers(tmp_path, monkeypatch):
    page = r"1\t{0}\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t\n"
    word = r"5\t{0}\t1\t1\t1\t1\t0\t0\t9\t9\t90\t{1}\n"
    lines = r"level\n" + page.format(1) + word.format(1, "永人") + page.format(2)
    lines += page.format(3) + word.format(3, "あ")
    fake_tesseract(tmp_path, monkeypatch, lines)
    reader = other_readers.tesseract_reader()
    assert (reader.name, reader.size, reader.ranks) == ("Tesseract 5.9, jpn", 9, False)
    assert [reader.answers(text, None) for text in reader.read([bar()] * 3)] == [["永"], [], ["あ"]]
    with pytest.raises(OSError, match="3 of 2"):
        reader.read([bar()] * 2)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    fake_tesseract(tmp_path, monkeypatch, "", language="eng")
    with pytest.raises(InputError, match="tesseract-ocr-jpn"):
        other_readers.tesseract_reader()
    (tmp_path / "tesseract").unlink()
    with pytest.raises(InputError, match="apt-get install"):
        other_readers.tesseract_reader()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(InputError, match=r"requirements-alternatives\.txt"):
        other_readers.rapidocr_reader()


def test_rapidocr_reads_printed_characters():
    pytest.importorskip("rapidocr", reason="pip install -r requirements-alternatives.txt")
    reader = other_readers.rapidocr_reader()
    assert reader.size > 20_000_000
    picture = np.full((48, 48), 255, np.uint8)
    picture[10:14, 10:38], picture[34:38, 6:42] = 0, 0  # 二
    output = reader.read([picture])[0]
    answers = reader.answers(output, None)
    assert len(set(answers)) == 5
    assert "二" in answers
    assert reader.answers(output, "永二")[0] == "二"


def test_pictures_are_dark_on_white_whatever_they_were(tmp_path):
    draw_bar(tmp_path / "あ" / "dark.png", True)
    draw_bar(tmp_path / "い" / "light.png", False, ink=255, paper=0)
    draw_bar(tmp_path / "ア" / "unknown.png", True)
    pictures, characters, told = alternatives.pictures_of(argparse.Namespace(images=tmp_path, limit=9), "あい")
    assert sorted(characters) == ["あ", "い"]
    assert all(picture.dtype == np.uint8 and np.median(picture) == 255 and picture.min() == 0 for picture in pictures)
    assert told.startswith("2 images of")
    assert told.endswith("(1 of other characters than the first model's left out)")
    assert len(alternatives.pictures_of(argparse.Namespace(images=tmp_path, limit=1), "あい")[0]) == 1
    with pytest.raises(InputError, match=r"has no image of a character that m\.onnx knows"):
        alternatives.pictures_of(argparse.Namespace(images=tmp_path, limit=1, model=["m.onnx"]), "語")


def test_the_script_on_a_folder(tmp_path, monkeypatch):
    pytest.importorskip("threadpoolctl", reason="pip install -r requirements-alternatives.txt")
    fake_tesseract(tmp_path, monkeypatch, r"level\n1\t1\t0\n5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tい\n1\t2\t0\n")
    model = bar_model(tmp_path / "bars.onnx")
    draw_bar(tmp_path / "in" / "あ" / "a.png", True)
    draw_bar(tmp_path / "in" / "い" / "b.png", False, ink=255, paper=0)
    done = run_script(SCRIPT, "--model", model, "--images", "in", "--against", "tesseract", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "alternatives.json").read_text(encoding="utf-8"))
    assert found["told"].startswith("2 images of in, 2 classes")
    own, *others = found["rows"]
    assert (own["top1"], own["bytes"]) == (100, model.stat().st_size)
    assert len(others) == len(alternatives.TESSERACT)
    assert {row["top1"] for row in others} <= {0, 50, 100}
    assert (tmp_path / "alternatives.md").read_text(encoding="utf-8") in done.stdout + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "model.pth", "--images", "in"], "is no ONNX file"),
        (["--model", "bars.onnx", "--images", "empty"], "holds no images"),
        (["--model", "bars.onnx", "--against", "other"], "invalid choice"),
        (["--model", "bars.onnx", "--limit", "0"], "--limit"),
        (["--model", "bars.onnx", "--output", "."], "--output needs a name"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, monkeypatch, arguments, message):
    pytest.importorskip("threadpoolctl", reason="pip install -r requirements-alternatives.txt")
    fake_tesseract(tmp_path, monkeypatch, "")
    bar_model(tmp_path / "bars.onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "in" / "あ").mkdir(parents=True)
    Image.fromarray(bar()).save(tmp_path / "in" / "あ" / "a.png")
    done = run_script(SCRIPT, "--against", "tesseract", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
