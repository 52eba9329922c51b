"""One array of an npz file, memory-mapped: numpy itself maps only single npy files."""

import math
import struct
import tokenize
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from files.command_line import InputError, first_line

READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What zipfile and numpy raise for files that are not their own.
_UNREADABLE = (OSError, zipfile.BadZipFile, RuntimeError, LookupError, ValueError, TypeError, EOFError, ArithmeticError)
_UNREADABLE += (struct.error, SyntaxError, tokenize.TokenError)


def map_member(path: Path, member: str, kinds: str, check: bool = True) -> np.ndarray:
    """One array of an uncompressed npz, memory-mapped; `kinds` are the kinds of dtype that it may have.

    `check` compares it with the checksum in the file, for which all of it is read. Raises InputError if the file is
    not such a thing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{member}.npy")
            with archive.open(info) as entry:
                shape, fortran, dtype = READ_HEADER[npy.read_magic(entry)](entry)
                begin = entry.tell()
                while check and entry.read(2**20):
                    pass  # at its end zipfile compares the checksums
        whole = begin + math.prod(shape) * dtype.itemsize == info.file_size == info.compress_size
        if not whole or fortran or dtype.kind not in kinds:
            raise ValueError(f"{member} is not what its header says")
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            begin += info.header_offset + 30 + sum(struct.unpack("<2H", file.read(4)))  # after its name and extra field
        return np.memmap(path, dtype, "r", begin, shape)
    except _UNREADABLE as error:
        reason = first_line(error)
        raise InputError(f"{path} is damaged ({reason}): delete it and run scripts/prepare_dataset.py again") from None
