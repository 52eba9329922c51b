"""Pools of processes: how a worker begins and ends, and numpy on one thread."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time

from files.machine import cores

TO_TIDY_UP = 2.0  # seconds that a worker has when it is asked to end
MOST_PROCESSES = 61  # Windows waits for no more
PROCESSES = min(cores(), MOST_PROCESSES)


def begin_worker() -> None:
    """The `initializer` of a pool of processes.

    Ctrl-C and SIGTERM, which may reach all of them, end a worker without a traceback. It ends with the process that
    started it, which may have been killed, and computes on one core.
    """
    ends = (signal.SIGINT, signal.SIGTERM)
    for number in ends:  # an exception in here would be reported
        signal.signal(number, lambda number, _: os._exit(128 + number))
    asked: list[int] = []
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process(), asked], daemon=True).start()
    numpy_on_one_thread()

    def end(number: int, _frame) -> None:
        asked.append(number)
        sys.exit(128 + number)

    for number in ends:
        signal.signal(number, end)


def _end_with(parent: multiprocessing.process.BaseProcess, asked: list[int]) -> None:
    """Ends this process when its parent ends, or soon after it was asked to: a pool's worker takes the exception that
    ends a job for the job's answer, and would wait for the next."""
    while parent.is_alive() and not asked:
        parent.join(0.5)
    if asked:
        time.sleep(TO_TIDY_UP)
    os._exit(128 + asked[0] if asked else 1)


def numpy_on_one_thread() -> None:
    """Multiplies numpy's matrices on one thread: here they are small, more threads gain nothing, and on busy cores they
    wait for one another many times as long as a product takes."""
    if "numpy" in sys.modules:
        with contextlib.suppress(ImportError):  # recognize.py does without it
            from threadpoolctl import ThreadpoolController

            ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)  # that of numpy's wheels
