"""Samples with their true characters, to measure a model on: a split of the prepared dataset, images, a font."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.labelled import labelled_pictures
from data.prepared import PreparedDataset
from files.command_line import InputError
from handwriting.fonts import Glyphs
from images.normalization import normalize
from images.reading import read_grey


@dataclass
class Samples:
    """n samples; images(rows) gives float32 (len(rows), 1, 64, 64), ink 1 on paper 0; writers are int64 (n,);
    pictures(rows) gives as many pictures as they were before that, grey values 0 to 255 (H, W); sources are the names
    (n,) of what the samples are from, where there are several."""

    characters: np.ndarray
    images: Callable[[np.ndarray], np.ndarray]
    facts: dict
    pictures: Callable[[np.ndarray], list[np.ndarray]]
    writers: np.ndarray | None = None
    sources: np.ndarray | None = None


def dataset_samples(folder: Path, split: str, config: dict) -> Samples:
    """One split of a prepared dataset, split as the model's own training split it."""
    split_by = config.get("split", "writer")
    dataset = PreparedDataset(folder, split_by, config.get("seed", 0))
    positions, several = dataset.splits[split].positions, len(dataset.source_names) > 1
    return Samples(
        np.array(list(dataset.classes))[dataset.labels[positions]],
        lambda rows: dataset.images(positions[rows]).numpy().astype(np.float32) / 255,
        {"description": f"the {split} split of {folder} ({dataset.source}, split by {split_by})"},
        lambda rows: list(255 - dataset.images(positions[rows]).numpy()[:, 0].astype(np.float32)),
        dataset.writers(positions),
        np.array([dataset.source_names[n] for n in dataset.sources[positions].tolist()]) if several else None,
    )


def image_samples(folder: Path) -> Samples:
    """The same as samples, normalised when they are asked for."""
    paths, characters, writers = zip(*labelled_pictures(folder), strict=True)
    by_whom = [writer or str(path) for path, writer in zip(paths, writers, strict=True)]
    return Samples(
        np.array(characters),
        lambda rows: np.stack([normalize(read_grey(paths[row])) for row in rows]),
        {"description": f"the images of {folder}"},
        lambda rows: [read_grey(paths[row]) for row in rows],
        np.unique(by_whom, return_inverse=True)[1] if any(writers) else None,
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
