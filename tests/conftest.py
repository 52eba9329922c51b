"""Data that several tests share: a dataset so small that a narrow CNN learns it in a few steps, and a stand-in."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

import prepare_dataset
from data.prepared import CHUNK_NAME, MAPPING_FILE, METADATA_FILE, mapping_row, split_sets
from images.normalization import CANVAS, CONTENT, CONTRACT, place
from in_process import exit_code
from records.etl9g import SETS_PER_FILE

pytest_plugins = ["script_runs"]


def draw_sample(character: str, random: np.random.Generator) -> np.ndarray:
    """One noisy sample of a made-up shape that stands for a character: uint8 (64, 64), 255 = ink, in the contract."""
    corners = np.random.default_rng(ord(character)).uniform(8, 56, (7, 2))  # the same for every sample of the class
    points = corners + random.normal(0, 1.5, corners.shape)
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, 255, int(random.integers(2, 5)), cv2.LINE_AA)
    noisy = np.clip(canvas / 255 + random.normal(0, 0.05, canvas.shape), 0, 1).astype(np.float32)
    return (place(noisy[None])[0] * 255 + 0.5).astype(np.uint8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that of two processes neither waits long for the other at the end."""
    items.sort(key=lambda item: item.path.name not in {"test_crashes.py", "test_training.py", "test_web.py"})


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Also where the tests were started in the background, with Ctrl-C ignored: scripts would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny data gains nothing by more threads, and they wait for each other endlessly where the cores are busy."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the scripts that tests start


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A factory: tiny_dataset(classes, sets, samples_per_set, seed) writes a prepared dataset and returns its folder.

    Each of the sets holds samples_per_set samples of every class, and each call makes a folder of its own. The six
    sets of the default are four for training, one to validate and one to test. A class has the same shape in all
    datasets; the seed only varies the samples.
    """

    def make(classes: str = "あいう亜腕", sets: int = 6, samples_per_set: int = 4, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("dataset")
        random = np.random.default_rng(seed)
        labels = np.tile(np.arange(len(classes), dtype=np.int16), sets * samples_per_set)
        set_of = np.repeat(np.arange(sets, dtype=np.int16), len(classes) * samples_per_set)
        images = np.stack([draw_sample(classes[label], random) for label in labels])
        files = []
        for number in range(1, -(-sets // SETS_PER_FILE) + 1):
            rows = set_of // SETS_PER_FILE == number - 1
            arrays = {"images": images[rows], "labels": labels[rows], "sets": set_of[rows]}
            np.savez(folder / CHUNK_NAME.format(number), **arrays)
            count = int(rows.sum())
            files.append({"file": f"ETL9G_{number:02d}", "sha256": "", "mark": "test shapes", "records": count})
        table = [mapping_row(label, char) for label, char in enumerate(classes)]
        metadata = {
            "source": "test shapes",
            "generator": "test shapes",
            "samples": len(images),
            "classes": len(classes),
            "damaged_records": 0,
            "normalisation": {"contract": CONTRACT, "version": 1, "canvas": CANVAS, "content": CONTENT},
            "splits": split_sets(list(range(sets))),
            "files": files,
        }
        (folder / MAPPING_FILE).write_text(json.dumps({"classes": table}, ensure_ascii=False), encoding="utf-8")
        (folder / METADATA_FILE).write_text(json.dumps(metadata, ensure_ascii=False), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One stand-in of four sets, seed 0, drawn by two processes of the script: its folder, and what was printed.

    Where pytest-xdist shares the tests among processes, the first that asks draws it for all.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, printed = shared / "standin", shared / "standin.txt"
    with FileLock(shared / "standin.lock"):
        if not printed.is_file():
            script = Path(__file__).parents[1] / "scripts" / "synthesize_etl9g.py"
            command = [sys.executable, script, "--sets", "4", "--out", folder, "--processes", "2"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout, encoding="utf-8")
    return folder, printed.read_text(encoding="utf-8")


@pytest.fixture
def square_font(tmp_path: Path) -> Path:
    """A font with the characters あ and 亜 alone, each a filled square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord("あ"): "square", ord("亜"): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupPost()
    builder.save(tmp_path / "square.ttf")
    return tmp_path / "square.ttf"


@pytest.fixture
def prepare(tmp_path, capsys) -> Callable[..., tuple[int, str, str]]:
    """A function: exit code, stdout and stderr of prepare_dataset.py, which prepares into tmp_path / "dataset"."""

    def prepare(*words: object) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            command = ["prepare_dataset.py", *words, "--output-dir", tmp_path / "dataset", "--processes", 1]
            patch.setattr(sys, "argv", [*map(str, command)])
            return exit_code(prepare_dataset.main), *capsys.readouterr()

    return prepare
