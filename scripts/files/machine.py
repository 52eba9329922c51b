"""This machine's processor and cores, and the processes that work on them: how a worker begins and ends."""

import contextlib
import multiprocessing
import os
import platform
import re
import signal
import sys
import threading
from pathlib import Path

TO_TIDY_UP = 2.0  # seconds that a worker has when it is asked to end


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MOST_PROCESSES = 61  # Windows waits for no more
PROCESSES = min(cores(), MOST_PROCESSES)


def processor() -> str:
    """The processor's name, as far as the system says it."""
    with contextlib.suppress(OSError):  # not Linux
        if names := re.findall(r"model name\s*: (.*\S)", Path("/proc/cpuinfo").read_text(encoding="utf-8")):
            return names[0]
    return platform.processor() or platform.machine()


def begin_worker() -> None:
    """The `initializer` of a pool: Ctrl-C and SIGTERM end a worker without a traceback, and it ends with the process
    that started it, which may have been killed. It computes on one core."""
    ends, parent = (signal.SIGINT, signal.SIGTERM), multiprocessing.parent_process()
    for number in ends:  # an exception in here would be reported
        signal.signal(number, lambda number, _: os._exit(128 + number))
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    numpy_on_one_thread()
    for number in ends:
        signal.signal(number, _end)


def _end(number: int, _frame) -> None:
    """Ends the job, which tidies up, and soon the worker: the pool takes the exception for the job's answer."""
    last = threading.Timer(TO_TIDY_UP, os._exit, [128 + number])
    last.daemon = True
    last.start()
    sys.exit(128 + number)


def numpy_on_one_thread() -> None:
    """Multiplies numpy's matrices on one thread: they are small, and more threads wait for one another."""
    if "numpy" in sys.modules:
        with contextlib.suppress(ImportError):  # recognize.py does without it
            from threadpoolctl import ThreadpoolController

            ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)  # that of numpy's wheels
