"""Other programs that read Japanese characters, behind one call: what a model of this toolkit is compared with.

Nothing is downloaded: the weights come with the packages (requirements-alternatives.txt; Debian's tesseract-ocr and
tesseract-ocr-jpn).
"""

import importlib.metadata
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from files.command_line import InputError
from inference.recognizer import Recognizer

ANSWERS = 5
RAPIDOCR_MODEL = "PP-OCRv6_rec_small.onnx"


@dataclass
class Reader:
    """A program with its model files, `size` bytes.

    read(pictures), grey uint8 (H, W) each, dark ink on white paper, gives an output for each, in the time that is
    measured; answers(output, among) the characters it stands for, likeliest first: of these, or of all that it knows.
    `ranks`: whether there are several, so that `among` can choose.
    """

    name: str
    size: int
    read: Callable[[list[np.ndarray]], list]
    answers: Callable[[Any, str | None], list[str]]
    ranks: bool = True


@dataclass(frozen=True)
class Redrawing:
    """How a picture is changed before a reader sees it; lengths are shares of the picture's longer side.

    margin: the ink is cropped and set into a white square with so much round it (None: left as it is); thickness: what
    strokes gain in width; side: the picture is reduced to so many pixels (None: left).
    """

    margin: float | None = None
    thickness: float = 0
    side: int | None = None

    def __str__(self) -> str:
        told = [] if self.margin is None else [f"cropped, margin {100 * self.margin:.0f} %"]
        told += [f"thicker by {100 * self.thickness:.0f} %"] if self.thickness else []
        told += [f"{self.side} px"] if self.side else []
        return ", ".join(told) or "as drawn"

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        if self.margin is not None:
            picture = cropped(picture, self.margin)
        width = round(self.thickness * max(picture.shape))
        if width:
            pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 1, width + 1))
            picture = cv2.erode(picture, pen)  # the darkest within the pen: ink grows
        if self.side:
            scale = self.side / max(picture.shape)
            size = [max(1, round(scale * length)) for length in reversed(picture.shape)]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return picture


def cropped(picture: np.ndarray, margin: float) -> np.ndarray:
    """The ink of a picture in the middle of a white square, `margin` of the ink's longer side round it."""
    ink = picture < 128
    if not ink.any():
        return picture
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(inside.shape) + 2 * round(margin * max(inside.shape))
    square = np.full((side, side), 255, np.uint8)
    top, left = ((side - length) // 2 for length in inside.shape)
    square[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return square


def own_reader(path: Path) -> Reader:
    """A model of this toolkit, one picture at a time; normalisation included."""
    recognizer = Recognizer(path, threads=1)

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        return [recognizer.picture_logits([picture.astype(np.float32)])[0] for picture in pictures]

    return Reader(
        str(path), path.stat().st_size, read, lambda logits, among: highest(logits, recognizer.classes, among)
    )


def highest(scores: np.ndarray, symbols: Sequence[str], among: str | None) -> list[str]:
    order = np.argsort(-scores, kind="stable")
    allowed = set(symbols if among is None else among)
    return list(itertools.islice((symbols[i] for i in order if symbols[i] in allowed), ANSWERS))


def one_character_scores(shares: np.ndarray) -> np.ndarray:
    """What a CTC output (steps, symbols), symbol 0 blank, gives each symbol as the whole text: float64 (symbols,).

    The sum over all alignments: blanks, then the symbol once or longer, then blanks.
    """
    shares = shares.astype(np.float64)
    before, written, after = 1.0, np.zeros(shares.shape[1]), np.zeros(shares.shape[1])
    for step in shares:
        after = (after + written) * step[0]
        written = (written + before) * step
        before *= step[0]
    scores = written + after
    scores[0] = 0
    return scores


def rapidocr_reader(width: int = 320) -> Reader:
    """RapidOCR's recogniser alone, on the PP-OCRv6 small model of its wheel, one thread, one picture at a time.

    `width` is that of its input, 48 high; 320 is its own choice, less is quicker. Answers are the likeliest texts of
    one character.
    """
    try:
        import rapidocr
    except ImportError:
        raise InputError("the package rapidocr is missing: pip install -r requirements-alternatives.txt") from None
    model = Path(rapidocr.__file__).parent / "models" / RAPIDOCR_MODEL
    if not model.is_file():
        raise InputError(f"{model} is missing: this version of rapidocr comes without it")
    engine = rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            "Rec.model_path": str(model),
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    engine(np.full((48, 48, 3), 255, np.uint8), use_det=False, use_cls=False, use_rec=True)  # loads the recogniser
    recognizer = engine.text_rec
    symbols = recognizer.postprocess_op.character

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        outputs = []
        for picture in pictures:
            colour = np.repeat(picture[:, :, None], 3, axis=2)
            ratio = max(width / 48, picture.shape[1] / picture.shape[0])
            outputs.append(recognizer.session(recognizer.resize_norm_img(colour, ratio)[None])[0])
        return outputs

    name = f"RapidOCR {importlib.metadata.version('rapidocr')}, PP-OCRv6 small, {width} wide"

    def answers(shares: np.ndarray, among: str | None) -> list[str]:
        return highest(one_character_scores(shares), symbols, among)

    return Reader(name, model.stat().st_size, read, answers)


def tesseract_reader() -> Reader:
    """Tesseract with its Japanese data, one thread, as a single character (psm 10), all pictures in one process.

    It gives one answer; where that has several characters it counts as the first.
    """
    program = shutil.which("tesseract")
    if not program:
        raise InputError("the program tesseract is missing: apt-get install tesseract-ocr tesseract-ocr-jpn")
    listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True, check=False)
    told = (listed.stdout + listed.stderr).splitlines()
    if "jpn" not in told:
        raise InputError("tesseract has no Japanese data: apt-get install tesseract-ocr-jpn")
    folder = re.search(r'"(.+)"', told[0])
    if not folder:
        raise InputError("tesseract is older than version 5: it does not say where its data lies")
    data = Path(folder[1]) / "jpn.traineddata"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    number = (version.stdout + version.stderr).split()[1]

    def read(pictures: list[np.ndarray]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{i}.png" for i in range(len(pictures))]
            for path, picture in zip(paths, pictures, strict=True):
                cv2.imwrite(str(path), picture)
            names = Path(folder) / "names.txt"
            names.write_text("".join(f"{path}\n" for path in paths))
            done = subprocess.run(
                [program, names, "stdout", "-l", "jpn", "--psm", "10", "tsv"],
                env=os.environ | {"OMP_THREAD_LIMIT": "1"},
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
        lines = [line.split("\t") for line in done.stdout.splitlines()[1:]]
        pages = {int(line[1]): "" for line in lines}
        if done.returncode or list(pages) != list(range(1, len(pictures) + 1)):
            raise OSError(f"tesseract read {len(pages)} of {len(pictures)} pictures ({done.stderr.strip()[-200:]})")
        for line in lines:
            pages[int(line[1])] += line[11].strip() if len(line) > 11 else ""
        return list(pages.values())

    return Reader(f"Tesseract {number}, jpn", data.stat().st_size, read, lambda text, _: list(text[:1]), ranks=False)
