"""Image files as grey values: PNG, JPEG and the other formats that Pillow decodes by itself."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from files.command_line import InputError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow's others, some start programs
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 1024  # larger pictures are reduced while they are decoded
# What Pillow raises for damaged images.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError)
_DAMAGED += (RuntimeError, AssertionError, struct.error, Image.DecompressionBombError)


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey values float32 (H, W), 0 to 255; transparent parts are paper. Raises FileNotFoundError, or
    InputError for a file that is no image or has more than 50 million pixels."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of an image or a folder of images")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels <= MOST_PIXELS:
                return _grey(picture)
    except _DAMAGED:
        raise InputError(f"{path} is not an image that can be read, or is damaged") from None
    raise InputError(f"{path} has {pixels:,} pixels: make it smaller")


def _grey(picture: Image.Image) -> np.ndarray:
    """Grey values float32 (H, W) of a picture as its file has it, upright. Values deeper than 8 bits are stretched."""
    picture.draft("L", (LONGEST_SIDE, LONGEST_SIDE))
    deep, clear = picture.mode.startswith(("I", "F")), picture.has_transparency_data
    picture = picture.convert("F" if deep else "RGBA" if clear else "L")
    if max(picture.size) > LONGEST_SIDE:
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    ImageOps.exif_transpose(picture, in_place=True)
    if not deep:
        return np.asarray(over_paper(picture).convert("L") if clear else picture, np.float32)
    values = np.asarray(picture, np.float64)  # the difference of two float32 need not be one
    if not np.isfinite(values).all():
        raise ValueError("some of its values are no numbers")
    return np.floor((values - values.min()) * (255 / max(np.ptp(values), 1e-6))).astype(np.float32)


def over_paper(picture: Image.Image) -> Image.Image:
    """A picture with transparency on paper that its ink stands out from: white, or black under light ink."""
    values = np.asarray(picture, np.float32)
    opacity = values[..., 3]
    ink = float((values[..., :3].mean(axis=2) * opacity).sum() / max(float(opacity.sum()), 1))
    paper = Image.new("RGBA", picture.size, (0, 0, 0, 255) if ink > 128 and opacity.mean() < 128 else (255,) * 4)
    return Image.alpha_composite(paper, picture)


def find_images(paths: list[Path]) -> list[Path]:
    """The images named, and those in the folders named. Raises InputError for a folder without any."""
    images = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if path.is_dir() and not inside:
            raise InputError(f"{path} holds no images")
        images += inside or [path]
    return images
