"""Straight lines from one side of a picture to the other, which hardly a hand draws: rules and squares of paper, cells,
frames. Only dense array operations."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

SHORTEST = 48  # pixels: in smaller pictures nothing is taken for a line
PARTS = 16  # a line is looked for in so many parts of its length
COVERED = 0.75  # of a part: what a line fills there …
MOST_PARTS = PARTS - 1  # … in so many of them
SOME_PARTS = PARTS // 3  # of a line that leaves the picture, where others cross it
DARKER = 1.3  # times a line's darkness: ink
FAINTEST = 0.2  # of solid ink: how dark a line is at least
SLOPES = np.arange(-6, 7) * 0.0075  # of a line
SHARP = 125  # from so many pixels on lines may be a pixel off
SPANS = 0.7  # of a side: how long lines are at least
STROKE = 0.05  # of a side: what is thicker is no line
NEAR = 3  # pixels: a line so near to the side of the ink's box may be its outermost stroke
CLEAR = 0.03  # of a side: how far what remains keeps from the sides
LEFT_OVER = 0.1  # of a side: so many pixels of lines may remain there
APART = 3  # pixels: what lies so near to a line does not show that there is a character
LEAST = 0.2  # of a side: so many pixels it has at least
SMALLEST = 0.15  # of a side: how large it is at least
SEVERAL, MANY = 2, 3  # parallel lines: so many cross strokes; and what remains may reach the sides that they lead along


class Lines(NamedTuple):
    """The level lines of a mask (H, W): where they run in each part, bool (H, PARTS); rows of the thickest; number; and
    the number of those that no outermost stroke can be."""

    places: np.ndarray
    thickness: int
    number: int
    inside: int


def row_windows(values: np.ndarray, length: int, combine: np.ufunc) -> np.ndarray:
    """Each `length` neighbouring rows of values (…, H, W) combined, (…, H - length + 1, W); halves first."""
    if length == 1:
        return values
    half = length // 2
    halves = row_windows(values, half, combine)
    both = combine(halves[..., :-half, :], halves[..., half:, :])
    return combine(both[..., :-1, :], values[..., length - 1 :, :]) if length % 2 else both


def bounds(mask: np.ndarray) -> list[np.ndarray]:
    """First and one-past-last row and column, (n,) each, of what is set in masks (n, H, W); 0 where nothing is."""
    spans = []
    for profile in (mask.any(axis=2), mask.any(axis=1)):
        last = profile.shape[1] - profile[:, ::-1].argmax(axis=1)
        spans += [profile.argmax(axis=1), np.where(profile.any(axis=1), last, 0)]
    return spans


def longer_side(mask: np.ndarray) -> np.ndarray:
    """Of the box around what is set in masks (n, H, W), (n,); 0 where nothing is."""
    y0, y1, x0, x1 = bounds(mask)
    return np.maximum(y1 - y0, x1 - x0)


def large(mask: np.ndarray, longer: int) -> bool:
    """Whether a mask (H, W) is large enough for a character in a picture with this longer side."""
    return np.count_nonzero(mask) >= LEAST * longer and longer_side(mask[None])[0] >= SMALLEST * longer


def clear_of(rest: np.ndarray, asked: list[bool], left_over: float = 0) -> bool:
    """Whether the `asked` sides (top, then turning left) are clear of a mask (H, W), but for a share of a side."""
    strip = max(2, round(CLEAR * max(rest.shape)))
    beside = [np.count_nonzero(np.rot90(rest, turns)[:strip]) for turns in range(4)]
    return all(pixels <= left_over * max(rest.shape) for pixels, side in zip(beside, asked, strict=True) if side)


@lru_cache(maxsize=64)
def _parts(length: int) -> np.ndarray:
    """Which part each pixel of a line belongs to, float32 (length, PARTS), 1 there."""
    return (np.arange(length)[:, None] * PARTS // length == np.arange(PARTS)).astype(np.float32)


@lru_cache(maxsize=64)
def _offsets(length: int) -> np.ndarray:
    """How many rows lower than in its middle a line of each slope is in each part, (slopes, PARTS)."""
    return np.round(SLOPES[:, None] * length * ((np.arange(PARTS) + 0.5) / PARTS - 0.5)).astype(int)


def _runs(used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of True begins, and where it has ended."""
    steps = np.flatnonzero(np.diff(used.astype(np.int8), prepend=0, append=0))
    return steps[::2], steps[1::2]


