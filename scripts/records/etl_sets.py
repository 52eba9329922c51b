"""The ETL sets beside ETL9G: their files and records, what their codes mean, and who wrote what. Source: AIST, ETL
Character Database, the specifications of the sets; the records of ETL3's and ETL6's files follow from their sums."""

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from characters import jis_x_0201
from characters.jis import character_of_code
from files.command_line import InputError
from records.b_type import B8_TYPE, B9_TYPE
from records.c_type import C_TYPE
from records.etl9g import RAW_NAME
from records.g_type import G8_TYPE
from records.k_type import K_TYPE, code_table
from records.m_type import M_TYPE
from records.record_type import RecordType, read_file

NUMBERS, LARGEST = 100_000, 0x7FFFFFFF  # data sets are numbered below the first, writers up to the other


def by_sheet(records: np.ndarray, kind: RecordType, _: int) -> tuple[np.ndarray, np.ndarray]:
    """Data sets and writers (n,) where each sheet is another person's."""
    sheets = kind.sheets(records) & LARGEST
    return sheets % NUMBERS, sheets


def by_person(records: np.ndarray, kind: RecordType, _: int) -> tuple[np.ndarray, np.ndarray]:
    """The same where people filled several sheets: those of whom the same is recorded count as one."""
    people, rows = np.unique(kind.people(records), axis=0, return_inverse=True)
    numbers = np.array([zlib.crc32(person.astype(">i8").tobytes()) & LARGEST for person in people], np.int64)[rows]
    return numbers % NUMBERS, numbers


def by_place(records: np.ndarray, kind: RecordType, file: int, size: int, of_file: int) -> tuple[np.ndarray, ...]:
    """The same where each file has `of_file` data sets of `size` records, and a sheet of one of them is a person's."""
    sets = file * of_file + np.arange(len(records)) // size
    return sets, sets << 16 | kind.sheets(records)


def by_tens(records: np.ndarray, kind: RecordType, _: int) -> tuple[np.ndarray, np.ndarray]:
    """The same where ten sheets in a row are a data set, and the records are sorted by character. Where the numbers of
    the sheets do not tell the data sets, the records of a character do, which are 160 in a row."""
    sheets, order = kind.sheets(records), np.arange(len(records)) % 160
    sets = (sheets - 1) // 10
    if sets.max(initial=0) > 159 or len(np.unique(sets)) < 160:
        sets = order
    return sets, sets << 16 | sheets


def by_chance(records: np.ndarray, kind: RecordType, _: int) -> tuple[np.ndarray, np.ndarray]:
    """The same where nobody wrote anything: each record by itself."""
    numbers = kind.sheets(records) & LARGEST
    return numbers % 1000, numbers


class EtlSet(NamedTuple):
    """How a set is read: the records of its files by their names, of which the first `dummies` are none, and the last
    `models` were shown to the writers; `writers` gives data sets and writers of a file's records, by its place."""

    kind: RecordType
    files: dict[str, int]
    writers: Callable[[np.ndarray, RecordType, int], tuple[np.ndarray, ...]]
    how_split: str
    character: Callable[[int], str | None] = jis_x_0201.character
    dummies: int = 0
    models: Mapping[str, int] = MappingProxyType({})


def numbered(name: str, counts: list[int]) -> dict[str, int]:
    return {name.format(number): count for number, count in enumerate(counts, 1)}


BY_SHEET = "by writer (each sheet is another one's)"
BY_PERSON = "by writer (sex, age, industry and occupation, as several sheets are of one person)"
BY_SET = "by data set (each sheet of one is another writer's)"
BY_CHANCE = "by chance (it is printed)"
HIRAGANA = partial(jis_x_0201.character, hiragana=True)  # which has the codes of katakana
OF_ETL1 = [*[11560] * 6, 11288, 11288, 11287, 11288, 11288, 11287, 4233]
OF_ETL2 = [9056, 10480, 11360, 10480, 11420]
OF_ETL7 = numbered("ETL7LC_{}", [9600, 7200]) | numbered("ETL7SC_{}", [9600, 7200])
OF_ETL8B2, MODELS_8B2 = numbered("ETL8B2C{}", [51201, 51201, 51517]), {"ETL8B2C3": 956}
OF_ETL8G, MODELS_8G = numbered("ETL8G_{:02}", [*[4780] * 32, 956]), {"ETL8G_33": 956}
OF_ETL9B, MODELS_9B = numbered("ETL9B_{}", [*[121441] * 4, 124477]), {"ETL9B_5": 3036}
SETS_8G, SETS_9B = partial(by_place, size=956, of_file=5), partial(by_place, size=3036, of_file=40)
SETS = {
    "ETL1": EtlSet(M_TYPE, numbered("ETL1C_{:02}", OF_ETL1), by_sheet, BY_SHEET),
    "ETL2": EtlSet(K_TYPE, numbered("ETL2_{}", OF_ETL2), by_chance, BY_CHANCE),
    "ETL3": EtlSet(C_TYPE, numbered("ETL3C_{}", [4800, 4800]), by_sheet, BY_SHEET),
    "ETL4": EtlSet(C_TYPE, {"ETL4C": 6120}, by_sheet, BY_SHEET, HIRAGANA),
    "ETL5": EtlSet(C_TYPE, {"ETL5C": 10608}, by_person, BY_PERSON),
    "ETL6": EtlSet(M_TYPE, numbered("ETL6C_{:02}", [*[13830] * 11, 5532]), by_sheet, BY_SHEET),
    "ETL7": EtlSet(M_TYPE, OF_ETL7, by_person, BY_PERSON, HIRAGANA),
    "ETL8B2": EtlSet(B8_TYPE, OF_ETL8B2, by_tens, BY_SET, character_of_code, 1, MODELS_8B2),
    "ETL8G": EtlSet(G8_TYPE, OF_ETL8G, SETS_8G, BY_SET, character_of_code, 0, MODELS_8G),
    "ETL9B": EtlSet(B9_TYPE, OF_ETL9B, SETS_9B, BY_SET, character_of_code, 1, MODELS_9B),
}


def find_set(folder: Path) -> tuple[str, list[Path]] | None:
    """The set whose files a folder holds, and these in order; None where there are none but perhaps ETL9G's. Raises
    InputError for files of several sets."""
    inside = {path.name.upper(): path for path in sorted(folder.iterdir()) if path.is_file()} if folder.is_dir() else {}
    found = {name: [inside[file] for file in each.files if file in inside] for name, each in SETS.items()}
    found = {name: paths for name, paths in found.items() if paths}
    if found and (others := [path for name, path in inside.items() if RAW_NAME.fullmatch(name)]):
        found["ETL9G"] = others
    if len(found) > 1:
        raise InputError(f"{folder} holds files of several sets, {' and '.join(found)}: give each a folder of its own")
    return next(iter(found.items()), None)


def read_records(path: Path, name: str) -> tuple[np.ndarray, str | None]:
    """All whole records of a file of a set (memory-mapped), and what is wrong with its size, or None."""
    kind, files = SETS[name].kind, SETS[name].files
    return read_file(path, kind.record, files[path.name.upper()], f"a file {path.name.upper()}")


def characters_of(codes: np.ndarray, name: str, folder: Path) -> dict[int, str | None]:
    """What a set in this folder means by codes (n,), None by those that it does not have."""
    character = code_table(folder).get if name == "ETL2" else SETS[name].character
    return {code: character(code) for code in codes.tolist()}
