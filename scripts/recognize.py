"""Recognise handwritten characters in images: any size, colour or polarity, one character each; folders too.

    python scripts/recognize.py photo.png drawings/
    python scripts/recognize.py photo.png --model models/kanji_model.onnx --top 5

Needs onnxruntime, numpy and Pillow alone. With --json one line an image:
{"image": path, "top": [{"character": "漢", "probability": 0.98}, …], "known": true, "looks_like": []}

`known` is false for what is none of the model's characters, where the model's file has a threshold for that
(calibrate_confidence.py); `looks_like` names what the first character is often mixed up with, from confusable.json
beside the model (evaluate.py --confusable).
"""

import argparse
import functools
import json
import struct
import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import name

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from PIL import Image, ImageOps, UnidentifiedImageError

from command_line import InputError, first_line, run
from confidence import confidence_of
from confusable import FILE_NAME as CONFUSABLE
from confusable import Confusable
from confusable import load as load_confusable
from normalization import CANVAS, normalize

RELEASED = Path(__file__).resolve().parents[1] / "models/released/cnn_int8_quantized_quantized_int8_onnx_opset14.onnx"
DEFAULT_MODELS = (Path("models/kanji_model.onnx"), RELEASED)  # one's own first
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow's others, some start programs
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 1024  # larger pictures are reduced while they are decoded
BATCH = 64
CONSIDERED = 5  # of the likeliest characters, for what else a picture looks like
MOST_MEMORY = 768 << 20  # bytes that a model may take; those of this toolkit take a tenth
LONGEST_TRIAL = 8.0  # seconds for a blank picture, after which a model is refused; one of this toolkit takes 0.02

# What Pillow raises for damaged images, and onnxruntime for models that are none.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError)
_UNREADABLE += (RuntimeError, AssertionError, struct.error)
_NO_MODEL = (RuntimeError, UnicodeDecodeError)
_NO_MODEL += tuple(e for e in vars(onnxruntime_errors).values() if isinstance(e, type) and issubclass(e, Exception))


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey values float32 (H, W), 0 to 255; transparent parts are paper.

    Raises FileNotFoundError, or InputError for a file that is no image or has more than 50 million pixels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of an image or a folder of images")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise InputError(f"{path} has {picture.width} x {picture.height} pixels: make it smaller")
            picture.draft("L", (LONGEST_SIDE, LONGEST_SIDE))
            deep, clear = picture.mode.startswith(("I", "F")), picture.has_transparency_data
            picture = picture.convert("F" if deep else "RGBA" if clear else "L")
            if max(picture.size) > LONGEST_SIDE:
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
            ImageOps.exif_transpose(picture, in_place=True)
            if clear and not deep:
                picture = over_paper(picture).convert("L")
            values = np.asarray(picture, np.float32)
            if deep:
                if not np.isfinite(values).all():
                    raise InputError(f"{path} is a damaged image (some of its values are no numbers)")
                low, high = float(values.min()), float(values.max())
                # In float64, as the difference of two float32 need not be one.
                values = np.floor((values.astype(np.float64) - low) * (255 / max(high - low, 1e-6)))
            return values.astype(np.float32, copy=False)
    except (Image.DecompressionBombError, UnidentifiedImageError):
        raise InputError(f"{path} is not an image that can be read") from None
    except _UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        reason = first_line(error)
        raise InputError(f"{path} is a damaged image ({reason})") from None


def over_paper(picture: Image.Image) -> Image.Image:
    """A picture with transparency on paper that its ink stands out from: white, or black under light ink."""
    values = np.asarray(picture, np.float32)
    opacity = values[..., 3]
    ink = float((values[..., :3].mean(axis=2) * opacity).sum() / max(float(opacity.sum()), 1))
    paper = Image.new("RGBA", picture.size, (0, 0, 0, 255) if ink > 128 and opacity.mean() < 128 else (255,) * 4)
    return Image.alpha_composite(paper, picture)


@functools.cache
def limited_memory() -> None:
    """Makes onnxruntime refuse a model that asks for more than MOST_MEMORY on the processor."""
    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    how = onnxruntime.OrtArenaCfg({"max_mem": MOST_MEMORY, "arena_extend_strategy": 1})  # 1: no more than is asked for
    onnxruntime.create_and_register_allocator(where, how)


