"""Models of this toolkit beside other readers: each redrawing of the pictures that may suit a reader, all in turn."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data.samples import dataset_samples, labelled_images
from evaluation.model import load_model
from evaluation.other_readers import Reader, own_reader, rapidocr_reader, tesseract_reader
from files.command_line import InputError
from images.reading import read_grey

CHUNK = 50


@dataclass(frozen=True)
class Redrawing:
    """How a picture is changed before a reader sees it; lengths are shares of the picture's longer side.

    margin: the ink is cropped and set into a white square with this much round it (None: left as it is); thickness:
    what strokes gain in width; side: the longer side that the picture is reduced to, in pixels (None: left).
    """

    margin: float | None = None
    thickness: float = 0
    side: int | None = None

    def __str__(self) -> str:
        steps = [] if self.margin is None else [f"cropped, margin {100 * self.margin:.0f} %"]
        steps += [f"thicker by {100 * self.thickness:.0f} %"] if self.thickness else []
        steps += [f"{self.side} px"] if self.side else []
        return ", ".join(steps) or "as drawn"

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (H, W), dark ink on white, redrawn."""
        x, y, width, height = cv2.boundingRect((picture < 128).astype(np.uint8))
        if self.margin is not None and width:
            inside, longer = picture[y : y + height, x : x + width], max(width, height)
            side = longer + 2 * round(self.margin * longer)
            picture = np.full((side, side), 255, np.uint8)
            top, left = (side - height) // 2, (side - width) // 2
            picture[top : top + height, left : left + width] = inside
        if pen := round(self.thickness * max(picture.shape)):
            ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen + 1, pen + 1))
            picture = cv2.erode(picture, ellipse)  # the darkest within the pen: ink grows
        if self.side:
            scale = self.side / max(picture.shape)
            size = [max(1, round(scale * length)) for length in reversed(picture.shape)]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return picture


WHOLE = [Redrawing(), Redrawing(thickness=0.02), Redrawing(thickness=0.04)]
RAPIDOCR = [*WHOLE, *(Redrawing(0.2, thickness, 48) for thickness in (0, 0.02, 0.04, 0.06))]
NARROW = [Redrawing(0.2, thickness, 48) for thickness in (0, 0.04)]
TESSERACT = [*WHOLE, *(Redrawing(m, t, s) for m in (0.2, 0.4) for t in (0, 0.04, 0.08) for s in (32, 48))]


def processor_seconds() -> float:
    """Processor time of this process and of those it started and waited for."""
    return sum(os.times()[:4])


@dataclass
class Subject:
    """A reader with a redrawing, and what it did: for each picture the rank of the truth in its answers, 0 = first, and
    whether its answer is the truth where it must be one of the `classes`."""

    reader: Reader
    redrawing: Redrawing
    classes: str
    ranks: list[int | None] = field(default_factory=list)
    right_among_classes: list[bool] = field(default_factory=list)
    seconds: float = 0  # of processor time

    def take(self, pictures: list[np.ndarray], characters: list[str]) -> None:
        redrawn = [self.redrawing(picture) for picture in pictures]
        begin = processor_seconds()
        outputs = self.reader.read(redrawn)
        self.seconds += processor_seconds() - begin
        for output, character in zip(outputs, characters, strict=True):
            answers = self.reader.answers(output, None)
            self.ranks.append(answers.index(character) if character in answers else None)
            if self.reader.ranks:
                self.right_among_classes.append(self.reader.answers(output, self.classes)[0] == character)

    def figures(self) -> dict:
        count, ranks = len(self.ranks), self.reader.ranks
        right = self.ranks.count(0) / count
        return {
            "reader": self.reader.name,
            "redrawing": str(self.redrawing),
            "top1": 100 * right,
            "top1_standard_error": 100 * (right * (1 - right) / count) ** 0.5,
            "top5": 100 * (1 - self.ranks.count(None) / count) if ranks else None,
            "top1_among_classes": 100 * float(np.mean(self.right_among_classes)) if ranks else None,
            "milliseconds": 1000 * self.seconds / count,
            "bytes": self.reader.size,
        }


