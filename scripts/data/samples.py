"""Samples with their true characters, to measure a model on: a split of the prepared dataset, images, a font."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from characters.names import character_of
from data.prepared import PreparedDataset
from files.command_line import InputError
from handwriting.fonts import Glyphs
from images.finding import is_litter, is_picture
from images.normalization import normalize
from images.reading import read_grey


@dataclass
class Samples:
    """n samples; images(rows) gives float32 (len(rows), 1, 64, 64), ink 1 on paper 0; writers are int64 (n,);
    pictures(rows) gives as many pictures as they were before that, grey values 0 to 255 (H, W)."""

    characters: np.ndarray
    images: Callable[[np.ndarray], np.ndarray]
    facts: dict
    pictures: Callable[[np.ndarray], list[np.ndarray]]
    writers: np.ndarray | None = None


def dataset_samples(folder: Path, split: str, config: dict) -> Samples:
    """One split of a prepared dataset, split as the model's own training split it."""
    split_by = config.get("split", "writer")
    dataset = PreparedDataset(folder, split_by, config.get("seed", 0))
    positions = dataset.splits[split].positions
    return Samples(
        np.array(list(dataset.classes))[dataset.labels[positions]],
        lambda rows: dataset.images(positions[rows]).numpy().astype(np.float32) / 255,
        {"description": f"the {split} split of {folder} ({dataset.source}, split by {split_by})"},
        lambda rows: list(255 - dataset.images(positions[rows]).numpy()[:, 0].astype(np.float32)),
        dataset.writers(positions),
    )


def labelled_images(folder: Path) -> dict[Path, str]:
    """The images of a folder that holds one folder for each character, in order, and the character of each."""
    characters = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/**/*")]):
        parts = (place := path.relative_to(folder)).parts
        if path.is_dir() or is_litter(place) or any(part.upper().startswith("README") for part in parts):
            continue
        if len(parts) > 1:
            characters[path] = character_of(folder / parts[0])
        elif is_picture(path):
            raise InputError(f"{path} lies in no folder that names its character: put it into one such as U+6F22")
    if not characters:
        raise InputError(f"{folder} is missing or holds no images, in one folder for each character such as U+6F22")
    return characters


def image_samples(folder: Path) -> Samples:
    """The same as samples, normalised when they are asked for."""
    paths, characters = zip(*labelled_images(folder).items(), strict=True)
    return Samples(
        np.array(characters),
        lambda rows: np.stack([normalize(read_grey(paths[row])) for row in rows]),
        {"description": f"the images of {folder}"},
        lambda rows: [read_grey(paths[row]) for row in rows],
    )


def font_samples(path: Path, classes: str) -> Samples:
    """Those of these characters that a font has, as it prints them. Raises InputError for one that has none."""
    glyphs = Glyphs(path, 200)
    characters = list(filter(glyphs.has, classes))
    if not characters:
        raise InputError(f"{path} has none of the model's characters")

    def pictures(rows: np.ndarray) -> list[np.ndarray]:
        return [255 - glyphs.draw(characters[row], 80).astype(np.float32) for row in rows]

    facts = {"description": f"the {len(characters):,} of its characters that the font {path} has"}
    return Samples(np.array(characters), lambda rows: np.stack([*map(normalize, pictures(rows))]), facts, pictures)
