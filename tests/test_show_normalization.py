"""The sheet shows each picture and, beside it, what the models see."""

import numpy as np
from PIL import Image

from images.normalization import CANVAS, normalize
from script_runs import run_script
from show_normalization import CELL, GAP, sheet
from test_normalization import drawing


def test_beside_each_picture_is_what_becomes_of_it():
    pictures = [drawing(char) for char in "永あ" * 6]
    whole = np.asarray(sheet(pictures))
    assert whole.shape == (2 * (CELL + GAP), 10 * (2 * CELL + 2 * GAP))
    top, left = CELL + GAP + (CELL - CANVAS) // 2, 2 * CELL + 2 * GAP + CELL  # the twelfth: second row, second column
    expected = 255 - 255 * normalize(pictures[11])[0]
    assert np.abs(whole[top : top + CANVAS, left : left + CANVAS] - expected).max() <= 1
    assert (whole[CELL + GAP :, 2 * (2 * CELL + 2 * GAP) :] == 200).all()  # no thirteenth


def test_images_and_folders_become_a_file(tmp_path):
    (tmp_path / "drawings").mkdir()
    for name in ("a.png", "drawings/b.png"):
        Image.fromarray(drawing("永").astype(np.uint8)).save(tmp_path / name)
    done = run_script("show_normalization", "a.png", "drawings", "--output", "seen.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "2 pictures: seen.png\n")
    assert Image.open(tmp_path / "seen.png").width == 2 * (2 * CELL + 2 * GAP)
    done = run_script("show_normalization", "none.png", "--output", "none_seen.png", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none_seen.png").exists()
