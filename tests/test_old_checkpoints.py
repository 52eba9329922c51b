"""Files written before the redesign of November 2026 still load, give the same logits, and are resumed.

old_checkpoints/ holds what the code of commit 7dc4b2d wrote, packed by xz: of each training script, as narrow as it can
be, a checkpoint after one epoch on `tiny_dataset(CLASSES, sets=3, samples_per_set=2)`, its numbers then rounded to
three significant bits so that they pack well; two INT8 files; the logits of these, and of the checkpoints after a
second epoch; and the dataset's images, which today's normalisation would make otherwise.
"""

import contextlib
import io
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from data import augmentation
from data.prepared import CHUNK_NAME
from quantization.files import load_trained
from script_runs import TRAININGS, run_script

OLD = Path(__file__).with_name("old_checkpoints")
LOGITS = np.load(OLD / "logits.npz")
FILES = sorted(path.stem for path in OLD.glob("*.pt*.xz"))
CLASSES = "あいうえおん亜漢字腕語明"
EVERY = ["--batch-size", 8, "--hiragana-repeats", 1, "--device", "cpu", "--precision", "fp32", "--epochs", 2]
OWN = {
    "train_etl9g_model": ["--width", 0.126, "--embedding", 4, "--ema-decay", 0],
    "train_radical_rnn": ["--width", 0.05, "--hidden", 4, "--embedding", 4],
    "train_hiercode": ["--width", 0.05, "--dimensions", 4],
    "train_vit": ["--width", 8, "--depth", 1, "--embedding", 4],
    "train_qat": ["--calibration-images", 12, "--model-path", "float.pth"],  # HierCode's checkpoint
}


def unpacked(name: str, folder: Path) -> Path:
    (folder / name).write_bytes(lzma.decompress((OLD / f"{name}.xz").read_bytes()))
    return folder / name


def logits_of(path: Path) -> np.ndarray:
    """The logits (6, classes) of six checkered pictures."""
    number, y, x = np.ogrid[:6, :64, :64]
    pictures = ((x * (number + 1) + y * (number + 3)) // 8 % 3 == 0).astype(np.float32)
    with torch.inference_mode():
        return load_trained(path)[0](torch.from_numpy(pictures)[:, None]).numpy()


def old_dataset(tiny_dataset) -> Path:
    folder = tiny_dataset(CLASSES, sets=3, samples_per_set=2)
    chunk = folder / CHUNK_NAME.format(1)
    images = np.load(io.BytesIO(lzma.decompress((OLD / "images.npy.xz").read_bytes())))
    np.savez(chunk, **dict(np.load(chunk)) | {"images": images})
    return folder


def test_there_is_a_file_of_every_architecture():
    scripts = {f"{script.removeprefix('train_')}.pt" for script in TRAININGS}
    assert scripts | {"quantized_cnn_int8.pth", "quantized_hiercode_int8.pth"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_logits_are_the_same(name, tmp_path):
    np.testing.assert_allclose(logits_of(unpacked(name, tmp_path)), LOGITS[name], rtol=0, atol=1e-5)


@contextlib.contextmanager
def with_the_noise_of_then() -> Iterator[None]:
    """The augmentation's noise was half as strong when the weights were made."""
    augmentation.NOISE = 0.06
    yield


@pytest.mark.parametrize("script", TRAININGS)
def test_a_second_epoch_gives_the_weights_that_it_gave(script, tiny_dataset, tmp_path):
    """Within a fiftieth of what the epoch changes, for other processors sum in other orders: without the optimizer's
    state it would be a fourteenth or more."""
    name = f"{script.removeprefix('train_')}.pt"
    unpacked("hiercode.pt", tmp_path).rename(tmp_path / "float.pth")
    unpacked(name, tmp_path).rename(tmp_path / "checkpoint_epoch_001.pt")
    folders = ["--data-dir", old_dataset(tiny_dataset), "--model-dir", ".", "--checkpoint-dir", "."]
    resume = ["--resume-from", "checkpoint_epoch_001.pt"]
    done = run_script(script, *folders, *EVERY, *OWN[script], *resume, cwd=tmp_path, within=with_the_noise_of_then)
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    before, after = LOGITS[name], LOGITS[f"{name}, resumed"]
    largest = np.abs(logits_of(tmp_path / "checkpoint_epoch_002.pt") - after).max()
    print(f"largest difference {largest:g}, changed by the epoch {np.abs(after - before).max():g}")
    assert largest < 0.02 * np.abs(after - before).max()
