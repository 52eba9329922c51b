"""Pools of processes: how a worker begins and ends, and numpy on one thread."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading

from files.machine import cores

TO_TIDY_UP = 2.0  # seconds that a worker has when it is asked to end
MOST_PROCESSES = 61  # Windows waits for no more
PROCESSES = min(cores(), MOST_PROCESSES)


def begin_worker() -> None:
    """The `initializer` of a pool of processes.

    Ctrl-C and SIGTERM, which may reach all of them, end a worker without a traceback. It ends with the process that
    started it, which may have been killed, and computes on one core.
    """
    ends, parent = (signal.SIGINT, signal.SIGTERM), multiprocessing.parent_process()
    for number in ends:  # an exception in here would be reported
        signal.signal(number, lambda number, _: os._exit(128 + number))
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    numpy_on_one_thread()
    for number in ends:
        signal.signal(number, _end)


def _end(number: int, _frame) -> None:
    """Ends the job, which tidies up, and soon the worker: a pool takes the exception for the job's answer, and the
    worker would wait for the next job."""
    last = threading.Timer(TO_TIDY_UP, os._exit, [128 + number])
    last.daemon = True
    last.start()
    sys.exit(128 + number)


def numpy_on_one_thread() -> None:
    """Multiplies numpy's matrices on one thread: here they are small, more threads gain nothing, and on busy cores they
    wait for one another many times as long as a product takes."""
    if "numpy" in sys.modules:
        with contextlib.suppress(ImportError):  # recognize.py does without it
            from threadpoolctl import ThreadpoolController

            ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)  # that of numpy's wheels
