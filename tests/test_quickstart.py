"""The quickstart: the whole pipeline at its smallest, as a person would start it."""

import contextlib
import functools
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import quickstart
from characters.names import true_character
from engine import devices, timing
from script_runs import ScriptRun, few_characters, forked_stages, run_script


@pytest.mark.parametrize(
    ("path", "character"),
    [
        ("U+6F22/01.png", "漢"),
        ("漢/photo.jpg", "漢"),
        ("photos/あ.png", "あ"),
        ("photos/U+3042.png", "あ"),
        ("U+0041/a.png", "A"),
        ("photos/me.png", None),
        ("1/a.png", None),  # says nothing
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
    """Every stage hands on to the next, and after some steps of training it reads far better than chance."""
    flags, folder = ["--sets", 8, "--epochs", 24, "--seed", 5, "--no-teacher"], tmp_path / "here"
    run = ScriptRun("quickstart", flags, folder, functools.partial(small, ""))
    assert run.finish() == 0, run.errors
    models = folder / "models" / "quickstart"
    report = json.loads((models / "report.json").read_text(encoding="utf-8"))
    assert (report["source"], report["teacher"], report["epochs"]) == ("KanjiVG stand-in", False, 24)
    assert report["unseen_writers"]["samples"] == 60
    assert report["bytes"] == (models / "hiercode_int8.onnx").stat().st_size
    assert report["unseen_writers"]["top5"] > 25
    assert report["unseen_writers"]["top1"] > 10  # 1.7 by chance
    assert set(report["seconds"]) == {
        *("draw", "prepare", "train", "quantise", "export", "evaluate", "recognise", "all")
    }
    assert report["recognised"]["images"] == report["recognised"]["named"] == quickstart.SHOWN
    with Image.open(models / "recognised.png") as picture:
        assert picture.width > 500
    # What is done is not done twice, and a stage that fails ends it.
    again = ScriptRun("quickstart", flags, folder, functools.partial(small, "convert_int8_pytorch_to_quantized_onnx"))
    assert again.finish() == 3, again.errors
    assert again.errors.splitlines()[-1] == "export ended with exit code 3; the same command continues from here"
    printed = (again.output / "out").read_text(encoding="utf-8")
    assert "resumed from" in printed
    assert "epoch  24/24" not in printed


def test_real_data_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text(json.dumps({"source": "ETL9G"}))
    done = run_script("quickstart", "--data-dir", "data", "--raw-dir", "raw", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data holds the real ETL9G")
    assert not (tmp_path / "raw").exists()


def test_a_run_that_is_continued_keeps_its_time(tmp_path):
    given = Namespace(model_dir=tmp_path, minutes=10, asked=None)
    first = quickstart.training_minutes(given, seconds=30)
    assert first == pytest.approx(10 * (1 - quickstart.AFTER) - 0.5)
    given.minutes = 17.5  # another program has a core now
    assert quickstart.training_minutes(given, seconds=2) == first
    given.asked = given.minutes = 20
    assert quickstart.training_minutes(given, seconds=0) == pytest.approx(20 * (1 - quickstart.AFTER))
    for minutes, left in ((1, 1), (3, 1.8), (60, 57.5)):  # what comes afterwards takes as long after all trainings
        given.asked = given.minutes = minutes
        assert quickstart.training_minutes(given, seconds=30) == pytest.approx(left)


@pytest.mark.parametrize(("fast", "minutes"), [(True, 10), (False, 20)])
def test_without_fast_bf16_it_takes_twice_as_long(fast, minutes, monkeypatch, tmp_path, capsys):
    """Unless a person says how long; stopped before the first stage."""

    def stop(given):
        raise InterruptedError(given.minutes)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "fast_bf16", lambda _: fast)
    monkeypatch.setattr(timing, "core_is_taken", lambda: False)
    monkeypatch.setattr(quickstart, "pipeline", stop)
    for flags, expected in (([], minutes), (["--minutes", "7"], 7)):
        monkeypatch.setattr(sys, "argv", ["quickstart.py", *flags])
        with pytest.raises(InterruptedError, match=f"^{expected}"):
            quickstart.main()
        assert capsys.readouterr().out.endswith(f"reads images. It takes about {expected} minutes.\n")


LEFT = " Another program has a core, which is left to it."


@pytest.mark.parametrize(
    ("cores", "threads", "flags", "left", "minutes"),
    [
        (2, None, [], "1", "17.5"),
        (8, None, [], "7", "11.4"),
        (2, None, ["--minutes", "7"], "1", "7"),
        (2, "2", [], "2", "10"),  # somebody said how many
    ],
)
def test_a_core_that_another_program_has_is_left_to_it(
    cores, threads, flags, left, minutes, monkeypatch, tmp_path, capsys
):
    def stop(given):
        raise InterruptedError(given.minutes)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "fast_bf16", lambda _: True)
    monkeypatch.setattr(timing, "core_is_taken", lambda: True)
    monkeypatch.setattr(quickstart, "cores", lambda: cores)
    monkeypatch.setattr(quickstart, "pipeline", stop)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *flags])
    monkeypatch.setenv("OMP_NUM_THREADS", threads or "")
    if not threads:
        monkeypatch.delenv("OMP_NUM_THREADS")
    with pytest.raises(InterruptedError):
        quickstart.main()
    assert os.environ["OMP_NUM_THREADS"] == left
    said = " It takes about {} minutes.\n" if threads else LEFT + " It takes about {} minutes.\n"
    assert capsys.readouterr().out.endswith(said.format(minutes))
