"""The quickstart: the whole pipeline at its smallest, as a person would start it."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quickstart
from named_characters import true_character
from recognition_picture import CELL, RecognitionPicture

SCRIPT = Path(quickstart.__file__)


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


def test_the_picture_marks_right_and_wrong():
    sheet = RecognitionPicture()
    for folder in ("漢", "U+5B57", "photos"):
        sheet.add(Path(folder) / "1.png", np.zeros((80, 60), np.float32), [("漢", 0.9), ("字", 0.1)])
    picture = np.asarray(sheet.drawn())
    frames = [picture[(CELL + 22) * line + 4 + 10, x + 7] for line, x in ((0, 0), (1, 0), (0, 7 * CELL))]
    right, wrong, unknown = (tuple(int(v) for v in frame) for frame in frames)
    assert right[1] > right[0]  # green
    assert wrong[0] > wrong[1]  # red
    assert unknown[0] == unknown[1] == unknown[2]  # grey


def test_the_whole_pipeline(standin, tmp_path):
    """Four sets and two epochs: too little to read, enough to see that every stage hands on to the next."""
    raw, _ = standin
    folders = ["--raw-dir", raw, "--data-dir", "data", "--model-dir", "models"]
    size = ["--sets", "4", "--epochs", "2", "--seed", "5"]
    done = subprocess.run([sys.executable, SCRIPT, *folders, *size], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "models" / "report.json").read_text(encoding="utf-8"))
    assert report["samples"] == 4 * 3036
    assert report["source"] == "KanjiVG stand-in"
    assert report["unseen_writers"]["samples"] == 3036
    assert report["unseen_writers"]["top5"] > 0.5  # three times chance, after some hundred steps
    assert report["unseen_writers"]["top5"] >= report["unseen_writers"]["top1"]
    stages = {"synthesise", "prepare", "train", "export", "evaluate", "recognise", "all"}
    assert set(report["seconds"]) == stages
    assert report["recognised"]["images"] == report["recognised"]["named"] == quickstart.SHOWN
    with Image.open(tmp_path / "models" / "recognised.png") as picture:
        assert picture.width > 500
    # What is done is not done twice; what comes after the training is the same again, and is not waited for.
    command = [sys.executable, SCRIPT, *folders, *size]
    again = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    printed = "".join(itertools.takewhile(lambda line: not line.startswith("--- export: "), again.stdout))
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate()
    assert "resumed from" in printed
    assert "--- train took" in printed


def test_real_data_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text(json.dumps({"source": "ETL9G"}))
    command = [sys.executable, SCRIPT, "--data-dir", "data", "--raw-dir", "raw", "--model-dir", "models"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: data holds the real ETL9G")
    assert not (tmp_path / "raw").exists()
