"""How scripts and their workers end, and files that are whole or not there."""

import argparse
import contextlib
import errno
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from files import atomic, machine
from files.command_line import InputError, at_least, run
from files.packages import OldPackage
from script_runs import run_script

SCRIPTS = Path(__file__).parents[1] / "scripts"
DOORS = sorted({path.stem for path in SCRIPTS.glob("*.py")} - {"optimization_config"})


@pytest.mark.parametrize("door", DOORS)
def test_every_script_explains_itself_and_refuses_a_flag_it_does_not_know(door, monkeypatch):
    """In lines of at most 80 characters, in which a long command goes on after a backslash."""
    monkeypatch.setenv("COLUMNS", "80")
    explained, refused = run_script(door, "--help"), run_script(door, "--no-such-flag")
    assert (explained.returncode, explained.stderr) == (0, "")
    assert max(map(len, explained.stdout.splitlines())) <= 80
    assert explained.stdout.startswith(f"usage: {door}.py")
    assert f"python scripts/{door}.py" in explained.stdout
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].startswith(f"{door}.py: error: ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such split"), 2, "no such split"),
        (FileNotFoundError("x is missing: make it"), 2, "x is missing: make it"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "x: No such file or directory"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"), 2, "x/y: Not a directory"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("can't allocate memory: 9 bytes\nmore"), 1, "not enough memory (can't allocate memory: 9 bytes)"),
        (FloatingPointError("the loss became nan"), 1, "the loss became nan"),
        (ModuleNotFoundError("", name="cv2"), 1, "the package cv2 is missing: pip install -r requirements.txt"),
        (OldPackage("numpy 1.2 is too old"), 1, "numpy 1.2 is too old"),
        (BrokenProcessPool("a process ended suddenly"), 1, "a process ended suddenly"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_what_a_user_can_cause_ends_with_one_line(error, code, line, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == code
    assert capsys.readouterr() == ("", f"error: {line}\n" if line else "")


@pytest.mark.parametrize("error", [ValueError("shape"), ImportError("cannot import name")])
def test_a_fault_of_the_program_is_not_hidden(error):
    def main() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        run(main)


def test_a_number_has_its_least_value():
    flags = argparse.ArgumentParser(exit_on_error=False)
    flags.add_argument("--top", type=at_least(1))
    flags.add_argument("--rate", type=at_least(0.5, float))
    assert flags.parse_args(["--top", "1", "--rate", "0.5"]) == argparse.Namespace(top=1, rate=0.5)
    for *words, message in (("--top", "0", "at least 1"), ("--top", "1.5", "int"), ("--rate", "nan", "at least 0.5")):
        with pytest.raises(argparse.ArgumentError, match=message):
            flags.parse_args(words)


def script(lines: str, **options) -> subprocess.Popen:
    start = f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom files.command_line import run\n"
    start += "from files.machine import begin_worker\nimport os, signal, time\n"
    start += "from concurrent.futures import ProcessPoolExecutor\n"
    environment = os.environ | {"PYTHONUNBUFFERED": "", "OPENBLAS_NUM_THREADS": "2"}  # output waits, as for users
    command = [sys.executable, "-c", start + lines]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_a_reader_that_goes_away_gets_no_traceback():
    """As in `python scripts/… | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = script("run(lambda: print('a line'))", stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode != 0


def test_numpy_multiplies_on_one_thread_in_scripts_and_their_workers():
    lines = """
import multiprocessing, numpy
from threadpoolctl import threadpool_info
def threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["prefix"] == "libscipy_openblas"]
def main():
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context, initializer=begin_worker) as pool:
        print(before, threads(), pool.submit(threads).result())
before = threads()
run(main)
"""
    process = script(lines, stdout=subprocess.PIPE)
    printed, error = process.communicate(timeout=60)
    if printed == "[] [] []\n":
        pytest.skip("this numpy has another library for its products")
    assert (printed, error) == ("[2] [1] [1]\n", "")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own ways")
def test_the_memory_of_arrays_serves_the_next_ones():
    """Twenty arrays of 2 MB, time and again: a script asks for new pages once, not every time."""
    lines = """
import numpy, resource
def main():
    pages = []
    for _ in range(9):
        several = [numpy.ones(1 << 18) for _ in range(20)]
        del several
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(pages[-1] - pages[0])
run(main)
"""
    printed, error = script(lines, stdout=subprocess.PIPE).communicate(timeout=60)
    assert error == ""
    assert int(printed) < 512  # of 4 KiB, in one array


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a\n", {"sys/fs/cgroup/a/cpu.max": "max 100000"}, math.inf),
        ("3:cpu,cpuacct:/docker/1\n0::/\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000"}, 2.0),  # a container's
        ("3:cpu:/one\n1:name=systemd:/\n", {"sys/fs/cgroup/cpu/one/cpu.cfs_quota_us": "100000"}, 1.0),
        ("3:cpu:/one\n", {"sys/fs/cgroup/cpu/one/cpu.cfs_quota_us": "-1"}, math.inf),
        ("4:cpuset:/one\n", {"sys/fs/cgroup/cpu/one/cpu.cfs_quota_us": "100000"}, math.inf),  # another controller's
        (None, {}, math.inf),  # not Linux
    ],
)
def test_a_container_s_quota_counts(tmp_path, monkeypatch, groups, files, quota):
    if groups is not None:
        files = files | {"proc/self/cgroup": groups}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        if name.endswith("quota_us"):
            (tmp_path / name).with_name("cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(tmp_path) == quota
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    assert machine.cores() == {0.5: 1, 1.0: 1, 1.5: 1, 2.0: 2, math.inf: 8}[quota]
    assert machine.quota_threads() == (0 if quota == math.inf else machine.cores())


def test_pytorch_keeps_within_a_container_s_quota():
    lines = """
