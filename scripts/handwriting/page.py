"""The page: strokes placed on it, drawn with some pen, scanned with dirt and grain."""

import cv2
import numpy as np

from characters.kinds import kind_of
from handwriting.reshaping import in_forms_of
from handwriting.strokes import StrokeModel
from handwriting.variation import choose_model, traces_between, vary_strokes
from handwriting.writer import Writer
from records.etl9g import DARKEST, IMAGE_HEIGHT, IMAGE_WIDTH

OVERSAMPLING = 2  # strokes are drawn this much larger, then averaged down
POINT_STEP_KANJI = 2  # kanji strokes are drawn through every second point
PAGE_WARP = 0.040
PIECES = (0.056, 0.011, 0.02, 0.637)  # of frames: those with a neighbour's piece at the top, right, bottom, left
PIECE_REACH = (0, 0.25, 0.5, 0.75, 0.9, 0.97, 1), (2, 5, 8, 11, 15, 18, 22)  # shares of the pieces, and pixels
BALANCE, KANA_BALANCE = 0.12, 0.25  # how far the middle of a character moves to one of its sides


def place_on_page(points: np.ndarray, writer: Writer, kana: bool, rng: np.random.Generator) -> np.ndarray:
    """From character units to pixels of the frame: the page's smooth warp, the writer's slant, proportions, place."""
    n = rng.standard_normal(18)
    x, y = points[..., 0], points[..., 1]
    xx, yy = x * x, y * y
    terms = np.stack([xx, yy, x * y, 2 * xx * x, 2 * yy * y])  # (5, S, P)
    warp = (2 * PAGE_WARP * writer.looseness * n[:10].reshape(2, 5)).astype(points.dtype)
    warp[[0, 1], [0, 1]] += (KANA_BALANCE if kana else BALANCE) * n[16:18]
    bend_x, bend_y = np.tensordot(warp, terms, 1)
    x, y = x + bend_x, y + bend_y
    slant, rise = writer.slant + 0.04 * n[10], writer.rise + 0.03 * n[11]
    x, y = x - float(slant) * y, y - float(rise) * x
    size = (writer.kana_size if kana else 1) * np.exp((0.10 if kana else 0.05) * n[12:14])
    x = x * float(writer.width * size[0] * (1.12 if kana else 1))
    y = y * float(writer.height * size[1])
    box = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    half = np.array([x.max() - x.min(), y.max() - y.min()]) / 2
    centre = np.array(writer.centre) + np.array([3.2, 3.6]) * n[14:16]
    limit = np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / 2 - 5
    shrink = min(1, float((limit / np.maximum(half, 1)).min()))
    centre = np.clip(centre, half * shrink + 4, np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) - half * shrink - 4)
    return np.stack([(x - box[0]) * shrink + centre[0], (y - box[1]) * shrink + centre[1]], axis=-1)


def _draw(strokes, traces, writer, step, rng) -> np.ndarray:
    """Ink uint8 (127, 128), 255 where the pen went."""
    canvas = np.zeros((IMAGE_HEIGHT * OVERSAMPLING, IMAGE_WIDTH * OVERSAMPLING), np.uint8)
    fraction = 4
    pen = writer.pen * np.exp(0.05 * rng.standard_normal()) * OVERSAMPLING
    widths = np.maximum(1, np.round(pen * np.exp(0.08 * rng.standard_normal(len(strokes))))).astype(int)
    scale = OVERSAMPLING * 2**fraction
    lines = list((strokes[:, ::step] * scale).astype(np.int32))
    for width in set(widths.tolist()):
        same = [line for line, own in zip(lines, widths, strict=True) if own == width]
        cv2.polylines(canvas, same, False, 255, width, cv2.LINE_8, fraction)
    if len(traces):
        thin = max(1, round(pen * (0.45 + 0.5 * rng.random())))
        cv2.polylines(canvas, list((traces * scale).astype(np.int32)), False, 255, thin, cv2.LINE_8, fraction)
    ink = cv2.resize(canvas, (IMAGE_WIDTH, IMAGE_HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(ink, (3, 3), writer.softness)


_GRAIN = cv2.GaussianBlur(np.random.default_rng(9).standard_normal((512, 512)).astype(np.float32), (3, 3), 0.7)
_GRAIN /= _GRAIN.std()


def _dirt(grey: np.ndarray, rng: np.random.Generator) -> None:
    """Now and then a line of the printed frame or scan dirt along the edges, in place."""
    for chance, kind in zip(rng.random(2), ("frame", "dirt"), strict=True):
        if chance > 0.03:
            continue
        a, b = sorted(rng.integers(0, 127, 2))
        level = float(rng.integers(3, 8))
        if kind == "frame":
            edge = rng.integers(4)
            line = slice(1, 1 + rng.integers(1, 3)) if edge % 2 else slice(-1 - rng.integers(1, 3), -1)
            side = grey[line, a:b] if edge < 2 else grey[a:b, line]
            np.maximum(side, level, out=side)
        else:
            grey[_edge(rng), a : a + rng.integers(2, 12)] = level


def _edge(rng: np.random.Generator) -> slice:
    """Two to four rows or columns at one of the two edges."""
    return slice(0, rng.integers(2, 5)) if rng.random() < 0.5 else slice(-rng.integers(2, 5), None)


def _with_neighbours(ink: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ink (127, 128) with pieces of other ink, cut off at the edges, as often and as wide as in ETL9G."""
    ink, shares, reaches = ink.copy(), rng.random(4), np.interp(rng.random(4), *PIECE_REACH)
    for turns in np.flatnonzero(shares < PIECES).tolist():
        frame, piece = np.rot90(ink, turns), np.rot90(other, turns)  # from the top
        last = np.flatnonzero(piece.max(axis=1) > 64)[-1:]
        if len(last):
            piece = piece[max(0, last[0] + 1 - round(reaches[turns])) : last[0] + 1]
            np.maximum(frame[: len(piece)], piece, out=frame[: len(piece)])
    return ink


def to_frame(ink: np.ndarray, writer: Writer, rng: np.random.Generator, other: np.ndarray | None = None) -> np.ndarray:
    """Ink uint8 (127, 128) as a scanned pencil: grey levels 0 to 15, grainy, soft at the edges. Of `other` ink, that
    of a character beside it, pieces come in at the edges."""
    if other is not None:
        ink = _with_neighbours(ink, other, rng)
    y, x = rng.integers(0, 512 - IMAGE_WIDTH, 2)
    level = writer.pressure * np.exp(0.08 * rng.standard_normal())
    grain = 1 + writer.grain * _GRAIN[y : y + IMAGE_HEIGHT, x : x + IMAGE_WIDTH]
    grey = ink * grain * np.float32(level / 255)
    _dirt(grey, rng)
    return np.clip(grey + 0.25, 0, DARKEST).astype(np.uint8)


def draw_character(char: str, models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """One character by one writer as ink uint8 (127, 128)."""
    kana = kind_of(char) != "kanji"
    model = in_forms_of(writer, choose_model(models, writer, rng), rng)
    points = place_on_page(vary_strokes(char, model, writer, rng), writer, kana, rng)
    traces = traces_between(model, points, writer, rng)
    return _draw(points, traces, writer, 1 if kana else POINT_STEP_KANJI, rng)


def write_character(char: str, models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """One character by one writer, alone on its page, as a frame uint8 (127, 128), 0 = paper, 15 = darkest."""
    return to_frame(draw_character(char, models, writer, rng), writer, rng)
