"""Pictures of one character that are nearly the same, as copies are that were resized or encoded again."""

import numpy as np

GRID = 16  # normalised images are compared as the means of so many cells each way
NEAR = 0.06  # root mean square of the cells' differences; ink is 1
LEAST = 0.005  # at which only what was encoded again is near
FEW, SHARE = 4, 0.25  # a group may be so large: strokes as plain as 一 are near to anyone else's
BLOCK = 256  # images compared with all the others at once


def near_duplicates(images: np.ndarray) -> np.ndarray:
    """Groups of near duplicates among images uint8 (n, 64, 64) of one character: for each the first of its group (n,).
    Where too many would come together, only what is nearer counts."""
    count, side = len(images), images.shape[1] // GRID
    cells = images.reshape(count, GRID, side, GRID, side).mean(axis=(2, 4), dtype=np.float32) / 255
    cells = cells.reshape(count, GRID**2)
    limit = NEAR
    while True:
        groups = _connected(cells, limit**2 * cells.shape[1])
        if limit < LEAST or np.bincount(groups, minlength=1).max() <= max(FEW, SHARE * count):
            return groups
        limit *= 0.75


def _connected(points: np.ndarray, limit: float) -> np.ndarray:
    """For each of the points (n, d) the first that it is connected to, by steps of a squared length up to limit."""
    squares, first = np.square(points).sum(axis=1), np.arange(len(points))
    while True:
        nearest = first.copy()
        for begin in range(0, len(points), BLOCK):
            rows = slice(begin, begin + BLOCK)
            apart = squares[rows, None] + squares - 2 * points[rows] @ points.T
            nearest[rows] = np.minimum(first[rows], np.where(apart <= limit, first, len(points)).min(axis=1))
        nearest = nearest[nearest]
        if np.array_equal(nearest, first):
            return first
        first = nearest
