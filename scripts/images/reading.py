"""Image files as grey values: PNG, JPEG and the other formats that Pillow decodes by itself, HEIC with pillow-heif."""

import struct
import warnings
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, features

from files.command_line import InputError
from files.packages import check
from images.normalization import normalize

# Of Pillow's other formats, some start programs. What a file is called does not matter.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
PHONE_FORMATS = {"AVIF": {b"avif", b"avis"}, "HEIC": {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}}  # brands
MOST_PIXELS = 50_000_000
LONGEST_SIDE = 1024  # larger pictures are reduced while they are decoded
MOST_NOISE = 100  # grey values; what differs by more has ink
COLOUR_GRID = 64  # cells each way, in which colours are compared
LEAST_COLOUR = 24  # what ink and paper of one lightness have to differ by, where the axes are red, green and blue
TWO_COLOURS = 0.8  # the share of the colours' variance that lies on one axis where they are two
# What Pillow raises for damaged images.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError)
DAMAGED += (RuntimeError, AssertionError, struct.error)


class DecoderMissing(InputError):
    """A picture of a `kind` that needs another package, or a newer one."""

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind


def read_grey(path: Path) -> np.ndarray:
    """An image file as grey values float32 (H, W), 0 to 255; transparent parts are paper. Raises FileNotFoundError, or
    InputError for a file that is no image or has more than 50 million pixels."""
    check("Pillow", PIL.__version__)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of an image or a folder of images")
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path) as picture:
            if picture.width * picture.height <= MOST_PIXELS:
                return _told_apart(path, picture)
    except Image.DecompressionBombError:
        pass
    except DAMAGED as error:
        if isinstance(error, DecoderMissing):
            raise
        raise InputError(f"{path} is not an image that can be read, or is damaged") from None
    raise InputError(f"{path} has more than {MOST_PIXELS // 10**6} million pixels: make it smaller")


def open_picture(path: Path) -> Image.Image:
    """The picture of a file, not decoded yet, by what is in it. Raises DecoderMissing, or what Pillow raises."""
    with path.open("rb") as file:
        start = file.read(64)
    brands = {start[i : i + 4] for i in range(8, min(len(start), int.from_bytes(start[:4])), 4)}
    kinds = [kind for kind, own in PHONE_FORMATS.items() if start[4:8] == b"ftyp" and own & brands]
    return Image.open(path, formats=_phone_format(path, kinds[0]) if kinds else FORMATS)


def _phone_format(path: Path, kind: str) -> list[str]:
    """What the decoder of this kind is called. Raises DecoderMissing where there is none."""
    if kind == "AVIF" and features.check("avif"):
        return [kind]
    try:
        import pillow_heif

        pillow_heif.register_heif_opener() if kind == "HEIC" else pillow_heif.register_avif_opener()
    except (ImportError, AttributeError):  # the latter: those for a newer Pillow leave AVIF to it
        remedy = "pillow-heif" if kind == "HEIC" else "-U Pillow"
        raise DecoderMissing(f"{path} is a picture of the kind {kind}: pip install {remedy}", kind) from None
    return ["HEIF" if kind == "HEIC" else kind]


def _told_apart(path: Path, picture: Image.Image) -> np.ndarray:
    """Grey values of a picture, in which ink and paper that differ in colour alone differ too."""
    coloured = len(picture.getbands()) >= 3 or picture.mode == "P"
    grey = _grey(picture)
    if not coloured or np.ptp(grey) > MOST_NOISE or normalize(grey).any():
        return grey
    with open_picture(path) as again:  # the first may have been decoded without its colours
        by_colour = _by_colour(again)
    return grey if by_colour is None else by_colour


def _by_colour(picture: Image.Image) -> np.ndarray | None:
    """Grey values of a picture along the axis that its colours lie on, paper white; None without two colours."""
    clear = picture.has_transparency_data
    picture = picture.convert("RGBA" if clear else "RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    ImageOps.exif_transpose(picture, in_place=True)
    picture = over_paper(picture).convert("RGB") if clear else picture
    colours = np.asarray(picture, np.float64)
    picture.thumbnail((COLOUR_GRID, COLOUR_GRID), Image.Resampling.BOX)  # in which noise has no colour
    cells = np.asarray(picture, np.float64).reshape(-1, 3)
    spread, axes = np.linalg.eigh(np.cov(cells, rowvar=False, bias=True))
    if spread[-1] < TWO_COLOURS * spread.sum() or np.ptp(cells @ axes[:, -1]) < LEAST_COLOUR:
        return None
    values = colours @ axes[:, -1]
    if np.median(values) < (values.min() + values.max()) / 2:
        values = -values
    values -= values.max()
    return np.floor(np.maximum(255 + values * min(1, 255 / np.ptp(values)), 0)).astype(np.float32)


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
