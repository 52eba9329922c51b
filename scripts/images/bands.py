"""Bands along the edges of a picture: letterbox bars, frames, what lies around a card. Only dense array operations."""

import numpy as np

from images.lines import clear_of, large

DIFFERENT = 0.3  # of the largest difference from the paper: what may lie outside
DEEPEST = 0.35  # of a side: how far a band reaches in
FULL, FITTING = 0.97, 0.9  # shares of its columns: that begin at the border, and that end along a straight line
WOBBLE, FINEST = 0.008, 1.25  # of the longer side, and in pixels at least: how far from that line
CROWDED = 0.35  # of what lies between bands: more of it is no ink
SHORTEST = 24  # pixels: in smaller pictures nothing is taken for a band


def paper_level(grey: np.ndarray) -> np.float32:
    """The median grey in the middle of a picture."""
    height, width = grey.shape
    middle = grey[height // 4 : height - height // 4 : 4, width // 4 : width - width // 4 : 4].ravel()
    return np.partition(middle, len(middle) // 2)[len(middle) // 2]


def _band(outside: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """How many rows (W,) of each column a band along the top fills, and whether nothing touches it; None without one.
    Its inner edge is straight between the bands that may lie along the other sides."""
    height, width = outside.shape
    if np.count_nonzero(outside[0]) < FULL * width:
        return None
    most, third = max(1, int(DEEPEST * height)), -(-width // 3)
    corner, tolerance = third // 2, max(FINEST, WOBBLE * max(height, width))
    depth = np.where(outside[:most].all(axis=0), most, outside[:most].argmin(axis=0))
    middle = depth[corner : width - corner]
    left, right = (np.sort(part)[third // 2] for part in (middle[:third], middle[-third:]))
    slope = (right - left) / max(len(middle) - third, 1)
    fit = left + slope * (np.arange(width) - corner - (third - 1) / 2)
    fitting = np.count_nonzero(np.abs(middle - fit[corner : width - corner]) <= tolerance)
    if max(left, right) >= most or fitting < FITTING * len(middle):
        return None
    return np.ceil(fit + tolerance) + 1, fitting == len(middle)


def _sides(grey: np.ndarray) -> tuple[np.ndarray, ...]:
    return grey[0], grey[-1], grey[:, 0], grey[:, -1]


def without_bands(grey: np.ndarray) -> np.ndarray:
    """Grey (H, W) with paper in the place of bands along its edges."""
    if min(grey.shape) < SHORTEST:
        return grey
    paper = paper_level(grey)
    least = DIFFERENT * max(grey.max() - paper, paper - grey.min())
    if not any(np.count_nonzero(np.abs(side - paper) > least) >= FULL * len(side) for side in _sides(grey)):
        return grey
    outside = np.abs(grey - paper) > least
    inside = np.ones(grey.shape, bool)
    bands = [_band(np.rot90(outside, turns)) for turns in range(4)]
    for turns, band in enumerate(bands):
        if band is not None:
            seen = np.rot90(inside, turns)
            seen &= np.arange(len(seen))[:, None] >= band[0]
    found = [band[1] for band in bands if band is not None]
    crowded = np.count_nonzero(outside & inside) > CROWDED * np.count_nonzero(inside)  # then the ink may be the median
    if not found or found == [False] or crowded:
        return grey
    rest = outside & inside
    opposite = any(bands[side] is not None and bands[side + 2] is not None for side in (0, 1))
    good = large(rest, max(rest.shape)) and (opposite or clear_of(rest, [True] * 4))
    return np.where(inside, grey, paper) if good else grey
