"""The input contract: any picture of a character to what every model reads, float32 (1, 64, 64), ink 1 on paper 0. Only
dense array operations, so that normalization_graph.py can write the same steps into an ONNX graph."""

from functools import lru_cache

import numpy as np

CANVAS = 64  # side of the model's input
CONTENT = 52  # longer side of the ink on it, which leaves a margin of 6
CONTRACT = "64x64 float32, ink 1 on paper 0, ink cropped, longer side 52, centred"
WORKING_SIDE = 256  # larger pictures are first shrunk to this longer side
PAPER_GRID = 64  # the paper's brightness is estimated on this many cells each way
REACH = PAPER_GRID // 8  # in cells: half the width of what is too wide for a stroke
AROUND = PAPER_GRID // 4  # in cells, around each of them: the mean that shows the ink's polarity
INK = 0.44  # a pixel counts as ink from this darkness on
FLOOR = 0.2  # darkness, relative to the ink's, that still counts as paper
SOLID = 0.8  # the mean darkness that ink is stretched to, weighted by itself
SPECK = 0.035  # of the longer side: how far around a pixel its ink is counted
EDGE_BAND = 0.12  # of a side: how far fragments along an edge reach in
GAP = 0.025  # of a side: what parts them from the character at least
MARGIN = 0.04  # of the longer side: what lies so near to an edge touches it
REST = 2 / 3  # the share of the ink that has to stay when fragments along the edges are dropped
FAINT = 12  # grey values; a picture whose darkest pixel differs less from its paper is blank
NOISE = 3.5  # differences from the paper below this many times those between neighbouring pixels are noise
ROUNDING = 1e-3  # grey values that differ by less are equal
BLOCK = 16  # frames normalised at once, few enough for the processor's cache
BAND = 16  # pixels, on the coarser side, that are resampled at once: each reads only few of the others


def resampling_matrix(start: np.ndarray, scale: np.ndarray, size_in: int, size_out: int) -> np.ndarray:
    """Weights (n, size_out, size_in) that resample one axis: output pixel o reads around start + (o + ½) / scale.
    They are triangles, antialiased when shrinking and linear when enlarging; outside the picture is paper, 0."""
    radius = np.maximum(1, 1 / scale)[:, None]
    centre = start[:, None] + (np.arange(size_out) + 0.5) / scale[:, None]
    pixel = (np.arange(size_in) + 0.5) / radius
    weights = pixel.astype(np.float32)[:, None] - (centre / radius).astype(np.float32)[:, :, None]
    np.subtract(1, np.abs(weights, out=weights), out=weights)
    np.maximum(weights, 0, out=weights)
    weights *= (1 / np.maximum(weights.sum(axis=2), 0.5 * radius)).astype(np.float32)[:, :, None]
    return weights


