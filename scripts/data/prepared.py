"""The prepared dataset: uint8 images memory-mapped from its chunks, split by writer, fetched in whole batches."""

import contextlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from characters.jis import jis_code
from data.npz import map_member
from files.command_line import InputError, first_line
from files.plain_json import read_json
from images.normalization import CANVAS
from records.etl9g import SETS_PER_FILE, set_layout

CHUNK_NAME = "etl9g_dataset_chunk_{:02d}.npz"
MAPPING_FILE, METADATA_FILE = "character_mapping.json", "metadata.json"
SPLITS = ("train", "validation", "test")
AGAIN = "prepare it again"
IMAGE_BYTES = CANVAS * CANVAS


def split_sets(sets: list[int]) -> dict[str, list[int]]:
    """Data sets to splits, so that no writer is on two sides: of every twenty one validates and two test.

    A set's number decides its side, so that it stays there when more are made; where there is none of such a number,
    the last of the others takes its place. One or two sets cannot be split by writer.
    """
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{path} is damaged ({reason}): {AGAIN}") from None


def mapping_row(label: int, char: str) -> dict:
    """What character_mapping.json says of a class."""
    codes = {"jis": f"0x{jis_code(char):04X}", "code_point": f"U+{ord(char):04X}"}
    return {"label": label, "character": char} | codes


def read_classes(path: Path) -> str:
    """The characters of a character_mapping.json, in the order of their labels.

    Raises InputError unless each character stands there once, at its own label, with its own codes.
    """
    rows, classes = read_json(path, AGAIN), ""
    with damage_reported(path):
        for label, row in enumerate(rows["classes"]):
            char = row["character"]
            if not isinstance(char, str) or len(char) != 1 or not char.isprintable():
                raise ValueError(f"{char!r} at label {label} is no character")
            if mapping_row(label, char) | row != mapping_row(label, char):
                raise ValueError(f"{char} at label {label} has the label or the codes of another character")
            classes += char
        if not 0 < len(set(classes)) == len(classes):
            raise ValueError("it names no class, or one twice")
    return classes


def read_metadata(path: Path, classes: str) -> tuple[dict, list[int], dict[str, list[int]]]:
    """A metadata.json, the numbers of its raw files, and the data sets of each split.

    Raises InputError where they make no sense, or it has another number of classes than these.
    """
    metadata = read_json(path, AGAIN)
    with damage_reported(path):
        names = [row["file"] for row in metadata["files"]]
        named = all(re.fullmatch(r"ETL9G_\d\d", name, re.ASCII) for name in names)
        if not names or not named or len(set(names)) < len(names):
            raise ValueError("no files, a file twice, or files of other names than ETL9G_NN")
        splits = {name: metadata["splits"][name] for name in SPLITS}
        sets = [number for name in SPLITS for number in splits[name]]
        if not all(type(number) is int for number in sets) or len(set(sets)) < len(sets):
            raise ValueError("the splits are not lists of data sets, or have one twice")
        if not isinstance(metadata["source"], str):
            raise ValueError("its source is no text")
        if metadata.get("classes", len(classes)) != len(classes):
            raise ValueError(f"it has {metadata['classes']} classes, {MAPPING_FILE} {len(classes)}")
    return metadata, [int(name[-2:]) for name in names], splits


@dataclass
class Split:
    """The samples of one split: positions in the whole dataset (n,) and labels int64 (n,)."""

    positions: np.ndarray
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.positions)


