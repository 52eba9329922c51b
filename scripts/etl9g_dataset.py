"""The prepared dataset: uint8 images memory-mapped from its chunks, split by writer, fetched in whole batches."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from command_line import InputError
from normalization import CANVAS

CHUNK_NAME = "etl9g_dataset_chunk_{:02d}.npz"
MAPPING_FILE, METADATA_FILE = "character_mapping.json", "metadata.json"
SPLITS = ("train", "validation", "test")


def split_sets(sets: list[int]) -> dict[str, list[int]]:
    """Data sets to splits, so that no writer is on two sides: of every twenty one validates and two test.

    With fewer than twenty the last one tests and the one before validates; one or two sets cannot be split by writer.
    """
    if len(sets) < 3:
        return {"train": list(sets), "validation": [], "test": []}
    test = sets[9::10] or sets[-1:]
    validation = sets[4::20] if len(sets) >= 20 else sets[-2:-1] if sets[-2] not in test else sets[-3:-2]
    return {"train": [s for s in sets if s not in test and s not in validation], "validation": validation, "test": test}


def _map_member(path: Path, member: str) -> np.ndarray:
    """One array of an uncompressed npz, memory-mapped. Raises InputError if the file is not such a thing."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(member + ".npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise InputError(f"{path} is compressed: make it again with scripts/prepare_dataset.py")
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            name, extra = np.frombuffer(file.read(4), "<u2")
            file.seek(info.header_offset + 30 + int(name) + int(extra))
            version = npy.read_magic(file)
            shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(
                file
            )
            if dtype.hasobject or fortran or file.tell() + np.prod(shape) * dtype.itemsize > path.stat().st_size:
                raise InputError(f"{path} is damaged: delete it and run scripts/prepare_dataset.py again")
            return np.memmap(path, dtype, "r", file.tell(), shape)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}): delete it and run scripts/prepare_dataset.py again") from None


@dataclass
class Split:
    """The samples of one split: positions in the whole dataset (n,) and labels int64 (n,)."""

    positions: np.ndarray
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.positions)


class PreparedDataset:
    """dataset/ as prepare_dataset.py leaves it: classes, source, splits, and images by position."""

    def __init__(self, folder: Path, split: str = "writer", seed: int = 0):
        metadata_path, mapping_path = folder / METADATA_FILE, folder / MAPPING_FILE
        if not metadata_path.is_file() or not mapping_path.is_file():
            raise FileNotFoundError(
                f"{folder} is not a prepared dataset: run scripts/prepare_dataset.py --output-dir {folder}"
            )
        try:
            self.metadata = json.loads(metadata_path.read_text(encoding="utf-8"))
            mapping = json.loads(mapping_path.read_text(encoding="utf-8"))["classes"]
            self.classes = "".join(row["character"] for row in mapping)
            chunks = [folder / CHUNK_NAME.format(int(f["file"][-2:])) for f in self.metadata["files"]]
            if not chunks:
                raise ValueError("no files")
            self.source = str(self.metadata["source"])
            splits = {name: [int(s) for s in self.metadata["splits"][name]] for name in SPLITS}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: {METADATA_FILE} or {MAPPING_FILE} is damaged ({error}): prepare it again"
            ) from None
        self._images = []
        labels, sets = [], []
        for path in chunks:
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: run scripts/prepare_dataset.py --output-dir {folder}")
            self._images.append(_map_member(path, "images"))
            labels.append(np.array(_map_member(path, "labels")))
            sets.append(np.array(_map_member(path, "sets")))
            if self._images[-1].shape != (len(labels[-1]), CANVAS, CANVAS) or len(sets[-1]) != len(labels[-1]):
                raise InputError(f"{path} is damaged: delete it and run scripts/prepare_dataset.py again")
        self._starts = np.cumsum([0] + [len(images) for images in self._images])
        self.labels = np.concatenate(labels).astype(np.int64)
        self.sets = np.concatenate(sets)
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise InputError(f"{folder}: the labels and {MAPPING_FILE} disagree: prepare it again")
        self.split_by = split
        if split == "writer":
            if not all(splits.values()):
                raise InputError(
                    f"{folder} has too few data sets to split by writer (3 are needed): make more, or --split random"
                )
            positions = {name: np.flatnonzero(np.isin(self.sets, splits[name])) for name in SPLITS}
        else:
            order = np.random.default_rng(seed).permutation(len(self.labels))
            test, validation = len(order) // 10, len(order) // 20
            parts = np.split(order, [len(order) - test - validation, len(order) - test])
            positions = {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}
        self.splits = {name: Split(p, torch.from_numpy(self.labels[p])) for name, p in positions.items()}

    def images(self, positions: np.ndarray) -> torch.Tensor:
        """Images uint8 (n, 1, 64, 64), 255 = ink, at these positions of the whole dataset."""
        batch = np.empty((len(positions), 1, CANVAS, CANVAS), np.uint8)
        chunk_of = np.searchsorted(self._starts, positions, side="right") - 1
        for chunk in np.unique(chunk_of):
            rows = np.flatnonzero(chunk_of == chunk)
            batch[rows, 0] = self._images[chunk][positions[rows] - self._starts[chunk]]
        return torch.from_numpy(batch)