def subjects_of(models: list[Path], against: list[str]) -> list[Subject]:
    """The models as they are; of each of the others every way to redraw pictures for it."""
    classes = load_model(models[0]).classes
    pairs = [(own_reader(path), [Redrawing()]) for path in models]
    if "rapidocr" in against:
        pairs += [(rapidocr_reader(), RAPIDOCR), (rapidocr_reader(96), NARROW)]
    if "tesseract" in against:
        pairs += [(tesseract_reader(), TESSERACT)]
    return [Subject(reader, redrawing, classes) for reader, redrawings in pairs for redrawing in redrawings]


def some_rows(count: int, limit: int) -> np.ndarray:
    """Row numbers below `count`, at most `limit`, always the same; in an order in which no class comes all at once."""
    return np.random.default_rng(0).permutation(count)[:limit]


def image_pictures(folder: Path, classes: str, limit: int) -> tuple[list[np.ndarray], list[str], str]:
    """Pictures uint8 (H, W), dark ink on white, of a folder of images; the character of each; and what they are."""
    paths, characters = labelled_images(folder)
    known = [row for row, character in enumerate(characters) if character in classes]
    if not known:
        raise InputError(f"{folder} has no image of a character that the model knows")
    rows = [known[i] for i in some_rows(len(known), limit)]
    pictures = [read_grey(paths[row]) for row in rows]
    pictures = [picture if np.median(picture) >= 128 else 255 - picture for picture in pictures]
    description, left_out = f"{len(rows):,} images of {folder}", len(paths) - len(known)
    description += f" ({left_out:,} of other characters than the first model's left out)" if left_out else ""
    return [picture.round().astype(np.uint8) for picture in pictures], [characters[row] for row in rows], description


def dataset_pictures(folder: Path, model: Path, limit: int) -> tuple[list[np.ndarray], list[str], str]:
    """The same of the test split of a prepared dataset."""
    samples = dataset_samples(folder, "test", load_model(model).facts["config"])
    rows = some_rows(len(samples.characters), limit)
    pictures = (255 * (1 - samples.images(rows)[:, 0])).round().astype(np.uint8)
    return list(pictures), samples.characters[rows].tolist(), f"{len(rows):,} samples of {samples.facts['description']}"


def compare(subjects: list[Subject], pictures: list[np.ndarray], characters: list[str]) -> list[dict]:
    """The figures of all subjects after they took turns; `best` marks each reader's best redrawing by top-1."""
    for begin in tqdm(range(0, len(pictures), CHUNK), desc="reading", disable=not sys.stderr.isatty()):
        for subject in subjects:
            subject.take(pictures[begin : begin + CHUNK], characters[begin : begin + CHUNK])
    rows, best = [subject.figures() for subject in subjects], {}
    for row in rows:
        best.setdefault(row["reader"], row)
        best[row["reader"]] = max(best[row["reader"]], row, key=lambda r: r["top1"])
    return [row | {"best": row is best[row["reader"]]} for row in rows]


def table(rows: list[dict]) -> str:
    """Markdown; the best row of each reader in bold."""
    lines = ["| reader | pictures | top-1 | top-1 of the classes | top-5 | ms an image | bytes |", "|---" * 7 + "|"]
    for row in rows:
        mark = "**" if row["best"] else ""
        top1 = f"{mark}{row['top1']:.2f} % ± {row['top1_standard_error']:.2f}{mark}"
        more = ["–" if row[n] is None else f"{row[n]:.2f} %" for n in ("top1_among_classes", "top5")]
        cells = [row["reader"], row["redrawing"], top1, *more, f"{row['milliseconds']:.2f}", f"{row['bytes']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