def map_chunk(path: Path, number: int, facts: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The chunk of a raw file: images uint8 (n, 64, 64), memory-mapped, labels and data sets int64 (n,).

    Raises FileNotFoundError, or InputError for one that is damaged or another file's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run scripts/prepare_dataset.py --output-dir {path.parent}")
    images = map_member(path, "images", "u", check=False)
    labels, sets = (np.array(map_member(path, name, "iu"), np.int64) for name in ("labels", "sets"))
    count = (facts.get("records", len(images)),)
    if images.dtype != np.uint8 or images.shape != (*count, CANVAS, CANVAS) or not labels.shape == sets.shape == count:
        raise InputError(f"{path} is damaged: delete it and run scripts/prepare_dataset.py again")
    if not (sets // SETS_PER_FILE == number - 1).all():
        raise InputError(f"{path} holds data sets of another raw file: delete it and run scripts/prepare_dataset.py")
    if isinstance(images, np.memmap) and hasattr(mmap, "MADV_RANDOM"):
        images.base.madvise(mmap.MADV_RANDOM)  # what lies around an image is not wanted next
    return images, labels, sets


class PreparedDataset:
    """dataset/ as prepare_dataset.py leaves it: classes, source, splits, and images by position."""

    def __init__(self, folder: Path, split: str = "writer", seed: int = 0):
        if split not in {"writer", "random"} or type(seed) is not int or seed < 0:
            raise InputError(f"a dataset is split by writer or random and with a seed, not by {split!r} with {seed!r}")
        metadata_path, mapping_path = folder / METADATA_FILE, folder / MAPPING_FILE
        if not metadata_path.is_file() or not mapping_path.is_file():
            raise FileNotFoundError(
                f"{folder} is not a prepared dataset: run scripts/prepare_dataset.py --output-dir {folder}"
            )
        self.folder, self.classes = folder, read_classes(mapping_path)
        self.metadata, numbers, sets_of = read_metadata(metadata_path, self.classes)
        self.source = self.metadata["source"]
        self.chunks = [folder / CHUNK_NAME.format(number) for number in numbers]
        chunks = [map_chunk(*each) for each in zip(self.chunks, numbers, self.metadata["files"], strict=True)]
        self._images = [images for images, _, _ in chunks]
        self.labels, self.sets = (np.concatenate([chunk[i] for chunk in chunks]) for i in (1, 2))
        self._starts = np.cumsum([0] + [len(images) for images in self._images])
        self._check_whole(sets_of)
        positions = self._by_writer(sets_of) if split == "writer" else self._at_random(seed)
        self.splits = {name: Split(p, torch.from_numpy(self.labels[p])) for name, p in positions.items()}

    def _check_whole(self, sets_of: dict[str, list[int]]) -> None:
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise InputError(f"{self.folder}: the labels and {MAPPING_FILE} disagree: {AGAIN}")
        if self.metadata.get("samples", len(self.labels)) != len(self.labels):
            raise InputError(
                f"{self.folder} is not whole: {len(self.labels):,} samples are there, {METADATA_FILE} names "
                f"{self.metadata['samples']}: {AGAIN}"
            )
        if strays := set(np.unique(self.sets).tolist()).difference(*sets_of.values()):
            raise InputError(f"{self.folder / METADATA_FILE} has data set {min(strays)} in no split: {AGAIN}")

    def _by_writer(self, sets_of: dict[str, list[int]]) -> dict[str, np.ndarray]:
        if not all(sets_of.values()):
            raise InputError(
                f"{self.folder} has too few data sets to split by writer (3 are needed): make more, or --split random"
            )
        return {name: np.flatnonzero(np.isin(self.sets, sets)) for name, sets in sets_of.items()}

    def _at_random(self, seed: int) -> dict[str, np.ndarray]:
        """A sample's side depends on it alone: a larger dataset must not test with what a smaller one trained on."""
        sets, rows = np.unique(self.sets, return_inverse=True)
        draws = [np.random.default_rng([seed, s]).random(len(self.classes)) for s in sets]
        draw = np.stack(draws)[rows, self.labels]
        sides = {"train": draw >= 0.15, "validation": (draw >= 0.1) & (draw < 0.15), "test": draw < 0.1}
        return {name: np.flatnonzero(side) for name, side in sides.items()}

    def check_images(self) -> None:
        """Compares the images with their checksums, for which all of them are read. Raises InputError."""
        for path in self.chunks:
            map_member(path, "images", "u")

    def writers(self, positions: np.ndarray) -> np.ndarray:
        """Who wrote the samples at these positions, int64 (n,): each sheet of each data set is another person's."""
        characters, sheets, _ = set_layout()
        sheet_of = dict(zip(characters, sheets.tolist(), strict=True))
        sheets = np.array([sheet_of.get(c, 0) for c in self.classes])
        return self.sets[positions] * (sheets.max() + 1) + sheets[self.labels[positions]]

    def _places(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each chunk that has any of these positions: its images, which of the positions, and their places in it."""
        chunk_of = np.searchsorted(self._starts, positions, side="right") - 1
        for chunk in np.unique(chunk_of):
            rows = np.flatnonzero(chunk_of == chunk)
            yield self._images[chunk], rows, positions[rows] - self._starts[chunk]

    def expect(self, positions: np.ndarray) -> None:
        """Has the system read these images, which will be wanted soon, meanwhile: a dataset may be larger than memory,
        and a disk that is asked for many things at once is quicker than one that is asked for one after the other."""
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
