"""Pens too thick for the size of their character, made as thick as usual. Only dense array operations."""

import numpy as np

THICKEST = 0.075  # of the longer side of the ink: a pen as wide as this stays
FINEST = 2  # pixels: so wide a pen stays too


def excess(mask: np.ndarray) -> float:
    """How many pixels the pen of a mask (H, W) is too thick for its ink on either side; 0 or less where it is not."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    steps = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    pen_width = 2.5 * np.count_nonzero(mask) / max(steps, 1)  # a long stroke has an edge on both sides
    usual = max(FINEST, THICKEST * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    return (pen_width - usual) / 2


def _eroded(ink: np.ndarray, corners: bool) -> np.ndarray:
    """The least of each pixel (H, W) and its four neighbours, or with the corners all eight; paper lies around it."""
    around = np.pad(ink, 1)
    rows = np.minimum(np.minimum(around[:-2], around[1:-1]), around[2:])
    if corners:
        return np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return np.minimum(rows[:, 1:-1], np.minimum(around[1:-1, :-2], around[1:-1, 2:]))


def thinned(ink: np.ndarray, pixels: float) -> np.ndarray:
    """Ink float32 (H, W) whose strokes lose this width on either side, which need not be a whole number."""
    whole = int(pixels)
    for step in range(whole):
        ink = _eroded(ink, step % 2 == 1)
    share = np.float32(pixels - whole)
    return (1 - share) * ink + share * _eroded(ink, whole % 2 == 1)
