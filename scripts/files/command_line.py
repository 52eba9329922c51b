"""How every script ends: quietly, or with one line that says what is wrong; how one runs another."""

from __future__ import annotations

import argparse
import contextlib
import gc
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

from files.machine import keep_freed_memory, limit_threads
from files.packages import OldPackage, missing
from optimization_config import filled


class InputError(ValueError):
    """A wrong call or bad input; the message says what is wrong and what to do. Ends a script with exit code 2."""


SCRIPTS = Path(__file__).resolve().parents[1]
# What a user can cause, with exit code 2 and with exit code 1.
BAD_INPUT = (InputError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
FAILURES = (OSError, MemoryError, FloatingPointError, BrokenExecutor, ModuleNotFoundError, OldPackage)
# How torch, OpenCV and onnxruntime say, in errors of their own kinds, that memory has run out.
NO_MEMORY = re.compile(
    r"can't allocate memory|Cannot allocate memory|bad_alloc|[Ii]nsufficient memory|out of memory|"
    r"could not create a (primitive|memory)|start new thread"
)


def first_line(error: BaseException) -> str:
    """What a library's error says, as one line: its first, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser of arguments whose --help shows the docstring of a script, in lines that fit the terminal."""
    text = filled((doc or "").strip().split("\n\n"))
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def at_least(least: float, kind: type = int) -> Callable[[str], float]:
    """A `type` for argparse: a number of this kind, which must not lie below `least`."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:  # so that "nan" is refused too
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    number.__name__ = kind.__name__  # argparse names it: "invalid int value"
    return number


def run_stage(name: str, script: str, *arguments: object) -> float:
    """Runs a script as a person would and shows the command; returns the seconds, or ends this program if it fails."""
    words = [str(a) for a in arguments]
    print(f"\n--- {name}: python scripts/{script} {' '.join(words)}", flush=True)
    begin = time.monotonic()
    if code := _exit_code(name, [sys.executable, str(SCRIPTS / script), *words]):
        print(f"{name} ended with exit code {code}; the same command continues from here", file=sys.stderr)
        sys.exit(code)
    seconds = round(time.monotonic() - begin, 1)
    print(f"--- {name} took {seconds:.1f} s", flush=True)
    return seconds


def _exit_code(name: str, command: list[str]) -> int:
    """Runs a command to its end, whatever signals come. A terminal's Ctrl-C reaches it by itself, SIGTERM is passed on:
    it saves what it has and ends, and only then does this program."""
    signals = []

    def wait(number: int, _frame) -> None:
        print(f"waiting for {name} to save its work …", file=sys.stderr, flush=True)
        signals.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    process = subprocess.Popen(command)
    before = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait() or (128 + signals[0] if signals else 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(main: Callable[[], None]) -> None:
    """Calls `main`; what a user can cause becomes one line on stderr and exit code 2 (wrong call, bad input) or 1.
    Ctrl-C and SIGTERM end it silently, and what it had started is removed."""
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text, and some terminals know no kanji
        if hasattr(stream, "reconfigure"):  # a notebook's has none
            stream.reconfigure(errors="backslashreplace")
    limit_threads()
    keep_freed_memory()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        try:
            main()
            sys.stdout.flush()  # now rather than at exit, where a reader that went away could not be answered
        except BrokenExecutor:
            time.sleep(0.5)  # Ctrl-C ends the worker processes too, and that may be seen first: let it arrive
            raise
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away (`… | head`)
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if not isinstance(error, BAD_INPUT + FAILURES) and not NO_MEMORY.search(str(error)):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # where there is no room for output either, Python would say so once more at its exit
            with contextlib.suppress(OSError):
                sys.stdout.close()
        sys.exit(2 if isinstance(error, BAD_INPUT) else 1)
    finally:
        signal.signal(signal.SIGTERM, before)
        gc.freeze()  # at its exit Python would search all that PyTorch has loaded for cycles, a second or two


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:  # raised by the system: "[Errno 2] No such file …"
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    if isinstance(error, ModuleNotFoundError):
        return missing(error)
    if isinstance(error, BAD_INPUT + FAILURES) and not isinstance(error, MemoryError):
        return str(error)
    return f"not enough memory ({first_line(error)})" if str(error) else "not enough memory"