def _farther_in(passing: np.ndarray, row: np.ndarray, height: int, reach: np.ndarray, drawn: tuple[bool, bool]):
    """Which rows hold lines apart from those near the first and last row, bool like `row`; lines that pass through
    (rows, slopes) reach so far up and down."""
    used = passing.any(axis=1)
    gaps = np.cumsum(~used)
    near_first = (passing & (row[:, None] - reach < NEAR)).any(axis=1) & drawn[0]
    near_last = (passing & (row[:, None] + reach >= height - NEAR)).any(axis=1) & drawn[1]
    first, last = gaps[near_first].max(initial=-1), gaps[near_last].min(initial=len(row) + 1)
    return used & (gaps > first) & (gaps < last)


def _lines(mask: np.ndarray, drawn: tuple[bool, bool]) -> Lines | None:
    """The lines from the left to the right side of a mask (H, W). Where the first or last rows may hold strokes,
    `drawn`, only what fills the outermost is a line, unless there are others farther in."""
    (height, width), tolerance = mask.shape, max(mask.shape) >= SHARP
    if min(mask.shape) < SHORTEST:
        return None
    parts = _parts(width)
    exact, least = mask.astype(np.float32) @ parts, COVERED * parts.sum(axis=0)
    wide = np.pad(mask, ((1, 1), (0, 0)))
    spread = (wide[:-2] | mask | wide[2:]).astype(np.float32) @ parts if tolerance else exact
    covered = spread >= least
    if np.count_nonzero(covered.any(axis=0)) < MOST_PARTS:
        return None
    offsets, level = _offsets(width), len(SLOPES) // 2
    reach = offsets.max()
    row, part = np.arange(height + 2 * reach) - reach, np.arange(PARTS)
    at = np.clip(row[:, None, None] + offsets, -1, height)  # (rows, slopes, PARTS)
    along = np.pad(covered, ((1, 1), (0, 0)))[at + 1, part].sum(axis=2)
    beyond = ((at < 0) | (at >= height)).sum(axis=2)
    passing = along >= MOST_PARTS
    inner = _farther_in(passing, row, height, offsets.max(axis=1), drawn)
    farther_in = inner.any()
    whole = passing
    if farther_in:
        passing = (along + beyond >= MOST_PARTS) & (along >= SOME_PARTS)
    else:
        whole = passing = np.zeros_like(passing)
        filled = (exact >= least).sum(axis=1) >= MOST_PARTS
        for first, side in ((0, slice(0, NEAR)), (height - 2, slice(height - NEAR, height))):
            if filled[first : first + 2].any():
                passing[reach : reach + height, level][side] = filled[side]
    if not passing.any():
        return None
    sharpness = np.pad(exact, ((1, 1), (0, 0)))[at + 1, part].sum(axis=2).astype(int)
    best = (sharpness * sharpness * passing).sum(axis=0).argmax()
    passing = passing[:, best]
    begin, end = _runs(passing)
    full = np.add.reduceat(whole[:, best], begin) > 0
    thin = end - begin <= int(STROKE * max(mask.shape)) + 2 * tolerance
    if not thin.any():
        return None
    for first, last in zip(begin[~thin], end[~thin], strict=True):
        passing[first:last] = False
    passing[1:] |= passing[:-1]
    passing[:-1] |= passing[1:]
    places = np.pad(passing, (reach, reach))[np.arange(height)[:, None] - offsets[best] + 2 * reach]
    within = np.add.reduceat(inner, begin) > 0
    thickness = int((end - begin)[thin].max()) + 2 - 2 * (tolerance and farther_in)
    return Lines(places, thickness, int((thin & full).sum()), int((thin & full & within).sum()))


