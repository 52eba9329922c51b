"""TODO doc: from compare_alternatives"""

import argparse
import os
import platform
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.samples import dataset_samples, labelled_images
from evaluation.model import load_model
from evaluation.other_readers import Reader, Redrawing, own_reader, rapidocr_reader, tesseract_reader
from files.command_line import InputError
from images.reading import read_grey

CHUNK = 50
AS_DRAWN = Redrawing()
WHOLE = [AS_DRAWN, Redrawing(thickness=0.02), Redrawing(thickness=0.04)]
RAPIDOCR = [*WHOLE, *(Redrawing(0.2, thickness, 48) for thickness in (0, 0.02, 0.04, 0.06))]
NARROW = [Redrawing(0.2, thickness, 48) for thickness in (0, 0.04)]
TESSERACT = [*WHOLE, *(Redrawing(m, t, s) for m in (0.2, 0.4) for t in (0, 0.04, 0.08) for s in (32, 48))]


def processor_seconds() -> float:
    """What this process and those it started and waited for have computed so far."""
    return sum(os.times()[:4])


@dataclass
class Subject:
    """A reader with a redrawing, and what it did: for each picture the place of the truth in its answers, 0 = first,
    and whether its answer is the truth where it must be one of the `classes`."""

    reader: Reader
    redrawing: Redrawing
    classes: str
    places: list[int | None] = field(default_factory=list)
    right_among_classes: list[bool] = field(default_factory=list)
    seconds: float = 0  # of processor time

    def take(self, pictures: list[np.ndarray], characters: list[str]) -> None:
        redrawn = [self.redrawing(picture) for picture in pictures]
        begin = processor_seconds()
        outputs = self.reader.read(redrawn)
        self.seconds += processor_seconds() - begin
        for output, character in zip(outputs, characters, strict=True):
            own = self.reader.answers(output, None)
            if self.reader.ranks:
                self.right_among_classes.append(self.reader.answers(output, self.classes)[0] == character)
            self.places.append(own.index(character) if character in own else None)

    def figures(self) -> dict:
        right = sum(place == 0 for place in self.places) / len(self.places)
        found = sum(place is not None for place in self.places) / len(self.places)
        return {
            "reader": self.reader.name,
            "redrawing": str(self.redrawing),
            "top1": 100 * right,
            "top1_standard_error": 100 * (right * (1 - right) / len(self.places)) ** 0.5,
            "top5": 100 * found if self.reader.ranks else None,
            "top1_among_classes": 100 * float(np.mean(self.right_among_classes)) if self.reader.ranks else None,
            "milliseconds": 1000 * self.seconds / len(self.places),
            "bytes": self.reader.size,
        }


def subjects_of(models: list[Path], against: list[str]) -> list[Subject]:
    """The models as they are; of each of the others every way to redraw pictures for it."""
    classes = load_model(models[0]).classes
    found = [Subject(own_reader(path), AS_DRAWN, classes) for path in models]
    if "rapidocr" in against:
        usual, narrow = rapidocr_reader(), rapidocr_reader(96)
        found += [Subject(usual, redrawing, classes) for redrawing in RAPIDOCR]
        found += [Subject(narrow, redrawing, classes) for redrawing in NARROW]
    if "tesseract" in against:
        reader = tesseract_reader()
        found += [Subject(reader, redrawing, classes) for redrawing in TESSERACT]
    return found


def pictures_of(arguments: argparse.Namespace, classes: str) -> tuple[list[np.ndarray], list[str], str]:
    """Pictures uint8 (H, W), dark ink on white, the character of each, and what they are; at most --limit."""
    if arguments.images:
        paths, characters = labelled_images(arguments.images)
        known = [row for row, character in enumerate(characters) if character in classes]
        if not known:
            raise InputError(f"{arguments.images} has no image of a character that {arguments.model[0]} knows")
        left_out = len(paths) - len(known)
        paths, characters = [paths[row] for row in known], [characters[row] for row in known]
        rows = some_rows(len(paths), arguments.limit)
        told = f"{len(rows):,} images of {arguments.images}"
        told += f" ({left_out:,} of other characters than the first model's left out)" if left_out else ""
        pictures = [read_grey(paths[row]) for row in rows]
        pictures = [picture if np.median(picture) >= 128 else 255 - picture for picture in pictures]
    else:
        samples = dataset_samples(arguments.data_dir, "test", load_model(arguments.model[0]).facts["config"])
        characters = samples.characters
        rows = some_rows(len(characters), arguments.limit)
        told = f"{len(rows):,} samples of {samples.facts['told']}"
        pictures = 255 * (1 - samples.images(rows)[:, 0])
    return [picture.round().astype(np.uint8) for picture in pictures], [str(characters[row]) for row in rows], told


def some_rows(count: int, limit: int) -> np.ndarray:
    """All rows, or as many as the limit, always the same ones; in an order in which no class comes all at once."""
    return np.random.default_rng(0).permutation(count)[:limit]


def compare(subjects: list[Subject], pictures: list[np.ndarray], characters: list[str]) -> list[dict]:
    """The figures of all subjects after they took turns; `best` marks each reader's best redrawing by top-1."""
    for begin in tqdm(range(0, len(pictures), CHUNK), desc="reading", disable=not sys.stderr.isatty()):
        chunk = slice(begin, begin + CHUNK)
        for subject in subjects:
            subject.take(pictures[chunk], characters[chunk])
    rows = [subject.figures() for subject in subjects]
    for row in rows:
        row["best"] = row is max((r for r in rows if r["reader"] == row["reader"]), key=lambda r: r["top1"])
    return rows


def processor() -> str:
    """The processor's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)", told.read_text() if told.is_file() else "", re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: list[dict]) -> str:
    """Markdown; the best row of each reader in bold."""
    lines = ["| reader | pictures | top-1 | top-1 of the classes | top-5 | ms an image | bytes |", "|---" * 7 + "|"]
    for row in rows:
        mark = "**" if row["best"] else ""
        top1 = f"{mark}{row['top1']:.2f} % ± {row['top1_standard_error']:.2f}{mark}"
        more = ["–" if row[n] is None else f"{row[n]:.2f} %" for n in ("top1_among_classes", "top5")]
        told = [row["reader"], row["redrawing"], top1, *more, f"{row['milliseconds']:.2f}", f"{row['bytes']:,}"]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def one_thread() -> None:
    """Keeps numpy's and OpenCV's libraries from using more."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise InputError("the package threadpoolctl is missing: pip install -r requirements-alternatives.txt") from None
    threadpool_limits(1)
    cv2.setNumThreads(1)
