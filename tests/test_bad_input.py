"""Damaged and hostile files: every reader reads them right or says in one line what is wrong, within time and memory.

    python -m pytest tests/test_bad_input.py -m long     # 200,000 damaged files for each reader instead of 1,000

tests/coverage_fuzzing.py looks for further ones with a coverage-guided fuzzer.
"""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from readers import READERS, Reader

MOST_MEMORY = 1 << 30  # bytes more than before
MOST_SECONDS = 10  # of the processor, for one file
SHORT, LONG, PARTS = 1000, 20_000, 10  # files for each reader in CI, and in each part of the long form


def memory(kind: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM, the most since `reset`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind + ":"))


@contextmanager
def within_memory() -> Iterator[None]:
    """Fails if the block takes more than MOST_MEMORY; where the system does not tell, nothing is checked."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        yield
        return
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < MOST_MEMORY


@contextmanager
def within_time() -> Iterator[None]:
    """Fails if the block takes the processor for more than MOST_SECONDS."""

    def end(*_):
        raise TimeoutError(f"more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read_damaged(reader: Reader, count: int, which: int = 0) -> int:
    """Reads so many damaged files, each number `which` others; returns how many were refused."""
    refused = 0
    assert all(reader.read_content(whole) is not None for whole in reader.whole)  # they are right before

    @seed(which)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=40))
    def read(choices: bytes) -> None:
        nonlocal refused
        with within_time():
            refused += reader.try_damaged(choices)

    gc.collect()
    gc.freeze()  # or each collection looks through all libraries again, a fifth of the time
    with within_memory():
        read()
    gc.unfreeze()
    return refused


@pytest.fixture(params=READERS)
def reader(request, tmp_path) -> Reader:
    torch.set_num_threads(1)
    return READERS[request.param](tmp_path)


def test_damaged_files_are_read_right_or_refused(reader):
    assert read_damaged(reader, SHORT) > 0


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_very_many_damaged_files(reader, part):
    assert read_damaged(reader, LONG, which=1 + part) > 0
