"""Models of this toolkit beside other programs that read Japanese characters, each with pictures redrawn to suit it.
Nothing is downloaded: the weights come with the packages (requirements-alternatives.txt; Debian tesseract-ocr-jpn)."""

import importlib.metadata
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from data.labelled import labelled_pictures
from files.command_line import InputError
from images.reading import read_grey
from inference.recognizer import Recognizer

CHUNK = 50
# How a picture is changed before a reader sees it: margin round the ink and what strokes gain in width, as shares of
# the longer side, and the side in pixels; None: as it is drawn.
RAPIDOCR = [None, *itertools.product((0.2,), (0, 0.02, 0.04, 0.06), (48,))]
TESSERACT = [None, *itertools.product((0.2, 0.4), (0, 0.04, 0.08), (32, 48))]


def redraw(picture: np.ndarray, margin: float, thickness: float, side: int) -> np.ndarray:
    """uint8 (H, W), dark ink on white, as uint8 (side, side): cropped to the ink, with thicker strokes."""
    x, y, width, height = cv2.boundingRect((picture < 128).astype(np.uint8))
    if width:
        size = max(width, height) + 2 * round(margin * max(width, height))
        top, left = (size - height) // 2, (size - width) // 2
        square = np.full((size, size), 255, np.uint8)
        square[top : top + height, left : left + width] = picture[y : y + height, x : x + width]
        pen = round(thickness * size) + 1
        picture = cv2.erode(square, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pen, pen)))  # the darkest: ink grows
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if side < len(picture) else cv2.INTER_LINEAR)


@dataclass
class Reader:
    """A program with its model files, `size` bytes: read(pictures), uint8 (H, W) each, dark ink on white, gives an
    output for each, in the time that is measured; ranking(output) is the characters that it may stand for, likeliest
    first; `ranks`: whether these are several."""

    name: str
    size: int
    read: Callable[[list[np.ndarray]], list]
    ranking: Callable[[Any], list[str]]
    redrawings: list[tuple[float, float, int] | None]
    ranks: bool = True


def ranking(scores: np.ndarray, symbols: Sequence[str]) -> list[str]:
    return [symbols[i] for i in np.argsort(-scores, kind="stable")]


def own_reader(path: Path) -> Reader:
    """A model of this toolkit, one picture at a time; normalisation included."""
    recognizer = Recognizer(path, threads=1)

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        return [recognizer.picture_logits([picture.astype(np.float32)])[0] for picture in pictures]

    return Reader(str(path), path.stat().st_size, read, lambda logits: ranking(logits, recognizer.classes), [None])


def one_character_scores(shares: np.ndarray) -> np.ndarray:
    """What a CTC output (steps, symbols), symbol 0 blank, gives each symbol as the whole text: float64 (symbols,), the
    sum over all alignments: blanks, then the symbol once or longer, then blanks."""
    shares = shares.astype(np.float64)
    before, written, after = 1.0, np.zeros(shares.shape[1]), np.zeros(shares.shape[1])
    for step in shares:
        after = (after + written) * step[0]
        written = (written + before) * step
        before *= step[0]
    return np.append(0, (written + after)[1:])


def rapidocr_reader() -> Reader:
    """RapidOCR's recogniser alone, on the small model of its wheel, one thread; it ranks texts of one character."""
    import rapidocr  # optional

    model = Path(rapidocr.__file__).parent / "models" / "PP-OCRv6_rec_small.onnx"
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = rapidocr.RapidOCR(params={"Global.log_level": "critical", "Rec.model_path": str(model)} | threads)
    engine(np.full((48, 48, 3), 255, np.uint8), use_det=False, use_cls=False, use_rec=True)  # loads the recogniser
    recognizer = engine.text_rec

    def read(pictures: list[np.ndarray]) -> list[np.ndarray]:
        outputs = []
        for picture in pictures:
            ratio = max(320 / 48, picture.shape[1] / picture.shape[0])  # its own choice: 48 high, 320 wide
            colour = np.repeat(picture[:, :, None], 3, axis=2)
            outputs.append(recognizer.session(recognizer.resize_norm_img(colour, ratio)[None])[0])
        return outputs

    def characters(shares: np.ndarray) -> list[str]:
        return ranking(one_character_scores(shares), recognizer.postprocess_op.character)

    name = f"RapidOCR {importlib.metadata.version('rapidocr')}, PP-OCRv6 small"
    return Reader(name, model.stat().st_size, read, characters, RAPIDOCR)


