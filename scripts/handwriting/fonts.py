"""Fonts as further hands: the shapes of a font's characters, put on the page as a writer would."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont

from characters.jis import etl9g_classes
from characters.kinds import kind_of
from files.command_line import InputError
from handwriting.page import place_on_page
from handwriting.writer import Writer
from records.etl9g import IMAGE_HEIGHT, IMAGE_WIDTH

FONT_SHARE = 0.05  # of the sheets, for each font
SUFFIXES = {".ttf", ".otf", ".ttc"}


class Glyphs:
    """The shapes of a font file. Raises InputError if it cannot be read."""

    SIZE = 160

    def __init__(self, path: Path):
        try:
            self.font = ImageFont.truetype(str(path), self.SIZE)
            self.code_points = frozenset(TTFont(path, fontNumber=0, lazy=True).getBestCmap() or ())
        except (OSError, TTLibError):
            raise InputError(f"{path} is missing or no font: --font takes a TrueType or OpenType file") from None

    def has(self, char: str) -> bool:
        """Whether the font has ink for the character: some list characters that they have no shape of."""
        _, top, _, bottom = self.font.getbbox(char)
        return ord(char) in self.code_points and bottom > top

    def draw(self, char: str) -> np.ndarray:
        """The glyph uint8 (H, W), 255 = ink, cropped to it."""
        picture = Image.new("L", (2 * self.SIZE, 2 * self.SIZE))
        ImageDraw.Draw(picture).text((self.SIZE // 2, self.SIZE // 2), char, fill=255, font=self.font)
        box = picture.getbbox()
        return np.asarray(picture.crop(box) if box else picture)


@dataclass(frozen=True)
class Fonts:
    """The fonts that some hands copy, and of how many sheets each is the hand."""

    paths: tuple[Path, ...] = ()
    share: float = FONT_SHARE

    def hash(self) -> str:
        """A hash of the fonts in their order and, unless it is the usual one, of their share."""
        share = b"" if self.share == FONT_SHARE else f"{self.share:g}".encode()
        return hashlib.sha256(b"".join([*(path.read_bytes() for path in self.paths), share])).hexdigest()


def find_fonts(given: list[Path], share: float = FONT_SHARE) -> Fonts:
    """The fonts given, of folders those that lie in them, not below. Raises InputError for one that cannot be read or
    has none of the characters, for a folder without fonts, and for more of them than there are sheets."""
    paths = []
    for path in given:
        inner = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inner:
            raise InputError(f"{path} holds no fonts ({', '.join(sorted(SUFFIXES))}): see scripts/fetch_fonts.py")
        paths += inner
    for path in paths:
        if not any(map(Glyphs(path).has, etl9g_classes())):
            raise InputError(f"{path} has none of the characters")
    if len(paths) * share > 1 + 1e-9:
        most = int(1 / share + 1e-9)
        raise InputError(f"{len(paths)} fonts of {share:g} of the sheets each are more than all: give {most} at most")
    return Fonts(tuple(paths), share)


class Hands:
    """The glyphs of some fonts."""

    def __init__(self, fonts: Fonts):
        self.share, self._glyphs = fonts.share, [Glyphs(path) for path in fonts.paths]

    def glyphs(self, chance: float) -> Glyphs | None:
        """The font that a writer copies, by a chance in [0, 1), or None for one who copies none."""
        which = int(chance / self.share) if self._glyphs else 0
        return self._glyphs[which] if which < len(self._glyphs) else None


def draw_glyph(char: str, glyphs: Glyphs, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """A font's glyph as a writer would put it: warped, slanted, thicker or thinner; ink uint8 (127, 128)."""
    glyph = glyphs.draw(char)
    thickness = int(rng.integers(-2, 3))
    if thickness:
        kernel = np.ones((abs(thickness) + 1,) * 2, np.uint8)
        changed = cv2.dilate(glyph, kernel) if thickness > 0 else cv2.erode(glyph, kernel)
        glyph = changed if changed.max() > 127 else glyph
    height, width = glyph.shape
    grid = np.linspace(-0.5, 0.5, 9)
    mesh = np.stack(np.meshgrid(grid * width, grid * height), axis=-1) / max(height, width)  # (9, 9, 2)
    target = place_on_page(mesh, writer, kind_of(char) != "kanji", rng)  # where its points land in the frame
    # The page's warp is smooth, so its inverse is fitted as a cubic polynomial over the frame.
    powers = [(i, j) for i in range(4) for j in range(4 - i)]

    def terms(xy):
        return np.stack([(xy[..., 0] / 64 - 1) ** i * (xy[..., 1] / 64 - 1) ** j for i, j in powers], axis=-1)

    inverse = np.linalg.lstsq(terms(target).reshape(81, -1), mesh.reshape(81, 2), rcond=None)[0]
    pixels = np.stack(np.meshgrid(np.arange(IMAGE_WIDTH), np.arange(IMAGE_HEIGHT)), axis=-1).astype(np.float32)
    source = terms(pixels) @ inverse * max(height, width) + [width / 2, height / 2]
    low, high = target.min(axis=(0, 1)) - 3, target.max(axis=(0, 1)) + 3
    inside = ((pixels > low) & (pixels < high)).all(axis=-1)
    ink = cv2.remap(cv2.GaussianBlur(glyph, (3, 3), 0.8), source.astype(np.float32), None, cv2.INTER_LINEAR) * inside
    return ink.astype(np.uint8)
