"""Fonts as further hands: the shapes of a font's characters, put on the page as a writer would."""

from pathlib import Path

import cv2
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont

from characters.kinds import kind_of
from files.command_line import InputError
from handwriting.page import place_on_page
from handwriting.writer import Writer
from records.etl9g import IMAGE_HEIGHT, IMAGE_WIDTH


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