def tesseract_reader() -> Reader:
    """Tesseract with its Japanese data, one thread, each picture as one character: the first of its text counts."""
    os.environ["OMP_THREAD_LIMIT"] = "1"  # read when the library is loaded
    import tesserocr  # optional

    given, name = os.environ.get("TESSDATA_PREFIX"), "jpn.traineddata"
    data = sorted(Path(given).glob(name) if given else Path("/usr/share").glob(f"tess*/**/{name}"))
    if not data:
        raise InputError(f"tesseract's {name} is missing: apt-get install tesseract-ocr-jpn, or set TESSDATA_PREFIX")
    engine = tesserocr.PyTessBaseAPI(path=f"{data[-1].parent}/", lang="jpn", psm=tesserocr.PSM.SINGLE_CHAR)

    def read(pictures: list[np.ndarray]) -> list[str]:
        texts = []
        for picture in pictures:
            engine.SetImage(Image.fromarray(picture))
            texts.append(engine.GetUTF8Text().strip())
        return texts

    name = f"Tesseract {tesserocr.tesseract_version().split()[1]}, jpn"
    return Reader(name, data[-1].stat().st_size, read, lambda text: list(text[:1]), TESSERACT, ranks=False)


OTHERS = {"rapidocr": rapidocr_reader, "tesseract": tesseract_reader}


def image_pictures(folder: Path, classes: str, limit: int) -> list[tuple[np.ndarray, str]]:
    """Pictures uint8 (H, W), dark ink on white, with their characters, of a folder of images: at most `limit`, always
    the same. Raises InputError if none is of one of the classes."""
    images = [(path, char) for path, char, _ in labelled_pictures(folder) if char in classes]
    if not images:
        raise InputError(f"{folder} has no image of a character that the model knows")
    pictures = []
    for path, char in (images[i] for i in np.random.default_rng(0).permutation(len(images))[:limit]):
        grey = read_grey(path)
        pictures.append(((grey if np.median(grey) >= 128 else 255 - grey).round().astype(np.uint8), char))
    return pictures


def compare(readers: list[Reader], classes: str, pictures: list[tuple[np.ndarray, str]]) -> str:
    """A table of each reader with each redrawing, which take turns, in Markdown; each reader's best top-1 in bold."""
    tried = [(reader, redrawing) for reader in readers for redrawing in reader.redrawings]
    seconds, hits, among = [0.0] * len(tried), [[] for _ in tried], frozenset(classes)
    for begin in tqdm(range(0, len(pictures), CHUNK), desc="reading", disable=not sys.stderr.isatty()):
        chunk, truths = zip(*pictures[begin : begin + CHUNK], strict=True)
        for i, (reader, redrawing) in enumerate(tried):
            redrawn = [redraw(picture, *redrawing) if redrawing else picture for picture in chunk]
            started = time.process_time()
            outputs = reader.read(redrawn)
            seconds[i] += time.process_time() - started
            for output, truth in zip(outputs, truths, strict=True):
                answers = reader.ranking(output)
                of_classes = next((answer for answer in answers if answer in among), None)
                hits[i].append((answers[:1] == [truth], of_classes == truth, truth in answers[:5]))
    lines = ["| reader | pictures | top-1 | top-1 of the classes | top-5 | ms an image | bytes |", "|---" * 7 + "|"]
    shares, best = np.mean(hits, axis=1), {}
    for (reader, _), (top1, *_) in zip(tried, shares, strict=True):
        best[reader.name] = max(best.get(reader.name, 0), top1)
    for (reader, redrawing), taken, (top1, *more) in zip(tried, seconds, shares, strict=True):
        steps = "cropped, margin {:.0%}, {:.0%} thicker, {} px".format(*redrawing) if redrawing else "as drawn"
        mark, error = "**" if top1 == best[reader.name] else "", (top1 * (1 - top1) / len(pictures)) ** 0.5
        cells = [reader.name, steps, f"{mark}{100 * top1:.2f} % ± {100 * error:.2f}{mark}"]
        cells += [f"{100 * share:.2f} %" if reader.ranks else "–" for share in more]
        lines.append(f"| {' | '.join(cells)} | {1000 * taken / len(pictures):.2f} | {reader.size:,} |")
    return "\n".join(lines)
