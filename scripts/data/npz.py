"""TODO doc: from etl9g_dataset"""

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from files.command_line import InputError, first_line

# What zipfile and numpy raise for files that are not their own, found by giving them damaged ones.
_UNREADABLE = (
    zipfile.BadZipFile,
    NotImplementedError,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    SyntaxError,
    tokenize.TokenError,
)


def map_member(path: Path, member: str, kinds: str, check: bool = True) -> np.ndarray:
    """One array of an uncompressed npz, memory-mapped; `kinds` are the kinds of dtype that it may have.

    `check` compares it with the checksum in the file, for which all of it is read. Raises InputError if the file is
    not such a thing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (info,) = (entry for entry in archive.infolist() if entry.filename == member + ".npy")
            if info.header_offset < 0:
                raise ValueError(f"{member} begins before the file")
            archive.open(info).close()  # refuses an entry whose own header has another name
        if info.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{path} is compressed: make it again with scripts/prepare_dataset.py")
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<2H", file.read(4))
            start = info.header_offset + 30 + name + extra
            file.seek(start)
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read_header(file)
            end, begin = start + info.file_size, file.tell()
        fits = begin + math.prod(shape) * dtype.itemsize == end <= path.stat().st_size
        if not fits or fortran or dtype.kind not in kinds or dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{member} is not what its header says")
        if check and zlib.crc32(np.memmap(path, np.uint8, "r", start, (info.file_size,))) != info.CRC:
            raise ValueError(f"{member} does not fit its checksum")
        return np.memmap(path, dtype, "r", begin, shape) if math.prod(shape) else np.empty(shape, dtype)
    except _UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        reason = first_line(error)
        raise InputError(f"{path} is damaged ({reason}): delete it and run scripts/prepare_dataset.py again") from None
