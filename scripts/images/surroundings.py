"""What stands around a character in people's pictures, and the pens and sizes they use: each function makes such a
picture of a drawing, grey uint8 (H, W), dark on light, with the randomness of a generator; `other` is another drawing.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

Random = np.random.Generator
TIGHT = (63, 64)  # height and width of the images of ETL8B and ETL9B


def dark_on_light(grey: np.ndarray) -> np.ndarray:
    """A picture, grey (H, W), as a drawing uint8."""
    return np.uint8(np.clip(255 - grey if np.median(grey) < 128 else grey, 0, 255))


def ink_box(picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold ink."""
    ink = picture < (int(picture.min()) + int(picture.max()) + 1) / 2
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def paper_of(picture: np.ndarray) -> int:
    return int(np.median(picture))


def scaled_ink(picture: np.ndarray, longer: float) -> np.ndarray:
    """The ink alone, its longer side so many pixels."""
    ink = picture[ink_box(picture)]
    height, width = (max(1, round(longer * side / max(ink.shape))) for side in ink.shape)
    return cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)


def with_lines(picture: np.ndarray, places: np.ndarray, slope: float, grey: int, width: int) -> np.ndarray:
    """Lines from the left to the right edge behind the ink, at these heights in pixels."""
    sheet, length = np.full(picture.shape, 255, np.uint8), picture.shape[1]
    for place in places:
        ends = [(-8, place - slope * length / 2), (length + 8, place + slope * length / 2)]
        start, stop = (tuple(round(16 * value) for value in end) for end in ends)
        cv2.line(sheet, start, stop, grey, width, cv2.LINE_AA, 4)
    return np.minimum(picture, sheet)


def frame_at_edge(picture: np.ndarray, random: Random, _other: np.ndarray) -> np.ndarray:
    return np.pad(picture, random.integers(1, 5), constant_values=random.integers(0, 100))


def frame_inside(picture: np.ndarray, random: Random, other: np.ndarray) -> np.ndarray:
    inset = round(random.uniform(0.01, 0.08) * max(picture.shape))
    return np.pad(frame_at_edge(picture, random, other), inset, constant_values=paper_of(picture))


def ruled(picture: np.ndarray, random: Random, _other: np.ndarray, squared: bool = False) -> np.ndarray:
    """Paper with lines that run through the character too, seldom quite level, mostly fainter than the ink."""
    step, slope = random.uniform(*((0.1, 0.2) if squared else (0.14, 0.34))), random.normal(0, 0.008)
    grey, width = int(random.integers(40, 200)), int(random.integers(1, 3))
    places = np.arange(random.uniform(0, step), 1, step)
    if squared or random.random() < 0.25:  # or lines for upright writing
        picture = with_lines(picture.T, places * picture.shape[1], -slope, grey, width).T
        if not squared:
            return picture
    return with_lines(picture, places * picture.shape[0], slope, grey, width)


def manuscript_cell(picture: np.ndarray, random: Random, _other: np.ndarray) -> np.ndarray:
    """A cell of manuscript paper with a little of what lies around it: its lines end at its corners or extend."""
    grey, width = int(random.integers(40, 200)), int(random.integers(1, 4))
    around = [round(share * max(picture.shape)) for share in random.uniform(0.01, 0.12, 4)]
    if random.random() < 0.4:
        cell = np.pad(picture, width, constant_values=grey)
        return np.pad(cell, (around[:2], around[2:]), constant_values=paper_of(picture))
    picture = np.pad(picture, (around[:2], around[2:]), constant_values=paper_of(picture))
    sides, slope = picture.shape, random.normal(0, 0.005)
    rows = np.array([around[0], sides[0] - around[1]])
    columns = np.array([around[2], sides[1] - around[3]])
    return with_lines(with_lines(picture, rows, slope, grey, width).T, columns, -slope, grey, width).T


def letterbox(picture: np.ndarray, random: Random, _other: np.ndarray) -> np.ndarray:
    bars = [(round(random.uniform(0.05, 0.25) * max(picture.shape)),) * 2, (0, 0)]
    return np.pad(picture, bars if random.random() < 0.5 else bars[::-1], constant_values=random.integers(0, 25))


