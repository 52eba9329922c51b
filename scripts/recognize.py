"""Recognise handwritten characters in images: any size, colour or polarity, one character each; folders too.

    python scripts/recognize.py photo.png drawings/ --model models/kanji_model.onnx --top 5

Needs onnxruntime, numpy and Pillow alone. With --json one line an image:
{"image": path, "top": [{"character": "漢", "probability": 0.98}, …]}
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from PIL import Image, ImageOps, UnidentifiedImageError

from command_line import InputError, run
from normalization import CANVAS, normalize

DEFAULT_MODELS = (Path("models/kanji_model.onnx"), Path("models/quickstart/kanji_model.onnx"))
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 1024  # larger pictures are reduced while they are decoded
BATCH = 64


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey values float32 (H, W), 0 to 255; transparent parts are paper.

    Raises FileNotFoundError, or InputError for a file that is no image or has more than 50 million pixels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of an image or a folder of images")
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if picture.width * picture.height > MOST_PIXELS:
                raise InputError(f"{path} has {picture.width} x {picture.height} pixels: make it smaller")
            picture.draft("L", (LONGEST_SIDE, LONGEST_SIDE))
            picture = ImageOps.exif_transpose(picture)
            if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
                picture = over_paper(picture.convert("RGBA"))
            if picture.mode in {"I;16", "I", "F"}:
                values = np.asarray(picture, np.float32)
                low, high = float(values.min()), float(values.max())
                picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))
            picture = picture.convert("L")
            if max(picture.size) > LONGEST_SIDE:
                picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
            return np.asarray(picture, np.float32)
    except (Image.DecompressionBombError, UnidentifiedImageError):
        raise InputError(f"{path} is not an image that can be read") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is a damaged image ({error})") from None


def over_paper(picture: Image.Image) -> Image.Image:
    """A picture with transparency on paper that its ink stands out from: white, or black under light ink."""
    values = np.asarray(picture, np.float32)
    opacity = values[..., 3]
    ink = float((values[..., :3].mean(axis=2) * opacity).sum() / max(float(opacity.sum()), 1))
    paper = Image.new("RGBA", picture.size, (0, 0, 0, 255) if ink > 128 and opacity.mean() < 128 else (255,) * 4)
    return Image.alpha_composite(paper, picture)


class Recognizer:
    """An exported model: its `classes`, the logits of pictures or of normalised images, and what else its file says.

    `takes_pictures`: whether the normalisation is in the file (convert_to_onnx.py --any-image).
    `threads`: how many onnxruntime computes with (default: its own choice).
    """

    def __init__(self, path: Path, threads: int = 0):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: export one with scripts/convert_to_onnx.py")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=onnxruntime.get_available_providers()
            )
        except (
            onnxruntime_errors.InvalidProtobuf,
            onnxruntime_errors.InvalidGraph,
            onnxruntime_errors.InvalidArgument,
            onnxruntime_errors.Fail,
            onnxruntime_errors.NoModel,
            onnxruntime_errors.NotImplemented,
            onnxruntime_errors.RuntimeException,
        ):
            raise InputError(f"{path} is not an ONNX model, or is damaged") from None
        self.facts = self.session.get_modelmeta().custom_metadata_map
        self.classes = self.facts.get("classes", "")
        inputs, outputs = self.session.get_inputs(), [output.name for output in self.session.get_outputs()]
        taken = [(i.name, i.type, len(i.shape)) for i in inputs]
        self.takes_pictures = taken == [("image", "tensor(uint8)", 4)]
        normalised = taken == [("input_image", "tensor(float)", 4)] and inputs[0].shape[1:] == [1, CANVAS, CANVAS]
        if not self.classes or "logits" not in outputs or not (self.takes_pictures or normalised):
            raise InputError(
                f"{path} is not a model of this toolkit: it does not name its classes and its input_image or image"
            )
        self.path = path

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, classes) of float32 (N, 1, 64, 64), ink 1 on paper 0."""
        if self.takes_pictures:
            raise InputError(f"{self.path} takes pictures, not normalised images: use the file it was made from")
        return self.session.run(["logits"], {"input_image": images})[0]

    def picture_logits(self, grey: list[np.ndarray]) -> np.ndarray:
        """float32 (N, classes) of N pictures, grey values 0 to 255 (H, W) each; 0 for one without ink."""
        if self.takes_pictures:
            pictures = [picture.astype(np.uint8)[None, :, :, None] for picture in grey]
            return np.concatenate([self.session.run(["logits"], {"image": picture})[0] for picture in pictures])
        images = np.stack([normalize(picture) for picture in grey])
        return self.logits(images) * images.any(axis=(1, 2, 3))[:, None]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def recognize(recognizer: Recognizer, grey: list[np.ndarray], top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest characters of each picture (H, W) with their probabilities, likeliest first.

    A picture without ink gives an empty list.
    """
    results: list[list[tuple[str, float]]] = []
    for begin in range(0, len(grey), BATCH):
        logits = recognizer.picture_logits(grey[begin : begin + BATCH])
        shares = probabilities(logits)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
        for own, share, order in zip(logits, shares, best, strict=True):
            results.append([(recognizer.classes[i], float(share[i])) for i in order] if own.any() else [])
    return results


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
        "or make one with scripts/quickstart.py"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files or folders of them")
    parser.add_argument(
        "--model", type=Path, help=f"an exported model (default {DEFAULT_MODELS[0]}, or the quickstart's)"
    )
    parser.add_argument("--top", type=int, default=5, help="how many characters to name (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON line an image")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error("--top must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    recognizer = Recognizer(arguments.model or default_model())
    failed = 0
    for path in find_images(arguments.images):
        try:
            top = recognize(recognizer, [read_grey(path)], arguments.top)[0]
        except (InputError, FileNotFoundError) as error:  # the other images are recognised all the same
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        if arguments.json:
            characters = [{"character": c, "probability": round(p, 6)} for c, p in top]
            print(json.dumps({"image": str(path), "top": characters}, ensure_ascii=False))
        else:
            print(f"{path}: " + ("  ".join(f"{c} {100 * p:.1f} %" for c, p in top) or "nothing is drawn here"))
    if failed:
        sys.exit(2)


if __name__ == "__main__":
    run(main)
