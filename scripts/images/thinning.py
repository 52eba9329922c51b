"""Pens too thick for the size of their character, made as thick as usual. Only dense array operations."""

import numpy as np

from images.fragments import longer_side, pen_width

THICKEST = 0.075  # of the longer side of the ink: a pen as wide as this stays
FINEST = 2  # pixels: so wide a pen stays too
LOST = 0.01  # of the ink: a step that takes whole strokes takes more


def excess(mask: np.ndarray) -> np.ndarray:
    """How many pixels the pens (n,) of masks (n, H, W) are too thick for their ink on either side; 0 or less: not."""
    return (pen_width(mask) - np.maximum(FINEST, THICKEST * longer_side(mask))) / 2


def _neighbours(combine: np.ufunc, ink: np.ndarray, corners: bool) -> np.ndarray:
    """Each pixel (H, W) combined with its four neighbours, or with the corners all eight; paper lies around it."""
    around = np.pad(ink, 1)
    rows = combine(combine(around[:-2], around[1:-1]), around[2:])
    beside = rows if corners else around[1:-1]
    return combine(rows[:, 1:-1], combine(beside[:, :-2], beside[:, 2:]))


def thinned(ink: np.ndarray, mask: np.ndarray, pixels: float) -> np.ndarray:
    """Ink float32 (H, W) whose strokes, a mask, lose this width on either side, which need not be a whole number, or
    less where some of them are so thin, as the level ones of many broad pens, that they would vanish."""
    most = LOST * ink.sum(where=mask)
    for step in range(int(pixels) + 1):
        corners, share = step % 2 == 1, np.float32(min(1, pixels - step))
        inner = _neighbours(np.minimum, ink, corners)
        kept = _neighbours(np.maximum, inner, corners)
        if (ink - kept).sum(where=mask) <= most:
            ink = (1 - share) * ink + share * inner
    return ink