@lru_cache(maxsize=32)
def _bands(size_in: int, size_out: int) -> list[tuple[slice, np.ndarray]]:
    """The matrix that resamples a whole axis without most of its zeros: for each band its inputs and weights."""
    weights = resampling_matrix(np.zeros(1), np.array([size_out / size_in]), size_in, size_out)[0]
    step, ratio = BAND * max(1, size_out // size_in), size_in / size_out
    bands = []
    for start in range(0, size_out, step):
        first, last = start * ratio - max(1, ratio), (start + step) * ratio + max(1, ratio)
        inputs = slice(max(0, int(first)), int(last) + 1)
        bands.append((inputs, weights[start : start + step, inputs].copy()))
    return bands


def shrink(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W) resampled to (height, width)."""
    rows = np.concatenate([weights @ image[inputs] for inputs, weights in _bands(len(image), height)])
    return np.concatenate([rows[:, inputs] @ weights.T for inputs, weights in _bands(image.shape[1], width)], axis=1)


def solid_level(ink: np.ndarray) -> np.ndarray:
    """The darkness (n, 1, 1) that counts as solid ink: 1 / SOLID of each picture's mean, weighted by itself."""
    flat = ink.reshape(len(ink), -1)
    mean = np.einsum("np,np->n", flat, flat) / np.maximum(flat.sum(axis=1), 1e-6)
    return np.maximum(mean / SOLID, 1e-6)[:, None, None]


def _count(mask: np.ndarray) -> np.ndarray:
    """How many pixels (n,) of each picture are set."""
    return np.array([np.count_nonzero(picture) for picture in mask])


def _row_windows(values: np.ndarray, length: int, combine: np.ufunc) -> np.ndarray:
    """Each `length` neighbouring rows of values (…, H, W) combined, (…, H - length + 1, W); halves first."""
    if length == 1:
        return values
    half = length // 2
    halves = _row_windows(values, half, combine)
    both = combine(halves[..., :-half, :], halves[..., half:, :])
    return combine(both[..., :-1, :], values[..., length - 1 :, :]) if length % 2 else both


def _box_sum(mask: np.ndarray, reach: int) -> np.ndarray:
    """Sums over windows of 2 reach + 1 pixels each way, (n, H, W) bool to unsigned integers just large enough."""
    window, (n, height, width) = 2 * reach + 1, mask.shape
    padded = np.zeros((n, height + window, width + 2 * reach), np.min_scalar_type(window**2))
    padded[:, reach : reach + height, reach : reach + width] = mask
    rows = _row_windows(padded, window, np.add)
    sums = _row_windows(rows.reshape(n, -1, 1), window, np.add)  # all rows as one: only in the margins do they mix
    return sums[:, : height * rows.shape[2]].reshape(n, height, -1)[:, :, :width]


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask (n, H, W) without specks much smaller than the pen: less ink around them than around a stroke's end."""
    steps = _count(mask[:, 1:] != mask[:, :-1]) + _count(mask[:, :, 1:] != mask[:, :, :-1])
    pen_width = 2.5 * _count(mask) / np.maximum(steps, 1)  # a long stroke has an edge on both sides
    reach = max(2, round(SPECK * max(mask.shape[1:])))
    least = np.minimum(0.5 * pen_width**2 + 1, reach * pen_width * 0.5).astype(np.int32)
    sums = _box_sum(mask, reach)
    return mask & (sums > least[:, None, None].astype(sums.dtype))


def _fragment_end(has_ink: np.ndarray, at_edge: np.ndarray) -> np.ndarray:
    """Where (n, 1) the gap behind a fragment begins in a profile (n, L), 0 without one that is partly `at_edge`."""
    length = has_ink.shape[1]
    band, gap = round(EDGE_BAND * length), min(length, max(2, round(GAP * length)))
    empty = ~np.lib.stride_tricks.sliding_window_view(has_ink[:, : band + gap], gap, axis=1).any(axis=2)
    last = empty.shape[1] - 1
    ends = has_ink[:, :last] & empty[:, 1:] & ((has_ink & at_edge)[:, :last].cumsum(axis=1) > 0)
    return (ends * np.arange(1, last + 1)).max(axis=1, initial=0, keepdims=True)


def _between_fragments(has_ink: np.ndarray, at_edge: np.ndarray) -> np.ndarray:
    """Which lines (n, L) lie between the fragments at either end of a profile (n, L)."""
    line = np.arange(has_ink.shape[1])
    end = has_ink.shape[1] - _fragment_end(has_ink[:, ::-1], at_edge[:, ::-1])
    return (line >= _fragment_end(has_ink, at_edge)) & (line < end)


def _without_edge_fragments(mask: np.ndarray) -> np.ndarray:
    """The mask (n, H, W) without printed frame lines, neighbours' slivers and dirt along the edges. Such a fragment
    reaches an edge, lies in the outer 12 % and a gap parts it from the rest. It goes only if the rest is most of the
    ink and keeps clear of every edge, so that a tightly cropped character loses nothing."""
    height, width = mask.shape[1:]
    margin, edge = max(1, round(MARGIN * max(height, width))), np.ones((height, width), bool)
    edge[margin:-margin, margin:-margin] = False
    some = np.flatnonzero((mask & edge).any(axis=(1, 2)))
    if not len(some):
        return mask
    whole = mask[some]
    # Left and right, as seen between the bands at top and bottom; then top and bottom by what that leaves.
    columns = whole[:, round(EDGE_BAND * height) : round((1 - EDGE_BAND) * height)].any(axis=1)
    rest = whole & _between_fragments(columns, (whole & edge).any(axis=1))[:, None]
    rest &= _between_fragments(rest.any(axis=2), (rest & edge).any(axis=2))[:, :, None]
    good = ~(rest & edge).any(axis=(1, 2)) & (_count(rest) > REST * _count(whole))
    mask = mask.copy()
    mask[some[good]] = rest[good]
    return mask


def ink_span(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last True of each profile (n, L); (0, 0) where there is none."""
    some = profile.any(axis=1)
    first = np.where(some, profile.argmax(axis=1), 0)
    return first, np.where(some, profile.shape[1] - profile[:, ::-1].argmax(axis=1), 0)


def _axis(low: np.ndarray, high: np.ndarray, scale: np.ndarray, size: int) -> tuple[slice, np.ndarray]:
    """The part of one axis that any picture's ink box needs, and the matrix (n, 64, part) that places it."""
    reach = 2 + int(2 * max(1, 1 / scale.min())) + 1
    start, stop = max(0, low.min() - reach), min(size, high.max() + reach)
    weights = resampling_matrix((low + high) / 2 - CANVAS / 2 / scale - start, scale, stop - start, CANVAS)
    pixel = np.arange(start, stop)
    weights *= ((pixel >= low[:, None] - 2) & (pixel < high[:, None] + 2) & (high > low)[:, None])[:, None]
    return slice(start, stop), weights


def place(ink: np.ndarray) -> np.ndarray:
    """Crops darkness float32 (n, H, W) to its ink and places it on the canvas (n, 64, 64); without ink, zeros."""
    level = solid_level(ink)
    dark = ink > INK * level
    mask = _without_edge_fragments(_without_specks(dark))
    (y0, y1), (x0, x1) = ink_span(mask.any(axis=2)), ink_span(mask.any(axis=1))
    scale = CONTENT / np.maximum(np.maximum(y1 - y0, x1 - x0), 1)
    height, rows = _axis(y0, y1, scale, ink.shape[1])
    width, columns = _axis(x0, x1, scale, ink.shape[2])
    ink = ink[:, height, width] * (1 / (1 - FLOOR) / level)
    ink -= FLOOR / (1 - FLOOR)
    np.clip(ink, 0, 1, out=ink)
    np.putmask(ink, dark[:, height, width] != mask[:, height, width], 0)
    placed = rows @ ink @ columns.transpose(0, 2, 1)
    return np.minimum(placed / solid_level(placed), 1)


def normalize_frames(frames: np.ndarray) -> np.ndarray:
    """ETL9G frames uint8 (n, 127, 128), 0 = paper, 15 = darkest, to the contract as uint8 (n, 64, 64), 255 = ink."""
    result = np.empty((len(frames), CANVAS, CANVAS), np.uint8)
    for start in range(0, len(frames), BLOCK):
        result[start : start + BLOCK] = place(frames[start : start + BLOCK].astype(np.float32)) * 255 + 0.5
    return result


@lru_cache(maxsize=32)
def _extension_matrix(length: int) -> np.ndarray:
    """The matrix that makes an axis longer by REACH at both ends, where values go on rising or falling as within."""
    return np.pad(np.eye(length, dtype=np.float32), ((REACH, REACH), (0, 0)), mode="reflect", reflect_type="odd")


def _paper(cells: np.ndarray) -> np.ndarray:
    """The grey closing of cells (h, w): what is dark and narrower than a quarter of the picture goes."""
    closed, (rows, columns) = cells, map(_extension_matrix, cells.shape)
    for combine in (np.maximum, np.minimum):
        closed = (rows @ closed @ columns.T).clip(cells.min(), cells.max())
        for _ in range(2):
            closed = _row_windows(closed, 2 * REACH + 1, combine).swapaxes(-1, -2)
    return closed


def _even_paper(cells: np.ndarray) -> np.float32 | None:
    """The lightest of the cells (h, w) where the closing gives it everywhere, as in most drawings, else None."""
    # It lies in every window, if in each of these squares: any window holds a whole one.
    squares = np.maximum.reduceat(cells, np.arange(0, len(cells), REACH), axis=0)
    squares = np.maximum.reduceat(squares, np.arange(0, cells.shape[1], REACH), axis=1)
    return squares.max() if squares.max() - squares.min() < ROUNDING else None


@lru_cache(maxsize=32)
def _mean_matrix(length: int) -> np.ndarray:
    """The matrix of running means over 2 AROUND + 1 values; beyond its ends an axis is as it is there."""
    extended = np.pad(np.eye(length, dtype=np.float32), ((AROUND, AROUND), (0, 0)), mode="edge")
    return _row_windows(extended, 2 * AROUND + 1, np.add) / (2 * AROUND + 1)


def _is_light_on_dark(cells: np.ndarray) -> bool:
    """Whether the ink is lighter than the paper: it is rarer, and so lies farther from the mean around it."""
    rows, columns = map(_mean_matrix, cells.shape)
    difference = cells - rows @ cells @ columns.T
    return (difference * difference * difference).sum() > 0


def _noise(grey: np.ndarray) -> float:
    """The median difference between neighbours in a row; the first pixel of a row counts as 0."""
    half, steps = grey.size // 2, np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    if np.count_nonzero(steps < ROUNDING) > half:
        return 0  # numpy is slow to part so many equal values
    steps = np.partition(steps, half, axis=None)  # np.median takes four times as long
    return steps[half] if grey.size % 2 else (steps[:half].max() + steps[half]) / 2


def ink_of(grey: np.ndarray) -> np.ndarray:
    """How much darker than its paper each pixel is: grey (H, W) of either polarity, in any light, to float32 0 to 1.
    The paper is what a large grey closing leaves (shadows stay, strokes go). A picture without contrast gives zeros."""
    grey, shape, longer = grey.astype(np.float32, copy=False), np.array(grey.shape), max(grey.shape)
    if longer > WORKING_SIDE:
        grey = shrink(grey, *np.maximum(1, np.round(shape * WORKING_SIDE / longer).astype(int)))
    cells = shrink(grey, *np.maximum(1, np.round(shape * PAPER_GRID / longer).astype(int)))
    if _is_light_on_dark(cells):
        grey, cells = 255 - grey, 255 - cells
    even = _even_paper(cells)
    paper = shrink(_paper(cells), *grey.shape) if even is None else even
    ink = paper - grey
    # If at most a quarter of the pixels is not the paper's grey, at most half of the neighbours differ.
    clean = even is not None and ink.min() > -ROUNDING and np.count_nonzero(ink > ROUNDING) <= ink.size // 4
    np.maximum(ink, 0, out=ink)
    darkest = ink.max()
    if darkest < FAINT:
        return np.zeros_like(ink)
    if not clean and (noise := _noise(grey)):
        np.putmask(ink, ink < min(NOISE * noise, 0.35 * darkest), 0)
    ink /= np.maximum(paper, 1)
    return ink


def normalize(grey: np.ndarray) -> np.ndarray:
    """Any picture of one character, grey values 0 to 255 (H, W), to the contract: float32 (1, 64, 64). Raises
    ValueError for an array that is not two-dimensional or has no pixels."""
    if grey.ndim != 2 or 0 in grey.shape:
        raise ValueError(f"a grey picture has two dimensions and some pixels, this has the shape {grey.shape}")
    return place(ink_of(grey)[None])
