"""Whatever is killed, and whenever: the same command again ends with the same files, byte for byte, and no others.

In CI each script is killed once, at a random file; `python -m pytest tests/test_crashes.py -m long` kills each twenty
times, at a random file or at a random time.
"""

import functools
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from script_runs import TRAININGS, Case, kill

CONVERSIONS = ["convert_to_onnx", "convert_to_safetensors", "hub_folder", "quantize_model"]
CASES = ["synthesize_etl9g", "prepare_dataset", "prepare_images", *TRAININGS, *CONVERSIONS]
SLOW = ["int8_onnx"]  # in the long form only
TIMES = 20


def killed_at_a_file(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 as it is about to open, rename or remove its Nth file."""
    number = dice.randint(1, case.events)
    run = case.start_until(folder, number, kill)
    assert run.finish() == -signal.SIGKILL, run.errors
    return f"file event {number} of {case.events}"


def killed_at_a_time(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 in the midst of whatever it does."""
    for _ in range(20):
        run, seconds = case.start(folder), dice.uniform(0, case.seconds)
        run.process.join(seconds)
        run.send(signal.SIGKILL)
        if run.finish() == -signal.SIGKILL:
            return f"after {seconds:.3f} s of {case.seconds:.3f} s"
        shutil.rmtree(folder)  # it was quicker this time
    raise AssertionError("it ended before it could be killed, twenty times")


@pytest.mark.parametrize("name", CASES)
def test_killed_once(name, undisturbed, tmp_path):
    case = undisturbed(name)
    print(killed_at_a_file(case, tmp_path / "killed", random.Random()))
    case.ends_alike(tmp_path / "killed")


@pytest.mark.long
@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in CASES + SLOW for seed in range(TIMES)])
def test_killed_twenty_times(name, seed, undisturbed, tmp_path):
    """Every third run is killed twice: the second time as it goes on."""
    case, dice = undisturbed(name), random.Random(f"{name} {seed}")
    how = killed_at_a_time if seed % 2 else killed_at_a_file
    print(how(case, tmp_path / "killed", dice))
    if seed % 3 == 2:
        again = case.start(tmp_path / "killed")
        again.process.join(dice.uniform(0, case.seconds))
        again.send(signal.SIGKILL)
        assert again.finish() in (0, -signal.SIGKILL), again.errors
    case.ends_alike(tmp_path / "killed")


def test_another_interpreter_makes_the_same_files(undisturbed, tmp_path):
    """Where sets and dicts of other orders would show: in the codes of characters, and in a pickle."""
    undisturbed("train_hiercode").ends_alike(tmp_path / "fresh", fresh=True)


def pause(mark: Path) -> None:
    """Leaves a mark and waits, for SIGCONT or SIGKILL."""
    mark.touch()
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model"])
def test_a_second_writer_is_refused(name, undisturbed, tmp_path):
    """And disturbs nothing; one that comes after the first was killed is not refused."""
    case, folder, paused = undisturbed(name), tmp_path / "shared", tmp_path / "paused"
    first = case.start_until(folder, case.events // 2, functools.partial(pause, paused))
    while not paused.exists():
        assert first.process.is_alive(), first.errors
        time.sleep(0.01)
    second = case.start(folder)
    assert second.finish() == 2
    assert len(second.errors.splitlines()) == 1
    assert "is being written by another process: wait for its end, or choose another folder" in second.errors
    first.send(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL
    case.ends_alike(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["synthesize_etl9g", "train_qat", "convert_to_safetensors"])
def test_asked_to_end(name, number, undisturbed, tmp_path):
    """Ctrl-C, and SIGTERM as clusters send it: what was begun goes at once, and no traceback comes."""
    case, folder = undisturbed(name), tmp_path / "asked"
    run = case.start_until(folder, case.events // 2, functools.partial(signal.raise_signal, number))
    assert run.finish() == 128 + number, run.errors
    assert run.errors in ("", "\nstopping after this step …\n")
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    case.ends_alike(folder)
