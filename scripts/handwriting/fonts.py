"""Fonts as further handwriting: the shapes of a font's characters, put on the page as a writer would."""

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
MARGIN = 12  # pixels of paper around a glyph, for broader pens
FOLLOWING = 0.7  # how far strokes come from their own width to that of the writer's pen
WOBBLE, KNOTS = 0.020, 5  # of a glyph's side, at so many points each way
CELL = 8  # pixels of the frame, a side
SUFFIXES = {".ttf", ".otf", ".ttc"}


class Glyphs:
    """The shapes of a font file, at a size in pixels. Raises InputError if it cannot be read."""

    def __init__(self, path: Path, size: int = 100):
        self._has: dict[str, bool] = {}
        try:
            self.font = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
            self.code_points = frozenset(TTFont(path, fontNumber=0, lazy=True).getBestCmap() or ())
        except (OSError, TTLibError):
            raise InputError(f"{path} is missing or no font: --font takes a TrueType or OpenType file") from None

    def has(self, char: str) -> bool:
        """Whether the font has ink for the character: some list characters that they have no shape of."""
        if char not in self._has:
            self._has[char] = ord(char) in self.code_points and self.font.getmask(char).getbbox() is not None
        return self._has[char]

    def draw(self, char: str, margin: int = MARGIN) -> np.ndarray:
        """The glyph uint8 (H, W), 255 = ink, with so many pixels of paper around it."""
        left, top, right, bottom = self.font.getbbox(char)
        picture = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(picture).text((-left, -top), char, fill=255, font=self.font)
        ink = np.asarray(picture)
        rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        glyph = np.zeros((len(ink) + 2 * margin, ink.shape[1] + 2 * margin), np.uint8)
        glyph[margin:-margin, margin:-margin] = ink
        return glyph


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


def with_pen(glyph: np.ndarray, width: float, roundness: float) -> np.ndarray:
    """A glyph uint8 (H, W) as another pen writes it: its strokes come nearer to this width in pixels, none vanishes,
    and corners are rounded off, the more the nearer `roundness` is to 1."""
    ink = (glyph > 127).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (ink, 1 - ink))
    ridge = inside[(ink > 0) & (inside >= cv2.dilate(inside, np.ones((3, 3), np.uint8)))]  # strokes' middle lines
    thin, usual = np.partition(ridge, [len(ridge) // 5, len(ridge) // 2])[[len(ridge) // 5, len(ridge) // 2]].tolist()
    grown = min(max(FOLLOWING * (width / 2 - usual), -thin / 2), width / 2)
    edge = inside - outside + grown
    rounded = cv2.GaussianBlur(edge, (0, 0), 0.5 + 0.2 * usual * roundness)
    return (255 * np.clip(np.maximum(rounded, edge - 0.6) + 0.5, 0, 1)).astype(np.uint8)


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cubic polynomial's terms (…, 10) at points of the frame."""
    x, y = x / 64 - 1, y / 64 - 1
    xx, yy = x * x, y * y
    return np.stack([np.ones_like(x), x, y, xx, x * y, yy, xx * x, xx * y, x * yy, yy * y], axis=-1)


_GRID = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 5), np.linspace(-0.5, 0.5, 5)), axis=-1)
_MIDDLES = CELL * np.arange(-2, IMAGE_WIDTH // CELL + 2) + (CELL - 1) / 2  # of the frame's cells, and of two beyond
_CELLS = _terms(*np.meshgrid(_MIDDLES, _MIDDLES))


def draw_glyph(char: str, glyphs: Glyphs, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """A font's glyph as a writer would put it: warped, slanted, with his pen and his looseness, never twice the same;
    ink uint8 (127, 128)."""
    glyph = glyphs.draw(char)
    size = np.array(glyph.shape[::-1]) - 2 * MARGIN
    side = int(size.max())
    mesh = _GRID * (size / side)
    target = place_on_page(mesh, writer, kind_of(char) != "kanji", rng)  # where its points land in the frame
    low, high = target.min(axis=(0, 1)), target.max(axis=(0, 1))
    pen = writer.pen * np.exp(0.1 * rng.standard_normal()) * side / float((high - low).max())
    glyph = with_pen(glyph, pen, writer.roundness)
    # That warp is smooth, so its inverse is fitted as a polynomial over the frame.
    inverse = np.linalg.lstsq(_terms(target[..., 0], target[..., 1]).reshape(25, -1), mesh.reshape(25, 2), rcond=None)[
        0
    ]
    (left, top), (right, bottom) = np.maximum(low - 6, 0).astype(int).tolist(), (high + 6).astype(int).tolist()
    rows, columns = (slice(begin // CELL + 1, end // CELL + 4) for begin, end in ((top, bottom), (left, right)))
    source = _CELLS[rows, columns] @ inverse
    wobble = WOBBLE * writer.looseness * rng.standard_normal((KNOTS, KNOTS, 2))
    source += cv2.resize(wobble, source.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    source = (source * side + (size / 2 + MARGIN)).astype(np.float32)
    source = cv2.resize(source, None, fx=CELL, fy=CELL, interpolation=cv2.INTER_CUBIC)
    y, x = top - CELL * (top // CELL - 1), left - CELL * (left // CELL - 1)  # of the corner in these cells
    frame = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    part = frame[top:bottom, left:right]
    part[:] = cv2.remap(glyph, source[y : y + len(part), x : x + part.shape[1]], None, cv2.INTER_LINEAR)
    return cv2.GaussianBlur(frame, (3, 3), writer.softness)
