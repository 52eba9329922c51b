"""What this machine has: its processor, cores and memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_memory() -> float | None:
    """Bytes that a new process can have, or None where the system does not say."""
    group, limits = Path("/sys/fs/cgroup"), []
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        limits.append(1024.0 * int(facts["MemAvailable"].split()[0]))
        most, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        limits.append(float(most) - float(used) if most.strip() != "max" else limits[0])
    except OSError:
        pass  # not Linux, or no limit on this group: what was read until here counts
    return min(limits, default=None)