def open_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on what onnxruntime finds here, or, where that does not start, on the processor.

    onnxruntime would try again by itself, and print that it does, for damaged files too.
    """
    start = functools.partial(onnxruntime.InferenceSession, str(path), options, enable_fallback=0)
    try:
        return start(providers=onnxruntime.get_available_providers())
    except _NO_MODEL:
        return start(providers=["CPUExecutionProvider"])


class Recognizer:
    """An exported model: its `classes`, the logits of pictures or of normalised images, how far they can be trusted
    (`confidence`), and what else its file says.

    `takes_pictures`: whether the normalisation is in the file (convert_to_onnx.py --any-image).
    `threads`: how many onnxruntime computes with (default: its own choice).
    Raises FileNotFoundError, or InputError for a file that is no model of this toolkit, does not read a blank picture
    in LONGEST_TRIAL seconds, or gives another number of logits than it names classes.
    """

    def __init__(self, path: Path, threads: int = 0):
        if not path.is_file():
            what = "a folder" if path.is_dir() else "missing"
            raise FileNotFoundError(f"{path} is {what}: export a model with scripts/convert_to_onnx.py")
        self.path = path
        limited_memory()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it is this class that says what is wrong
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.intra_op_num_threads = threads
        try:
            self.session = open_session(path, options)
            self.facts = self.session.get_modelmeta().custom_metadata_map
            inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
            taken = [(i.name, i.type, len(i.shape)) for i in inputs]
        except _NO_MODEL:
            raise InputError(
                f"{path} is not an ONNX model, or is damaged: scripts/convert_to_onnx.py makes one"
            ) from None
        self.classes = self.facts.get("classes", "")
        self.confidence = confidence_of(self.facts.get("confidence"), path)
        self.takes_pictures = taken == [("image", "tensor(uint8)", 4)]
        normalised = taken == [("input_image", "tensor(float)", 4)] and inputs[0].shape[1:] == [1, CANVAS, CANVAS]
        if not self.classes or "logits" not in outputs or not (self.takes_pictures or normalised):
            raise InputError(
                f"{path} is not a model of this toolkit: it does not name its classes and its input_image or image"
            )
        if len(set(self.classes)) < len(self.classes) or not self.classes.isprintable():
            raise InputError(f"{path} is damaged: its classes are not so many different characters")
        self._try()

    def _try(self) -> None:
        blank = np.zeros((1, CANVAS, CANVAS, 1), np.uint8) if self.takes_pictures else None
        options = onnxruntime.RunOptions()
        clock = threading.Timer(LONGEST_TRIAL, setattr, (options, "terminate", True))
        clock.daemon = True
        clock.start()
        try:
            self._run(np.zeros((1, 1, CANVAS, CANVAS), np.float32) if blank is None else blank, options)
        finally:
            clock.cancel()

    def _run(self, images: np.ndarray, options: onnxruntime.RunOptions | None = None) -> np.ndarray:
        """float32 (N, classes) of what the model takes. Raises InputError where that is not what comes out."""
        try:
            taken = "image" if self.takes_pictures else "input_image"
            logits = self.session.run(["logits"], {taken: images}, options)[0]
        except _NO_MODEL as error:
            reason = first_line(error).rpartition(" : ")[2]
            raise InputError(f"{self.path} is a damaged model: it reads no picture ({reason:.200})") from None
        wanted = (len(images), len(self.classes))
        if getattr(logits, "shape", None) != wanted or logits.dtype != np.float32 or not np.isfinite(logits).all():
            raise InputError(f"{self.path} is a damaged model: it does not give {wanted[1]:,} numbers for a picture")
        return logits

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, classes) of float32 (N, 1, 64, 64), ink 1 on paper 0."""
        if self.takes_pictures:
            raise InputError(f"{self.path} takes pictures, not normalised images: use the file it was made from")
        return self._run(images)

    def picture_logits(self, grey: list[np.ndarray]) -> np.ndarray:
        """float32 (N, classes) of N pictures, grey values 0 to 255 (H, W) each; 0 for one without ink."""
        if self.takes_pictures:
            return np.concatenate([self._run(picture.astype(np.uint8)[None, :, :, None]) for picture in grey])
        images = np.stack([normalize(picture) for picture in grey])
        return self.logits(images) * images.any(axis=(1, 2, 3))[:, None]