def card_edge(picture: np.ndarray, random: Random, _other: np.ndarray) -> np.ndarray:
    """A card that lies on something darker, of which one to three sides show, seldom quite level."""
    shown = random.permutation(4) < random.integers(1, 4)
    margins = np.round(random.uniform(0.03, 0.12, 4) * max(picture.shape) * shown).astype(int)
    card = np.pad(picture, (margins[:2], margins[2:]), constant_values=paper_of(picture))
    height, width = card.shape
    y, x = np.mgrid[:height, :width] + 0.5
    slope = random.normal(0, 0.015)
    depth = [y - slope * (x - width / 2), height - y + slope * (x - width / 2)]
    depth += [x + slope * (y - height / 2), width - x - slope * (y - height / 2)]
    inside = np.min([d - m for d, m in zip(depth, margins, strict=True) if m], axis=0)
    on_card = cv2.GaussianBlur((inside > 0).astype(np.float32), (0, 0), random.uniform(0.4, 1.5))
    table = random.uniform(30, 120) + cv2.GaussianBlur(random.normal(0, 12, card.shape), (0, 0), 1.5)
    return (on_card * card + (1 - on_card) * table).clip(0, 255).astype(np.uint8)


def shadow_border(picture: np.ndarray, random: Random, _other: np.ndarray) -> np.ndarray:
    """A shadow with an edge on one side of a line through the picture."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width] / max(height, width) - 0.5
    angle = random.uniform(0, 2 * np.pi)
    side = np.cos(angle) * x + np.sin(angle) * y - random.uniform(-0.4, 0.4)
    shade = 1 / (1 + np.exp(-np.clip(side / random.uniform(0.001, 0.02), -50, 50)))
    return np.uint8(picture * (1 - random.uniform(0.25, 0.55) * shade))


def neighbour(picture: np.ndarray, random: Random, other: np.ndarray) -> np.ndarray:
    """A piece of another character comes in on one side, up to 15 % of the picture's width, and is cut off there."""
    turns, (rows, columns) = int(random.integers(4)), ink_box(picture)
    picture = np.rot90(picture, turns)
    other = np.rot90(scaled_ink(other, max(rows.stop - rows.start, columns.stop - columns.start)), turns)
    (rows, columns), height = ink_box(picture), len(picture)
    reach = round(random.uniform(0.03, 0.15) * picture.shape[1])
    gap = round(0.04 * max(picture.shape))
    picture = np.pad(picture, ((0, 0), (max(0, reach + gap - columns.start), 0)), constant_values=paper_of(picture))
    piece = other[:, -reach:]
    top = (rows.start + rows.stop - len(piece)) / 2 + random.normal(0, 0.05) * height
    top, piece = int(np.clip(top, 0, max(0, height - len(piece)))), piece[:height]
    picture = picture.copy()
    into = picture[top : top + len(piece), : piece.shape[1]]
    np.minimum(into, piece, out=into)
    return np.ascontiguousarray(np.rot90(picture, -turns))


def pen(picture: np.ndarray, _random: Random, _other: np.ndarray, width: int) -> np.ndarray:
    """As a drawing by a thin pen looks when a pen so many pixels wide goes over it; the ink's longer side is 140."""
    ink = 255 - scaled_ink(picture, 140 - width)
    ink = np.pad(np.uint8(255 * (ink > 0.35 * ink.max())), 2 * width)
    thick = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return 255 - cv2.GaussianBlur(thick, (0, 0), 0.7)


def small_picture(picture: np.ndarray, _random: Random, _other: np.ndarray, side: int = 20) -> np.ndarray:
    """The whole picture made so small; the ink on it may have half its height."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def small_ink(picture: np.ndarray, _random: Random, _other: np.ndarray, longer: int = 20) -> np.ndarray:
    """The ink's longer side made so many pixels, with paper around it."""
    return np.pad(scaled_ink(picture, longer), longer // 5, constant_values=paper_of(picture))


def tight(picture: np.ndarray, _random: Random, _other: np.ndarray) -> np.ndarray:
    return picture[ink_box(picture)]


def tight_binary(picture: np.ndarray, random: Random, other: np.ndarray) -> np.ndarray:
    """Fitted into 64 x 63 black and white pixels, as in ETL8B, with a pen of 3."""
    thick = pen(picture, random, other, 7)
    ink, shape = thick[ink_box(thick)], np.array(TIGHT)
    height, width = np.maximum(1, np.floor(shape * (ink.shape / shape) / max(ink.shape / shape))).astype(int).tolist()
    return np.where(cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA) < 128, 0, 255).astype(np.uint8)


SURROUNDINGS: dict[str, Callable[[np.ndarray, Random, np.ndarray], np.ndarray]] = {
    "frame at the edge": frame_at_edge,
    "frame inside": frame_inside,
    "ruled paper": ruled,
    "squared paper": partial(ruled, squared=True),
    "manuscript cell": manuscript_cell,
    "letterbox": letterbox,
    "card's edge": card_edge,
    "shadow's border": shadow_border,
    "neighbour's piece": neighbour,
    "pen of 9 px": partial(pen, width=9),
    "pen of 13 px": partial(pen, width=13),
    "pen of 17 px": partial(pen, width=17),
    "ink of 20 px": small_ink,
    "picture of 20 px": small_picture,
    "tightly cropped": tight,
    "64 x 63 binary": tight_binary,
}