def _opened(mask: np.ndarray, length: int) -> np.ndarray:
    """The pixels of a mask (H, W) that belong to vertical runs of at least this length."""
    if length > len(mask):
        return np.zeros_like(mask)
    whole = np.pad(row_windows(mask, length, np.logical_and), ((length - 1, length - 1), (0, 0)))
    return row_windows(whole, length, np.logical_or)


def _pixels(lines: Lines | None, shape: tuple[int, int], around: int = 0) -> np.ndarray:
    """Where the lines run, bool (H, W), and so many pixels on either side."""
    if lines is None:
        return np.zeros(shape, bool)
    places = np.pad(lines.places, ((around, around), (0, 0)))
    return row_windows(places, 2 * around + 1, np.logical_or)[:, np.arange(shape[1]) * PARTS // shape[1]]


def _removed(ink: np.ndarray, mask: np.ndarray, lines: Lines | None, crossing: np.ndarray) -> np.ndarray:
    """The pixels of the lines, but not those of strokes that cross them: in long runs across, or darker."""
    if lines is None:
        return np.zeros_like(mask)
    removed = _pixels(lines, mask.shape) & mask & ~_opened(mask & ~crossing, lines.thickness + 1)
    parts = _parts(ink.shape[1])
    along = (ink @ parts * lines.places).max(axis=0) / parts.sum(axis=0)  # the mean darkness in each part
    removed &= (ink <= DARKER * along.mean()) | crossing
    if lines.number >= SEVERAL:
        return removed
    beside = _pixels(lines, mask.shape, 2) & mask & ~removed & ~crossing
    return removed & ~beside.any()  # a single one that touches strokes may be one of them


def without_lines(ink: np.ndarray, solid: np.float32) -> tuple[np.ndarray, bool]:
    """Darkness (H, W) without lines through all of it and frames around all of it, and whether there were any."""
    mask = ink > FAINTEST * solid
    spans = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not len(spans[0]):
        return ink, False
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)
    first, last = (
        [part.start <= 1 for part in box],
        [part.stop >= side - 1 for part, side in zip(box, ink.shape, strict=True)],
    )
    through = [a and b for a, b in zip(first, last, strict=True)]
    long = [mask[box].shape[axis] >= SPANS * ink.shape[axis] for axis in (0, 1)]
    mask, found = mask[box], [None, None]
    views = (mask, mask.T)
    for axis in (0, 1):
        if long[1 - axis] and (through[1 - axis] or long[axis]):
            drawn = (first[axis] or not through[1 - axis], last[axis] or not through[1 - axis])
            found[axis] = _lines(views[axis], drawn)
    for axis in (0, 1):  # where there are lines one way, those the other way are believed more easily
        across = found[1 - axis]
        if across is not None and across.inside >= SEVERAL and through[1 - axis]:
            found[axis] = _lines(views[axis], (False, False))
    if found == [None, None]:
        return ink, False
    level, upright = _pixels(found[0], mask.shape), _pixels(found[1], mask.T.shape).T
    removed = _removed(ink[box], mask, found[0], upright) | _removed(ink[box].T, mask.T, found[1], level.T).T
    rest = mask & ~removed
    if any(through):
        rest = np.zeros(ink.shape, bool)
        rest[box] = mask & ~removed
    clear = [lines is None or lines.number < MANY for lines in found] * 2
    left_over = LEFT_OVER if any(lines is not None and lines.inside >= SEVERAL for lines in found) else 0
    apart = mask & ~(removed | _pixels(found[0], mask.shape, APART) | _pixels(found[1], mask.T.shape, APART).T)
    large_enough = large(apart, max(rest.shape))
    framed = all(lines is not None and lines.number == SEVERAL for lines in found) and not any(through)
    if not (removed.any() and large_enough and (framed or clear_of(rest, clear, left_over))):
        return ink, False
    ink = ink.copy()
    ink[box][removed] = 0
    return ink, True
