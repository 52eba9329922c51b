"""Samples with their true characters, to measure a model on: a split of the prepared dataset, or a folder of images."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from characters.names import character_of
from data.prepared import PreparedDataset
from files.command_line import InputError
from images.normalization import normalize
from images.reading import IMAGE_SUFFIXES, read_grey


@dataclass
class Samples:
    """What a model is measured on: the true character of each sample (n,), its images on demand, and its writer (n,)
    where that is known.

    images(rows) gives float32 (len(rows), 1, 64, 64), ink 1 on paper 0.
    """

    characters: np.ndarray
    images: Callable[[np.ndarray], np.ndarray]
    facts: dict
    writers: np.ndarray | None = None


def dataset_samples(folder: Path, split: str, config: dict) -> Samples:
    """One split of a prepared dataset, split as the model's own training split it."""
    split_by = config.get("split", "writer")
    dataset = PreparedDataset(folder, split_by, config.get("seed", 0))
    positions = dataset.splits[split].positions
    if not len(positions):
        raise InputError(f"{folder} has no samples to {split} with: make more sets")
    description = f"the {split} split of {folder} ({dataset.source}, split by {split_by})"
    facts = {"description": description, "split": split, "split_by": split_by, "source": dataset.source}
    characters = np.array(list(dataset.classes))[dataset.labels[positions]]
    return Samples(
        characters,
        lambda rows: dataset.images(positions[rows]).numpy().astype(np.float32) / 255,
        facts,
        dataset.writers(positions),
    )


def is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.upper().startswith("README")


def labelled_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder that holds one folder for each character, and the character of each."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: give a folder of images with --images")
    paths, characters = [], []
    for entry in sorted(p for p in folder.iterdir() if not is_hidden(p)):
        if entry.is_dir():
            character = character_of(entry)
            files = sorted(p for p in entry.rglob("*") if p.is_file() and not is_hidden(p))
            paths += files
            characters += [character] * len(files)
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            raise InputError(f"{entry} lies in no folder that names its character: put it into one such as U+6F22")
    if not paths:
        raise InputError(f"{folder} holds no images: they go into one folder for each character, such as U+6F22")
    return paths, characters


def image_samples(folder: Path) -> Samples:
    """The same as samples, normalised when they are asked for."""
    paths, characters = labelled_images(folder)

    def images(rows: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda row: normalize(read_grey(paths[row])), rows)))

    return Samples(np.array(characters), images, {"description": f"the images of {folder}"})
