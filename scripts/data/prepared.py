"""The prepared dataset: uint8 images memory-mapped from its chunks, split by writer, fetched in whole batches."""

import contextlib
import math
import mmap
import struct
import tokenize
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from characters.jis import in_jis, jis_code
from files.command_line import InputError, first_line
from files.plain_json import read_json
from images.normalization import CANVAS
from records.etl9g import SETS_PER_FILE, file_number, set_layout

CHUNK_NAME = "etl9g_dataset_chunk_{:02d}.npz"
MAPPING_FILE, METADATA_FILE = "character_mapping.json", "metadata.json"
SPLITS = ("train", "validation", "test")
ETL9G = 0  # the number of the source that real ETL9G, or its stand-in, is; others count from 1
AGAIN, REMADE = "prepare it again", "delete it and run scripts/prepare_dataset.py again"
IMAGE_BYTES = CANVAS * CANVAS
READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What zipfile and numpy raise for files that are not their own.
_UNREADABLE = (zipfile.BadZipFile, RuntimeError, LookupError, ValueError, TypeError, EOFError, ArithmeticError)
_UNREADABLE += (struct.error, SyntaxError, tokenize.TokenError)


def split_sets(sets: list[int]) -> dict[str, list[int]]:
    """Data sets to splits, so that no writer is on two sides: of every twenty one validates and two test. A set's
    number decides its side, so that it stays there when more are made; where there is none of such a number, the last
    of the others takes its place. One or two sets cannot be split by writer."""
    if len(sets) < 3:
        return {"train": list(sets), "validation": [], "test": []}
    validation = [s for s in sets if s % 20 == 4]
    test = [s for s in sets if s % 10 == 9] or [s for s in sets if s not in validation][-1:]
    validation = validation or [s for s in sets if s not in test][-1:]
    return {"train": [s for s in sets if s not in test and s not in validation], "validation": validation, "test": test}


@contextlib.contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Makes what reading odd JSON raises an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{path} is damaged ({reason}): {AGAIN}") from None


def mapping_row(label: int, char: str) -> dict:
    """What character_mapping.json says of a class."""
    code = f"0x{jis_code(char):04X}" if in_jis(char) else None
    return {"label": label, "character": char, "jis": code, "code_point": f"U+{ord(char):04X}"}


def read_classes(path: Path) -> str:
    """The characters of a character_mapping.json, in the order of their labels. Raises InputError for a damaged one."""
    content = read_json(path, AGAIN)
    with damage_reported(path):
        classes = "".join(row["character"] for row in content["classes"])
        rows = [mapping_row(label, char) for label, char in enumerate(classes)]
        if content["classes"] != rows or not 0 < len(set(classes)) == len(classes):
            raise ValueError("a class stands there twice, or with the label or the codes of another")
    return classes


def map_member(path: Path, member: str, kinds: str, check: bool = True) -> np.ndarray:
    """One array of an uncompressed npz, memory-mapped; `kinds` are the kinds of dtype that it may have. `check`
    compares it with the checksum in the file, for which all of it is read. Raises InputError if the file is not such a
    thing."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{member}.npy")
            if info.header_offset < 0:
                raise ValueError(f"{member} begins before the file")
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
        raise InputError(f"{path} is damaged ({first_line(error)}): {REMADE}") from None


@dataclass
class Split:
    """The samples of one split: positions in the whole dataset (n,) and labels int64 (n,)."""

    positions: np.ndarray
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.positions)


def map_chunk(folder: Path, row: dict) -> tuple[Path, np.ndarray, np.ndarray]:
    """The chunk that a row of metadata.json names: its path, images uint8 (n, 64, 64), memory-mapped, and int64 (4, n):
    labels, data sets, sources, and writers where the source has them. Raises FileNotFoundError, or InputError for one
    that is damaged or another file's."""
    file, source = Path(row["file"]), row.get("source", ETL9G)
    path = folder / (Path(row["chunk"]).name if source else CHUNK_NAME.format(file_number(file)))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run scripts/prepare_dataset.py --output-dir {path.parent}")
    images, count = map_member(path, "images", "u", check=False), row["records"]
    names = ("labels", "sets", "sources", "writers") if source else ("labels", "sets")
    columns = [np.array(map_member(path, name, "iu"), np.int64) for name in names]
    whole = images.dtype == np.uint8 and images.shape == (count, CANVAS, CANVAS)
    if whole := whole and all(column.shape == (count,) for column in columns):
        own = columns[2] == source if source else columns[1] // SETS_PER_FILE == file_number(file) - 1
    if not whole or not own.all():
        raise InputError(f"{path} is damaged, or of another file: {REMADE}")
    if hasattr(mmap, "MADV_RANDOM"):
        images.base.madvise(mmap.MADV_RANDOM)  # what lies around an image is not wanted next
    return path, images, np.stack([*columns, *np.zeros((4 - len(columns), count), np.int64)])