import torch
from files import machine
machine.cpu_quota = lambda: 1.0
torch.set_num_threads(3)
run(lambda: print(torch.get_num_threads()))
"""
    assert script(lines, stdout=subprocess.PIPE).communicate(timeout=60)[0] == "1\n"


STAGE = """
import pathlib, signal, sys, time
from files.command_line import run
def main():
    signal.signal(signal.SIGINT, lambda *_: stopped.append(130))
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(143))
    stopped = []
    print("ready", flush=True)
    while not stopped:
        time.sleep(0.02)
    time.sleep(1.5)  # a step of training, and the checkpoint
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(stopped[0])
run(main)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stage_saves_its_work_before_the_script_that_started_it_ends(tmp_path, number, code):
    """Ctrl-C goes to both, as from a terminal; SIGTERM to the one that a cluster or a person knows of."""
    (tmp_path / "stage.py").write_text(f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\n{STAGE}")
    lines = f"""
import pathlib
from files import command_line
command_line.SCRIPTS = pathlib.Path({str(tmp_path)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
run(lambda: command_line.run_stage("train", "stage.py", {str(tmp_path / "checkpoint")!r}))
"""
    process = script(lines, stdout=subprocess.PIPE, start_new_session=True)
    while process.stdout.readline() != "ready\n":
        pass
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    errors = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == code
    assert (tmp_path / "checkpoint").read_text() == "saved"
    assert errors[0] == "waiting for train to save its work …"
    assert errors[-1] == f"train ended with exit code {code}; the same command continues from here"


WITH_WORKERS = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
def process(_):
    time.sleep(0.01)
    return os.getpid()
def main():
    with ProcessPoolExecutor(2, initializer=begin_worker) as pool:
        ready = set()
        while len(ready) < 2:  # the one that starts later too
            ready |= set(pool.map(process, range(8)))
        jobs = [pool.submit(time.sleep, 60) for _ in range(2)]
        print('ready', flush=True)
        jobs[0].result()
run(main)
"""


@pytest.mark.parametrize(("how", "code"), [("ctrl-c", 130), ("kill", -signal.SIGKILL)])
def test_a_script_that_is_ended_takes_its_workers_along_without_a_word(how, code):
    process = script(WITH_WORKERS, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline() == "ready\n"
        if how == "kill":
            os.kill(process.pid, signal.SIGKILL)
        else:  # as a terminal does: to the script and its processes
            os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")  # which ends when nobody holds the other end any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code


def test_a_worker_that_is_asked_to_end_in_the_midst_of_a_job_takes_no_other():
    """A pool takes the end of the job for its answer; the pool's own end would wait for that worker for ever."""
    with ProcessPoolExecutor(1, initializer=machine.begin_worker) as pool:
        job = pool.submit(time.sleep, 60)
        while not job.running():
            time.sleep(0.01)
        time.sleep(0.5)
        (worker,) = pool._processes.values()
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(30)
        assert worker.exitcode == 128 + signal.SIGTERM


def test_sigterm_ends_a_script_without_a_word(tmp_path):
    lines = f"""
import pathlib
from files.atomic import atomic_write
def main():
    with atomic_write(pathlib.Path({str(tmp_path / "file")!r})) as temporary:
        temporary.write_text("half")
        signal.raise_signal(signal.SIGTERM)
run(main)
"""
    process = script(lines)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 143
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic.atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    atomic.write_text(path, "漢字\n")
    assert path.read_bytes() == "漢字\n".encode()


@pytest.mark.parametrize("error", [ValueError("fault"), KeyboardInterrupt(), SystemExit(1)])
def test_a_file_that_fails_half_way_leaves_the_old_one(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_vanishes_while_it_is_written_is_a_failure_not_bad_input(tmp_path):
    failing = pytest.raises(OSError, match=r"file cannot be written: .* vanished")
    with failing as caught, atomic.atomic_write(tmp_path / "folder" / "file") as temporary:
        temporary.write_text("half")
        shutil.rmtree(tmp_path / "folder")
    assert not isinstance(caught.value, FileNotFoundError)  # which would end a script with exit code 2
    assert not list(tmp_path.rglob("*file*"))
