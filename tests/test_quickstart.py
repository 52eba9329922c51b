"""The quickstart: the whole pipeline at its smallest, as a person would start it."""

import contextlib
import functools
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import quickstart
from characters.names import true_character
from data.prepared import PreparedDataset
from engine import devices
from evaluation import budget, speed
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
    """Every stage hands on to the next, and after a hundred steps of training it reads far better than chance."""
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


def test_as_many_epochs_as_fit_into_the_time(tmp_path, monkeypatch, tiny_dataset, capsys):
    """Training at 100 samples a second and drawing at 20, twice each, of sets of seven: two of a kana."""
    monkeypatch.setattr(speed, "training", lambda *_, **__: 100.0)
    monkeypatch.setattr(speed, "drawing", lambda: 20.0)
    data, sets = tiny_dataset("あ一二人語"), {"sets": 2, "passes": 2}
    validated = len(PreparedDataset(data).splits["validation"])
    assert validated
    for cores in (1, 4):
        monkeypatch.setattr(budget, "cores", lambda cores=cores: cores)
        made = budget.plan("train_hiercode", data, 60, {}, **sets)
        start, epoch = 10 + 14 / (20 * cores), 14 / 100 + validated / 300 + 14 / (2 * 20 * cores)
        assert made.samples == 14
        assert made.start == pytest.approx(start)
        assert made.rate == pytest.approx(14 / epoch)
        assert made.epochs == int((60 - start) / epoch)
        assert 58 < made.seconds <= 60
    assert budget.plan("train_hiercode", data, 0, {}, **sets).epochs == budget.LEAST_EPOCHS
    given = Namespace(model_dir=tmp_path, data_dir=data, minutes=10, epochs=None)
    epochs = quickstart.planned(given, {}, 60)
    assert epochs == budget.plan("train_hiercode", data, 60, {}, quickstart.FRESH, quickstart.PASSES).epochs > 2
    assert f": {epochs} epochs of 28 samples, in about 1 minutes" in capsys.readouterr().out
    monkeypatch.setattr(speed, "training", lambda *_, **__: 50.0)  # a busy machine
    assert quickstart.planned(given, {}, 60) == epochs  # the run that was begun is continued
    given.minutes = 20
    assert quickstart.planned(given, {}, 60) < epochs


@pytest.mark.parametrize(("fast", "minutes"), [(True, 10), (False, 20)])
def test_without_fast_bf16_it_takes_twice_as_long(fast, minutes, monkeypatch, tmp_path, capsys):
    """Unless a person says how long; stopped before the first stage."""

    def stop(given):
        raise InterruptedError(given.minutes)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "fast_bf16", lambda _: fast)
    monkeypatch.setattr(quickstart, "pipeline", stop)
    for flags, expected in (([], minutes), (["--minutes", "7"], 7)):
        monkeypatch.setattr(sys, "argv", ["quickstart.py", *flags])
        with pytest.raises(InterruptedError, match=f"^{expected}"):
            quickstart.main()
        assert capsys.readouterr().out.endswith(f"reads images with it. It takes about {expected} minutes.\n")
