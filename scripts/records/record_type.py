"""What the records of all ETL sets have in common: files of one size, and numbers that share bytes, high bit first."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


def nibbles(packed: np.ndarray) -> np.ndarray:
    """uint8 (…, n) to values of four bits, (…, 2n)."""
    values = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    values[..., 0::2] = packed >> 4
    values[..., 1::2] = packed & 15
    return values


def sextets(packed: np.ndarray) -> np.ndarray:
    """uint8 (…, 3n) to values of six bits, (…, 4n)."""
    first, second, third = (packed[..., i::3] for i in range(3))
    values = np.empty((*packed.shape[:-1], packed.shape[-1] // 3 * 4), np.uint8)
    values[..., 0::4] = first >> 2
    values[..., 1::4] = (first & 3) << 4 | second >> 4
    values[..., 2::4] = (second & 15) << 2 | third >> 6
    values[..., 3::4] = third & 63
    return values


def integers(values: np.ndarray) -> np.ndarray:
    """Values of six bits (n, 6m) to integers of 36, int64 (n, m)."""
    parts = values.reshape(len(values), -1, 6).astype(np.int64)
    return (parts << np.arange(30, -1, -6)).sum(axis=2)


def column(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda records: records[name].astype(np.int64)


def columns(*names: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda records: np.stack([column(name)(records) for name in names], axis=1)


class RecordType(NamedTuple):
    """How to read n records: their images uint8 (n, height, width), 0 = paper, and int64: codes of the characters (n,),
    numbers of the sheets (n,), and what is recorded of the writers (n, k)."""

    record: np.dtype
    frames: Callable[[np.ndarray], np.ndarray] = lambda records: nibbles(records["image"])
    codes: Callable[[np.ndarray], np.ndarray] = column("jis")
    sheets: Callable[[np.ndarray], np.ndarray] = column("sheet")
    people: Callable[[np.ndarray], np.ndarray] = columns("sheet")


def read_file(path: Path, record: np.dtype, count: int, name: str) -> tuple[np.ndarray, str | None]:
    """At most `count` records of a file (memory-mapped), and None or what is wrong with the size of this `name`."""
    size, expected = path.stat().st_size, count * record.itemsize
    whole = min(size, expected) // record.itemsize
    records = np.memmap(path, record, "r", shape=(whole,)) if whole else np.zeros(0, record)
    if size == expected:
        return records, None
    kind = "short" if size < expected else "too long"
    where = f"first bad record is record {whole} (offset {whole * record.itemsize:,})"
    return records, f"{path} is {kind}: {size:,} bytes where {name} has {expected:,}; {where}"
