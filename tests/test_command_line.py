"""command_line.py and atomic_file.py: how scripts end, and files that are whole or not there."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from files import atomic, workers
from files.command_line import InputError, run

SCRIPTS = Path(__file__).parents[1] / "scripts"


def ends(error: BaseException) -> None:
    def main() -> None:
        raise error

    run(main)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such split"), 2, "error: no such split\n"),
        (FileNotFoundError("x is missing: make it"), 2, "error: x is missing: make it\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2, "error: x: No such file or directory\n"),
        (FileExistsError(errno.EEXIST, "File exists", "x"), 2, "error: x: File exists\n"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"), 2, "error: x/y: Not a directory\n"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 2, "error: x: Is a directory\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "error: x: Permission denied\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n"),
        (OSError("x cannot be written"), 1, "error: x cannot be written\n"),
        (MemoryError(), 1, "error: not enough memory\n"),
        (MemoryError("9 GiB"), 1, "error: not enough memory (9 GiB)\n"),
        (FloatingPointError("the loss became nan"), 1, "error: the loss became nan\n"),
        (
            ModuleNotFoundError("No module named 'cv2'", name="cv2"),
            1,
            "error: the package cv2 is missing: pip install -r requirements.txt\n",
        ),
        (BrokenProcessPool("a process ended suddenly"), 1, "error: a process ended suddenly\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_user_can_cause_ends_with_one_line(error, code, line, capsys):
    with pytest.raises(SystemExit) as ended:
        ends(error)
    assert ended.value.code == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("error", [ValueError("shape"), RuntimeError("bug"), KeyError("x"), AssertionError()])
def test_a_fault_of_the_program_is_not_hidden(error):
    with pytest.raises(type(error)):
        ends(error)


def test_a_main_that_ends_well_returns():
    called = []
    assert run(lambda: called.append(1)) is None
    assert called == [1]


def script(lines: str, **options) -> subprocess.Popen:
    code = f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom files import command_line, workers\n{lines}"
    environment = os.environ | {"PYTHONUNBUFFERED": ""}  # output waits for the end, as it does for users
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_a_reader_that_goes_away_gets_no_traceback():
    """As in `python scripts/… | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = script("command_line.run(lambda: print('a line'))", stdout=writing)
    os.close(writing)
    _, error = process.communicate(timeout=60)
    assert error == ""
    assert process.returncode != 0


def test_at_its_exit_python_searches_nothing_for_cycles():
    """What is frozen is not searched; a second or two after PyTorch."""
    lines = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count(), len(gc.get_objects())))\n"
    process = script(lines + "command_line.run(lambda: None)", stdout=subprocess.PIPE)
    frozen, left = process.communicate(timeout=60)[0].split()
    assert int(frozen) > 10 * int(left)


def test_numpy_multiplies_on_one_thread_in_scripts_and_their_workers():
    lines = """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, numpy
from threadpoolctl import threadpool_info
def threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["prefix"] == "libscipy_openblas"]
def main():
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context, initializer=workers.begin_worker) as pool:
        print(before, threads(), pool.submit(threads).result())
before = threads()
command_line.run(main)
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "2")
        process = script(lines, stdout=subprocess.PIPE)
    printed, error = process.communicate(timeout=60)
    if printed == "[] [] []\n":
        pytest.skip("this numpy has another library for its products")
    assert (printed, error) == ("[2] [1] [1]\n", "")


def test_ctrl_c_ends_worker_processes_without_a_word():
    lines = """
from concurrent.futures import ProcessPoolExecutor
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
def process(_):
    time.sleep(0.01)
    return os.getpid()
def main():
    with ProcessPoolExecutor(2, initializer=workers.begin_worker) as pool:
        ready = set()
        while len(ready) < 2:  # the one that starts later too
            ready |= set(pool.map(process, range(8)))
        job = pool.submit(time.sleep, 60)
        print('ready', flush=True)
        job.result()
command_line.run(main)
"""
    process = script(lines, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the script and its processes
    printed, error = process.communicate(timeout=30)
    assert (process.returncode, printed, error) == (130, "", "")


def test_workers_end_with_a_script_that_was_killed():
    lines = """
from concurrent.futures import ProcessPoolExecutor
import os, signal, time
def main():
    with ProcessPoolExecutor(2, initializer=workers.begin_worker) as pool:
        [job.result() for job in [pool.submit(time.sleep, 0.2) for _ in range(2)]]
        [pool.submit(time.sleep, 1000) for _ in range(2)]
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
command_line.run(main)
"""
    process = script(lines, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.communicate(timeout=60) == ("", "")  # which ends when nobody holds the other end any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_a_worker_that_is_asked_to_end_in_the_midst_of_a_job_takes_no_other():
    """A pool takes the end of the job for its answer; the pool's own end would wait for that worker for ever."""
    with ProcessPoolExecutor(1, initializer=workers.begin_worker) as pool:
        job = pool.submit(time.sleep, 60)
        while not job.running():
            time.sleep(0.01)
        time.sleep(0.5)
        (worker,) = pool._processes.values()
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(30)
        assert worker.exitcode == 128 + signal.SIGTERM


def test_output_that_finds_no_room_is_one_line():
    """As in `python scripts/… > log` on a full disk."""
    with Path("/dev/full").open("w") as full:
        process = script("command_line.run(lambda: print('a line'))", stdout=full)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (1, "error: No space left on device\n")


def test_sigterm_ends_a_script_without_a_word(tmp_path):
    lines = f"""
import pathlib, signal
from files.atomic import atomic_write
def main():
    with atomic_write(pathlib.Path({str(tmp_path / "file")!r})) as temporary:
        temporary.write_text("half")
        signal.raise_signal(signal.SIGTERM)
command_line.run(main)
"""
    process = script(lines)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (143, "")
    assert not list(tmp_path.iterdir())


def test_exhausted_memory_is_one_line_whoever_tells_of_it(capsys):
    for error in (
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 9 bytes\nmore"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ):
        with pytest.raises(SystemExit) as ended:
            ends(error)
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("error: not enough memory (")
        assert said.count("\n") == 1


def test_a_folder_for_what_is_needed_on_the_way(tmp_path):
    """It is empty at first, whatever a killed process left, and gone at the end."""
    left = tmp_path / ".model.onnx.parts" / "left"
    left.mkdir(parents=True)
    with pytest.raises(ValueError), atomic.scratch_folder(tmp_path / "model.onnx") as folder:
        assert not list(folder.iterdir())
        (folder / "file").write_text("half")
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_vanished_is_named(tmp_path):
    folder = tmp_path / "folder"
    vanished = pytest.raises(OSError, match="cannot be written: .* vanished")
    with vanished as raised, atomic.atomic_write(folder / "file") as temporary:
        temporary.write_text("half")
        shutil.rmtree(folder)
    assert not isinstance(raised.value, FileNotFoundError)


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


def test_a_block_that_writes_nothing_is_a_failure(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(OSError, match="has vanished") as caught, atomic.atomic_write(path):
        pass
    assert not isinstance(caught.value, FileNotFoundError)  # which would end a script as bad input does
    assert not list(tmp_path.iterdir())
