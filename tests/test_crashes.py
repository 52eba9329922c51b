"""Whatever is killed, and whenever: the same command again ends with the same files, byte for byte, and no others.

In CI each script is killed once at a random place; `python -m pytest tests/test_crashes.py -m long` kills 200 times.
"""

import contextlib
import functools
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from script_runs import CASES, CONVERSIONS, OUTPUT, SOME_CASES, TRAININGS, Case, kill, pause, snapshot

LONG = {"synthesize_etl9g": 18, "prepare_dataset": 18} | dict.fromkeys(TRAININGS, 20) | dict.fromkeys(CONVERSIONS, 11)


def killed_at_a_file(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 as it is about to open, rename or remove its Nth file."""
    number = dice.randint(1, case.events)
    run = case.start_until(folder, number, kill)
    assert run.finish() == -signal.SIGKILL, run.errors
    return f"file event {number} of {case.events}"


def killed_at_a_time(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 in the midst of whatever it does."""
    longest = case.seconds
    for _ in range(20):
        run, seconds = case.start(folder), dice.uniform(0, longest)
        run.process.join(seconds)
        run.send(signal.SIGKILL)
        if run.finish() == -signal.SIGKILL:
            return f"after {seconds:.3f} s of {longest:.3f} s"
        longest = min(longest, run.seconds)
        shutil.rmtree(folder)  # it was quicker this time
    raise AssertionError("it ended before it could be killed, twenty times")


@pytest.mark.parametrize("name", SOME_CASES)
def test_killed_once(name, undisturbed, tmp_path):
    case = undisturbed(name)
    print(killed_at_a_file(case, tmp_path / "killed", random.Random()))
    case.ends_alike(tmp_path / "killed")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "convert_to_safetensors" else pytest.mark.long) for n in CASES]
)
def test_another_interpreter_makes_the_same_files(name, undisturbed, tmp_path):
    undisturbed(name).ends_alike(tmp_path / "fresh", fresh=True)


@pytest.mark.long
@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in CASES for seed in range(LONG[name])])
def test_killed_200_times(name, seed, undisturbed, tmp_path):
    """Every third run is killed twice: the second time as it goes on."""
    case, dice = undisturbed(name), random.Random(f"{name} {seed}")
    how = killed_at_a_time if seed % 2 else killed_at_a_file
    print(how(case, tmp_path / "killed", dice))
    if seed % 3 == 2:
        again = case.start(tmp_path / "killed")
        again.process.join(dice.uniform(0, case.seconds))
        if again.process.is_alive():
            again.send(signal.SIGKILL)
        assert again.finish() in (0, -signal.SIGKILL), again.errors
    case.ends_alike(tmp_path / "killed")


@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "train_qat"])
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
@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_qat", "convert_to_safetensors"])
def test_asked_to_end(name, number, undisturbed, tmp_path):
    """Ctrl-C, and SIGTERM as clusters send it: what was begun goes at once, and no traceback comes."""
    case, folder = undisturbed(name), tmp_path / "asked"
    run = case.start_until(folder, case.events // 2, functools.partial(signal.raise_signal, number))
    assert run.finish() == 128 + number, run.errors
    assert run.errors in ("", "\nstopping after this step …\n")
    assert not [path for path in folder.rglob(".*") if path.is_file()]
    case.ends_alike(folder)


@pytest.mark.parametrize("name", SOME_CASES)
def test_no_name_is_given_before_the_disk_has_the_file(name, undisturbed):
    """So that a power cut leaves files that are whole: each is flushed as it is, then named, then its folder flushed.

    What is named on the way, in a folder of its own, may be flushed before its first name.
    """
    case = undisturbed(name)
    named, flushed = set(), []
    for process in {row["process"] for row in case.disk}:
        rows = [row for row in case.disk if row["process"] == process]
        for row, following in zip(rows, [*rows[1:], {"what": "", "path": ""}], strict=True):
            if row["what"] == "fsync":
                flushed.append(row["file"])
                continue
            assert row["file"] in flushed, row  # the same inode, not written to since
            named.add(Path(row["path"]))
            while following["what"] == "rename":
                following = rows[rows.index(following) + 1]
            assert (following["what"], following["path"]) == ("fsync", str(Path(row["path"]).parent)), row
    made = {tuple(path.parts[-2:]) for path in named}
    assert {tuple((OUTPUT / Path(file)).parts[-2:]) for file in case.files} <= made


@contextlib.contextmanager
def jumping_clock(seed: int) -> Iterator[None]:
    """A wall clock that jumps by weeks, back and forth, and a monotonic one that leaps forward as after a sleep."""
    dice, wall, monotonic = random.Random(seed), time.time, time.monotonic
    leaps = [0.0]

    def leaping() -> float:
        leaps[0] += dice.choice([0, 0, 0, 1e5])
        return monotonic() + leaps[0]

    time.time = lambda: wall() + dice.uniform(-4e6, 4e6)
    time.time_ns = lambda: int(time.time() * 1e9)
    time.monotonic = leaping
    try:
        yield
    finally:
        time.time, time.monotonic = wall, monotonic


@pytest.mark.parametrize("name", ["prepare_dataset", "train_etl9g_model", "convert_to_safetensors"])
def test_no_clock_matters(name, undisturbed, tmp_path):
    """Neither the clock nor the times of files, which lie in the future, in the past, and in the wrong order."""
    case, folder, dice = undisturbed(name), tmp_path / "folder", random.Random(0)
    run = case.start_until(folder, case.events // 2, kill)
    assert run.finish() == -signal.SIGKILL, run.errors
    for path in folder.rglob("*"):
        when = time.time() + dice.uniform(-1e8, 1e8)
        os.utime(path, (when, when))
    again = case.start(folder, functools.partial(jumping_clock, 1))
    assert again.finish() == 0, again.errors
    assert snapshot(folder) == case.files
