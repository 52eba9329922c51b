"""The quickstart: the whole pipeline at its smallest, as a person would start it."""

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import quickstart
from characters.names import true_character
from script_runs import ScriptRun, few_characters, forked_stages, run_script


@pytest.mark.parametrize(
    ("path", "character"),
    [
        ("U+6F22/01.png", "漢"),
        ("漢/photo.jpg", "漢"),
        ("photos/あ.png", "あ"),
        ("photos/U+3042.png", "あ"),
        ("U+0041/a.png", None),  # not a class
        ("photos/me.png", None),
    ],
)
def test_the_truth_of_an_image_is_in_its_name(path, character):
    assert true_character(Path(path)) == character


@contextlib.contextmanager
def small(failing: str) -> Iterator[None]:
    """Sixty characters, in all stages, of which one may be made to fail."""
    with few_characters(60), forked_stages(failing):
        yield


def test_sixty_characters_from_strokes_to_recognition(tmp_path):
    """Every stage hands on to the next, and after fifty steps of training it reads far better than chance."""
    flags, folder = ["--sets", 20, "--epochs", 6, "--seed", 5], tmp_path / "here"
    run = ScriptRun("quickstart", flags, folder, functools.partial(small, ""))
    assert run.finish() == 0, run.errors
    models = folder / "models" / "quickstart"
    report = json.loads((models / "report.json").read_text(encoding="utf-8"))
    assert (report["samples"], report["source"]) == (20 * 60, "KanjiVG stand-in")
    assert report["unseen_writers"]["samples"] == 2 * 60
    assert report["unseen_writers"]["top5"] > 25
    assert report["unseen_writers"]["top1"] > 10  # 1.7 by chance
    assert set(report["seconds"]) == {"synthesise", "prepare", "train", "export", "evaluate", "recognise", "all"}
    assert report["recognised"]["images"] == report["recognised"]["named"] == quickstart.SHOWN
    with Image.open(models / "recognised.png") as picture:
        assert picture.width > 500
    # What is done is not done twice, and a stage that fails ends it.
    again = ScriptRun("quickstart", flags, folder, functools.partial(small, "convert_to_onnx"))
    assert again.finish() == 3, again.errors
    assert again.errors.splitlines()[-1] == "export ended with exit code 3; the same command continues from here"
    printed = (again.output / "out").read_text(encoding="utf-8")
    assert "resumed from" in printed
    assert "epoch   6/6" not in printed


def test_real_data_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text(json.dumps({"source": "ETL9G"}))
    done = run_script("quickstart", "--data-dir", "data", "--raw-dir", "raw", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data holds the real ETL9G")
    assert not (tmp_path / "raw").exists()