class PreparedDataset:
    """dataset/ as prepare_dataset.py leaves it: classes, source, splits, and images by position."""

    def __init__(self, folder: Path, split: str = "writer", seed: int = 0):
        if split not in {"writer", "random"} or type(seed) is not int or seed < 0:
            raise InputError(f"a dataset is split by writer or random and with a seed, not by {split!r} with {seed!r}")
        metadata_path, mapping_path = folder / METADATA_FILE, folder / MAPPING_FILE
        if not metadata_path.is_file() or not mapping_path.is_file():
            remedy = f"run scripts/prepare_dataset.py --output-dir {folder}"
            raise FileNotFoundError(f"{folder} is not a prepared dataset: {remedy}")
        self.classes, self.metadata = read_classes(mapping_path), read_json(metadata_path, AGAIN)
        with damage_reported(metadata_path):
            self.source = str(self.metadata["source"])
            self.chunks, self._images, columns = zip(
                *(map_chunk(folder, row) for row in self.metadata["files"]), strict=True
            )
            self.labels, self.sets, self.sources, self._writers = np.concatenate(columns, axis=1)
            self.source_names = {row["id"]: str(row["name"]) for row in self.metadata.get("sources", ())}
            self._starts = np.cumsum([0] + [len(images) for images in self._images])
            last = len(self.classes) - 1
            if self.metadata["classes"] - 1 != last or not 0 <= self.labels.min() <= self.labels.max() <= last:
                raise ValueError(f"{MAPPING_FILE} is that of another dataset")
            positions = self._by_writer() if split == "writer" else self._at_random(seed)
        self.splits = {name: Split(p, torch.from_numpy(self.labels[p])) for name, p in positions.items()}

    def _by_writer(self) -> dict[str, np.ndarray]:
        splits = {name: self.metadata["splits"][name] for name in SPLITS}
        listed = [number for sets in splits.values() for number in sets]
        if len(set(listed)) < len(listed) or not set(np.unique(self.sets).tolist()) <= set(listed):
            raise ValueError("its splits do not name each data set once")
        if not all(splits.values()):
            few = f"{self.chunks[0].parent} has too few data sets to split by writer (3 are needed)"
            raise InputError(f"{few}: make more, or --split random")
        return {name: np.flatnonzero(np.isin(self.sets, sets)) for name, sets in splits.items()}

    def _at_random(self, seed: int) -> dict[str, np.ndarray]:
        """A sample's side depends on it alone: a larger dataset must not test with what a smaller one trained on."""
        sets, rows = np.unique(self.sets, return_inverse=True)
        draw, order = np.empty(len(rows)), np.argsort(rows, kind="stable")
        for number, own in zip(sets, np.split(order, np.cumsum(np.bincount(rows))[:-1]), strict=True):
            draw[own] = np.random.default_rng([seed, number]).random(len(self.classes))[self.labels[own]]
        sides = {"train": draw >= 0.15, "validation": (draw >= 0.1) & (draw < 0.15), "test": draw < 0.1}
        return {name: np.flatnonzero(side) for name, side in sides.items()}

    def check_images(self) -> None:
        """Compares the images with their checksums, for which all of them are read. Raises InputError."""
        for path in self.chunks:
            map_member(path, "images", "u")

    def writers(self, positions: np.ndarray) -> np.ndarray:
        """Who wrote the samples at these positions, int64 (n,): each sheet of each data set of ETL9G is another
        person's, and other sources have writers of their own."""
        sheet_of = dict(zip(*set_layout()[:2], strict=True))
        sheets = np.array([sheet_of.get(c, 0) for c in self.classes])
        by_sheet = self.sets[positions] * (sheets.max() + 1) + sheets[self.labels[positions]]
        source = self.sources[positions]
        return np.where(source == ETL9G, by_sheet, (source << 32) + self._writers[positions])

    def _places(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each chunk that has any of these positions: its images, which of the positions, and their places in it."""
        chunk_of = np.searchsorted(self._starts, positions, side="right") - 1
        for chunk in np.unique(chunk_of):
            rows = np.flatnonzero(chunk_of == chunk)
            yield self._images[chunk], rows, positions[rows] - self._starts[chunk]

    def expect(self, positions: np.ndarray) -> None:
        """Has the system read these images, which will be wanted soon, meanwhile and all at once."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for images, _, places in self._places(positions):
            begins = images.offset % mmap.ALLOCATIONGRANULARITY + places * IMAGE_BYTES
            starts = begins - begins % mmap.PAGESIZE
            for start, size in zip(starts.tolist(), (begins + IMAGE_BYTES - starts).tolist(), strict=True):
                images.base.madvise(mmap.MADV_WILLNEED, start, size)

    def images(self, positions: np.ndarray) -> torch.Tensor:
        """Images uint8 (n, 1, 64, 64), 255 = ink, at these positions of the whole dataset."""
        batch = np.empty((len(positions), 1, CANVAS, CANVAS), np.uint8)
        for images, rows, places in self._places(positions):
            batch[rows, 0] = images[places]
        return torch.from_numpy(batch)