@dataclass
class Reading:
    """A picture read: the likeliest characters with their probabilities, likeliest first, none where nothing is drawn;
    whether it is one of the model's characters at all; what else the first one looks like."""

    top: list[tuple[str, float]]
    known: bool
    looks_like: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.top:
            return "nothing is drawn here"
        told = "  ".join(f"{c} {100 * p:.1f} %" for c, p in self.top)
        if not self.known:
            return f"not one of these characters (nearest: {told})"
        alike = ", ".join(f"katakana {c}" if name(c, "").startswith("KATAKANA") else c for c in self.looks_like)
        return told + (f"  (looks like: {alike})" if alike else "")

    def as_json(self, path: Path) -> str:
        top = [{"character": c, "probability": round(p, 6)} for c, p in self.top]
        told = {"image": str(path), "top": top, "known": self.known, "looks_like": self.looks_like}
        return json.dumps(told, ensure_ascii=False)


def _best(shares: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest of shares (classes,) are, highest first, of equal ones the first."""
    count = min(count, len(shares))
    some = np.flatnonzero(shares >= np.partition(shares, -count)[-count])
    return some[np.argsort(-shares[some], kind="stable")[:count]]


def read(recognizer: Recognizer, grey: list[np.ndarray], top: int, confusable: Confusable) -> list[Reading]:
    """What each picture (H, W) shows, the `top` likeliest characters of it."""
    readings: list[Reading] = []
    for begin in range(0, len(grey), BATCH):
        logits = recognizer.picture_logits(grey[begin : begin + BATCH])
        shares, known = recognizer.confidence.probabilities(logits), recognizer.confidence.known(logits)
        for row in range(len(logits)):
            if not logits[row].any():
                readings.append(Reading([], False))
                continue
            best = _best(shares[row], max(top, CONSIDERED))
            likeliest = [(recognizer.classes[i], float(shares[row, i])) for i in best]
            looks_like = confusable.looks_like(likeliest[:CONSIDERED])
            readings.append(Reading(likeliest[:top], bool(known[row]), looks_like))
    return readings


def recognize(recognizer: Recognizer, grey: list[np.ndarray], top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest characters of each picture (H, W) with their probabilities, likeliest first.

    A picture without ink gives an empty list.
    """
    return [reading.top for reading in read(recognizer, grey, top, Confusable())]


def find_images(paths: list[Path]) -> list[Path]:
    """The images named, and those in the folders named. Raises InputError for a folder without any."""
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"{path} holds no images")
            found += inside
        else:
            found.append(path)
    return found


def default_model() -> Path:
    """The first of DEFAULT_MODELS that is there."""
    for path in DEFAULT_MODELS:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{DEFAULT_MODELS[0]} is missing: name a model with --model, export one with scripts/convert_to_onnx.py, "
        f"or fetch the released one, {RELEASED}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ", ".join(FORMATS)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help=f"image files or folders of them: {kinds}, at most {MOST_PIXELS // 10**6} million pixels, of several "
        "pages the first",
    )
    parser.add_argument(
        "--model", type=Path, help=f"an exported model (default {DEFAULT_MODELS[0]}, or the released one)"
    )
    parser.add_argument("--top", type=int, default=5, help="how many characters to name (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON line an image")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="PNG",
        help="also draw up to 100 of the images with what was read; a folder or file named by its character is checked",
    )
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error("--top must be at least 1")
    if "" in arguments.images:
        parser.error("an IMAGE has no name")
    if arguments.picture and (arguments.picture.suffix.lower() != ".png" or arguments.picture.is_dir()):
        parser.error("--picture names a PNG file to write")
    arguments.images = [Path(image) for image in arguments.images]
    return arguments


def main() -> None:
    arguments = parse_arguments()
    model = arguments.model or default_model()
    picture = None
    if arguments.picture:
        from recognition_picture import RecognitionPicture  # needs more packages than reading does

        picture = RecognitionPicture()
    recognizer, confusable = Recognizer(model), load_confusable(model.with_name(CONFUSABLE))
    failed = 0
    for path in find_images(arguments.images):
        try:
            grey = read_grey(path)
            reading = read(recognizer, [grey], arguments.top, confusable)[0]
        except (InputError, FileNotFoundError) as error:  # the other images are recognised all the same
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        print(reading.as_json(path) if arguments.json else f"{path}: {reading}")
        if picture:
            picture.add(path, grey, reading.top)
    if picture:
        picture.write(arguments.picture)
    if failed:
        sys.exit(2)


if __name__ == "__main__":
    run(main)
