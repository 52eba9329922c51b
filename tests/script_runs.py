"""Scripts run as a person runs them, each in a process of its own that can be killed, without the wait for imports:
the processes are forked from one that has imported everything and done nothing."""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

import training

SCRIPTS = Path(training.__file__).parent
PRELOADED = ["onnx", "onnxruntime", "cv2", "torch.onnx", "torch._dynamo", "onnxscript", "pytest"]
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}

_server = multiprocessing.get_context("forkserver")


def _start_server() -> None:
    _server.set_forkserver_preload([*PRELOADED, *sorted(path.stem for path in SCRIPTS.glob("*.py"))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        forkserver.ensure_running()


class FileEvents:
    """Counts what the script's own process does to files below a folder; at event number `at` it calls `action`."""

    def __init__(self, folder: Path, at: int, action: Callable[[], None]):
        self.count, self.at, self.action = 0, at, action
        self.folder, self.process = folder.resolve(), os.getpid()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple) -> None:
        if (
            event not in FILE_EVENTS
            or os.getpid() != self.process
            or not isinstance(arguments[0], str | bytes | os.PathLike)
        ):
            return
        if Path(os.fsdecode(arguments[0])).absolute().is_relative_to(self.folder):
            self.count += 1
            if self.count == self.at:
                self.action()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop(mark: Path) -> None:
    """Leaves a mark and waits, for SIGCONT or SIGKILL."""
    mark.touch()
    os.kill(os.getpid(), signal.SIGSTOP)


def _become(script: str, flags: list[str], folder: Path, output: Path, before: Callable[[], None] | None) -> None:
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [str(SCRIPTS / f"{script}.py"), *flags]
    events = before() if before else None
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        if isinstance(events, FileEvents):
            events.at = 0
            (output / "events").write_text(str(events.count))


class ScriptRun:
    """One script in its process, with `folder` as its working folder; its output and errors go to files elsewhere.

    `before` is called in the process when all is ready for the script; it must be picklable.
    """

    def __init__(self, script: str, flags: list, folder: Path, before: Callable[[], None] | None = None):
        self.output = folder.with_name(f"{folder.name}.output")
        for place in (folder, self.output):
            place.mkdir(parents=True, exist_ok=True)
        _start_server()
        arguments = (script, [str(flag) for flag in flags], folder, self.output, before)
        self.begin = time.monotonic()
        self.process = _server.Process(target=_become, args=arguments)
        self.process.start()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def finish(self, seconds: float = 300) -> int:
        """Its exit code, below 0 for the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it had not ended after {seconds} s: {self.errors}")
        self.seconds = time.monotonic() - self.begin
        return self.process.exitcode

    @property
    def errors(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.output / "err").read_text()
        return ""

    @property
    def events(self) -> int:
        return int((self.output / "events").read_text())
