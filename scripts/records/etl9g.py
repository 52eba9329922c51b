"""The raw records of ETL9G: their layout (`RECORD`), their images (`unpack_images`), their order, and damage to them.
Source: AIST, ETL Character Database, "ETL9G data format". A file `ETL9G_NN` is 12,144 records of 8,199 bytes without a
header: 4 data sets of one record per class. A data set is 20 sheets, each filled by another person."""

import re
import shlex
from functools import lru_cache
from itertools import filterfalse, pairwise
from pathlib import Path

import numpy as np

from characters.jis import etl9g_classes, jis_codes
from characters.kinds import is_hiragana
from files.command_line import InputError
from records.record_type import nibbles, read_file

IMAGE_HEIGHT, IMAGE_WIDTH = 127, 128
PAPER, DARKEST = 0, 15  # 4-bit grey levels
SETS_PER_FILE = 4
FILES = 50
COLUMNS = 16  # of characters on a sheet
MARGIN = 18  # columns at either side of a frame, into which pieces of the characters beside it reach
RAW_NAME = re.compile(r"ETL9G_(0[1-9]|[1-4]\d|50)", re.IGNORECASE)
PACKED = re.compile(r"[.](zip|gz|tgz|tar|bz2|xz|7z|rar|lzh)$", re.IGNORECASE)
NOTES = re.compile(r"INFO|[.](md|txt|pdf|html?)$", re.IGNORECASE)  # such as ETL9INFO, what else comes with the files
RECORD = np.dtype(
    [
        ("sheet", ">u2"),  # restarts in every set: the kind of sheet, not the writer
        ("jis", ">u2"),  # JIS X 0208
        ("reading", "S8"),
        ("serial", ">u4"),
        ("quality", "u1"),
        ("group_quality", "u1"),
        ("sex", "u1"),
        ("age", "u1"),
        ("industry", ">u2"),
        ("occupation", ">u2"),
        ("gathered", ">u2"),  # YYMM
        ("scanned", ">u2"),  # YYMM
        ("x", "u1"),
        ("y", "u1"),
        ("undefined", "V34"),
        ("image", "u1", (IMAGE_HEIGHT, IMAGE_WIDTH // 2)),  # two pixels a byte, the left one in the high nibble
        ("uncertain", "V7"),
    ]
)
STANDIN_MARK = b"KanjiVG stand-in"  # opens the undefined bytes of every record that synthesize_etl9g.py writes


def unpack_images(records: np.ndarray) -> np.ndarray:
    """The images of n records, uint8 (n, 127, 128), 0 = paper, 15 = darkest."""
    return nibbles(records["image"])


def records_per_set() -> int:
    return len(etl9g_classes())


def records_per_file() -> int:
    return SETS_PER_FILE * records_per_set()


@lru_cache
def set_layout() -> tuple[str, np.ndarray, np.ndarray]:
    """The known order of a set: its characters, and for each the sheet (1 to 20) and the place on it (0 to 151)."""
    hiragana, kanji = filter(is_hiragana, etl9g_classes()), filterfalse(is_hiragana, etl9g_classes())  # in JIS order
    sizes = [152] * 16 + [151] * 4  # of the sheets
    sheets = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    # The hiragana stand in the last column of each sheet's first rows.
    kana_rows = np.where((sheets >= 6) & (sheets <= 16), 4, 3)
    is_kana = (places % COLUMNS == COLUMNS - 1) & (places // COLUMNS < kana_rows)
    return "".join(next(hiragana if kana else kanji) for kana in is_kana), sheets, places


def new_records(images: np.ndarray, set_number: int, places_in_set: np.ndarray, mark: bytes) -> np.ndarray:
    """Records of one set from images uint8 (n, 127, 128) with values 0 to 15; `mark` goes into the undefined bytes."""
    characters, sheets, places = set_layout()
    records = np.zeros(len(images), RECORD)
    records["sheet"] = sheets[places_in_set]
    records["jis"] = jis_codes(characters)[places_in_set]
    records["reading"] = [b"HIRAGANA" if is_hiragana(characters[i]) else b"KANJI" for i in places_in_set]
    records["serial"] = set_number * records_per_set() + places_in_set + 1
    records["x"] = places[places_in_set] % COLUMNS
    records["y"] = places[places_in_set] // COLUMNS
    records["undefined"] = np.void(mark.ljust(34, b"\0"))
    records["image"] = images[:, :, 0::2] << 4 | images[:, :, 1::2]
    return records


def raw_files(folder: Path) -> list[Path]:
    """The files ETL9G_01 … ETL9G_50 of a folder, in order. InputError for packed ones and other ETL files."""
    paths = sorted(filter(_is_raw, folder.iterdir()), key=file_number)
    for first, second in pairwise(paths):
        if file_number(first) == file_number(second):
            raise InputError(f"{first} and {second.name} have the same number: move one of them away")
    names = {path.name.upper() for path in paths}
    for path in sorted(folder.glob("[Ee][Tt][Ll]*")):
        packed = PACKED.search(path.name)
        if packed and RAW_NAME.fullmatch(path.stem) and path.stem.upper() not in names:
            raise InputError(f"{path} is packed: unpack it first")
        if path.is_file() and path not in paths and not packed and not NOTES.search(path.name):
            raise InputError(f"{path}: not a name of an ETL9G raw file (ETL9G_01 to ETL9G_{FILES}); rename or move it")
    return paths


def _is_raw(path: Path) -> bool:
    return RAW_NAME.fullmatch(path.name) is not None and path.is_file()


def file_number(path: Path) -> int:
    return int(path.name[-2:])


def sets_of(path: Path) -> range:
    """The numbers, from 0, of the sets that a file holds."""
    end = file_number(path) * SETS_PER_FILE
    return range(end - SETS_PER_FILE, end)


def standin_mark(records: np.ndarray) -> str | None:
    """What wrote the records, if they are a stand-in (generator, version, seed), else None."""
    mark = records["undefined"][:1].tobytes().rstrip(b"\0")
    return mark.decode("ascii", "replace") if mark.startswith(STANDIN_MARK) else None


def read_records(path: Path) -> tuple[np.ndarray, str | None]:
    """All whole records of a file (memory-mapped), and what is wrong with the file as a whole, or None."""
    return read_file(path, RECORD, records_per_file(), "an ETL9G file")


def find_damage(records: np.ndarray, images: np.ndarray) -> dict[int, str]:
    """What is wrong with single records: {position: reason} for codes outside ETL9G and images without ink."""
    unknown = np.isin(records["jis"], jis_codes(etl9g_classes()), invert=True)
    damage = {int(i): f"JIS code 0x{records['jis'][i]:04X} is not a class of ETL9G" for i in np.flatnonzero(unknown)}
    for i in np.flatnonzero(images.reshape(len(images), -1).max(axis=1, initial=0) == PAPER):
        damage.setdefault(int(i), "the image has no ink")
    return damage


def looks_shifted(images: np.ndarray) -> bool:
    """Whether the ink sits 8 pixels too far left, as in ETL8G records: real frames have it at column 60 ± 4."""
    return 0 < ink_column(images) < 55  # few writers may lie at 56


def ink_column(images: np.ndarray) -> float:
    """The column around which the ink of all images lies, without pieces of the characters beside it, which lie in the
    outermost columns; 0 where there is too little to tell."""
    columns = images[:, :, MARGIN:-MARGIN].sum(axis=(0, 1), dtype=np.int64)
    enough = len(images) >= 100 and columns.any()
    return MARGIN + float(columns @ np.arange(len(columns)) / columns.sum()) if enough else 0


def find_raw(folder: Path) -> list[Path]:
    """The raw files to read: those of the folder itself (the real ones), else those of its `standin/`. Raises
    FileNotFoundError where there are none, and InputError where they lie elsewhere or are still packed."""
    if folder.is_file():
        parent = shlex.quote(str(folder.parent))
        remedy = "unpack it first" if PACKED.search(folder.name) else f"name its folder, --etl9g-dir {parent}"
        raise InputError(f"{folder} is a file: {remedy}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: give the folder of the ETL9G files with --etl9g-dir")
    if paths := raw_files(folder):
        return paths
    standin = folder / "standin"
    for path in sorted([*folder.glob("*/*"), *folder.glob("*/*/*")]):
        if _is_raw(path) and standin not in path.parents:
            remedy = f"move them up, or give --etl9g-dir {shlex.quote(str(path.parent))}"
            raise InputError(f"{folder} itself holds no raw files, they lie in {path.parent}: {remedy}")
    if standin.is_dir() and (paths := raw_files(standin)):
        return paths
    if packed := sorted(path for path in folder.glob("[Ee][Tt][Ll]*") if PACKED.search(path.name)):
        raise InputError(f"{packed[0]} is packed: unpack it first")
    raise FileNotFoundError(
        f"{folder} holds no ETL9G_01 … ETL9G_50: put the real files there, or make a stand-in with "
        f"python scripts/synthesize_etl9g.py --sets 20 --out {shlex.quote(str(standin))}"
    )
