"""This machine's processor and cores, and the processes that work on them: how a worker begins and ends."""

import contextlib
import ctypes
import math
import multiprocessing
import os
import platform
import re
import signal
import sys
import threading
from pathlib import Path

TO_TIDY_UP = 2.0  # seconds that a worker has when it is asked to end

# What the product library of numpy's wheels calls the function that sets its threads: numpy 2, numpy 1.26.
SET_THREADS = ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads")


def cores() -> int:
    """How many cores this process may use: at most the quota of its container, rounded down, and at least one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(usable, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """How many cores' time the control groups of this process allow it, infinite without a limit: the least of its own
    group's and of those above it. Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us)."""
    quotas, groups = [math.inf], ""
    with contextlib.suppress(OSError):  # not Linux
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8")
    for controllers, path in re.findall(r"^\d+:([^:]*):/(.*)$", groups, re.MULTILINE):
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        for folder in (mount / path, *(mount / path).parents):
            if mount in (folder, *folder.parents):
                quotas.append(_quota_of(folder))
    return min(quotas)


def quota_threads() -> int:
    """How many threads a library should compute with that knows of no quota: 0 leaves it the choice."""
    return cores() if cpu_quota() < math.inf else 0


def _quota_of(group: Path) -> float:
    """How many cores' time the files of one control group allow."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with contextlib.suppress(OSError, ValueError):  # not there, or "max" for no limit
            quota, period = map(int, " ".join((group / name).read_text(encoding="ascii") for name in names).split())
            if quota > 0 and period > 0:  # -1 for no limit
                return quota / period
    return math.inf


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
    limit_threads()
    keep_freed_memory()
    for number in ends:
        signal.signal(number, _end)


def _end(number: int, _frame) -> None:
    """Ends the job, which tidies up, and soon the worker: the pool takes the exception for the job's answer."""
    last = threading.Timer(TO_TIDY_UP, os._exit, [128 + number])
    last.daemon = True
    last.start()
    sys.exit(128 + number)


def limit_threads() -> None:
    """Multiplies numpy's matrices on one thread: they are small, and more threads wait for one another. Keeps PyTorch
    within the cores that this process may use: it does not know of a container's quota."""
    if "numpy" in sys.modules:
        packages = Path(sys.modules["numpy"].__file__).parents[1]
        for path in (*packages.glob("numpy.libs/*openblas*"), *packages.glob("numpy/.dylibs/*openblas*")):
            library = ctypes.CDLL(str(path))  # the one that is loaded, not another
            if set_threads := next(filter(None, (getattr(library, name, None) for name in SET_THREADS)), None):
                set_threads(1)
    if "torch" in sys.modules and 0 < quota_threads() < sys.modules["torch"].get_num_threads():
        sys.modules["torch"].set_num_threads(quota_threads())


def keep_freed_memory() -> None:
    """Has glibc keep the memory of arrays that are no longer needed for those that come next. By itself it returns them
    to the system, step after step, and a quarter of a training step is spent on getting empty pages again."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or Windows
        library = ctypes.CDLL(None)
        library.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, in bytes: the most that glibc takes
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing is returned
