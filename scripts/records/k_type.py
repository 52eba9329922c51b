"""K-type records of 2,745 bytes, written in characters of six bits: ETL2, which is printed. Source: AIST, "K-Type Data
Format". Its CO-59 codes need a table that AIST publishes, and that is no part of this project."""

from pathlib import Path

import numpy as np

from files.command_line import InputError
from records.record_type import RecordType, integers, sextets

RECORD = np.dtype([("header", "u1", 45), ("image", "u1", (60, 45))])  # the image has 64 levels
CODE = 28  # where the two characters of a CO-59 code stand in the header
TABLES = {"euc_co59.dat": "euc_jp", "co59-utf8.txt": "utf-8-sig"}


def _codes(records: np.ndarray) -> np.ndarray:
    header = sextets(records["header"]).astype(np.int64)
    return header[:, CODE] << 6 | header[:, CODE + 1]


K_TYPE = RecordType(
    RECORD,
    frames=lambda records: sextets(records["image"]),
    codes=_codes,
    sheets=lambda records: integers(sextets(records["header"])[:, :6])[:, 0],  # there are none: serial data numbers
)


def code_table(folder: Path) -> dict[int, str]:
    """The characters of the CO-59 codes by the table beside ETL2's files, or in the folder above: CHARACTER:HIGH,LOW
    for each. Raises FileNotFoundError, or InputError for another file of its name."""
    found = [place / name for place in (folder, folder.parent) for name in TABLES if (place / name).is_file()]
    if not found:
        remedy = f"put it into {folder}; it comes with AIST's sample script, unpack.zip"
        raise FileNotFoundError(f"ETL2 needs the table of its codes, {' or '.join(TABLES)}: {remedy}")
    table = {}
    try:
        for entry in found[0].read_text(encoding=TABLES[found[0].name]).split():
            char, _, code = entry.rpartition(":")
            high, low = map(int, code.split(","))
            table[high << 6 | low] = char
    except ValueError:
        raise InputError(f"{found[0]} is no table of CO-59 codes, CHARACTER:HIGH,LOW: get it again") from None
    return table
