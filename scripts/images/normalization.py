"""The input contract: any picture of a character to what every model reads, float32 (1, 64, 64), ink 1 on paper 0. Only
dense array operations, so that normalization_graph.py can write the same steps into an ONNX graph."""

from functools import lru_cache

import numpy as np

from images.bands import without_bands
from images.fragments import without_edge_pieces, without_specks
from images.lines import bounds, row_windows, without_lines
from images.thinning import excess, thinned

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


def _axis(low: np.ndarray, high: np.ndarray, scale: np.ndarray, size: int) -> tuple[slice, np.ndarray]:
    """The part of one axis that any picture's ink box needs, and the matrix (n, 64, part) that places it."""
    reach = 2 + int(2 * max(1, 1 / scale.min())) + 1
    start, stop = max(0, low.min() - reach), min(size, high.max() + reach)
    weights = resampling_matrix((low + high) / 2 - CANVAS / 2 / scale - start, scale, stop - start, CANVAS)
    pixel = np.arange(start, stop)
    weights *= ((pixel >= low[:, None] - 2) & (pixel < high[:, None] + 2) & (high > low)[:, None])[:, None]
    return slice(start, stop), weights


def place(ink: np.ndarray, framed: bool = False, lined: bool = False) -> np.ndarray:
    """Crops darkness float32 (n, H, W) to its ink and places it on the canvas (n, 64, 64); without ink, zeros. `framed`
    are frames of a form, whose characters stand in their middle; `lined` pictures had lines, so are no tight crops."""
    level = solid_level(ink)
    dark = ink > INK * level
    mask = without_edge_pieces(without_specks(dark), framed, lined)
    if not framed:
        ink = np.where(dark == mask, ink, 0)
        for picture, pixels in enumerate(excess(mask).tolist()):
            if pixels > 0:
                ink[picture] = thinned(ink[picture], mask[picture], pixels)
                dark[picture] = mask[picture] = ink[picture] > INK * level[picture]
    y0, y1, x0, x1 = bounds(mask)
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
        result[start : start + BLOCK] = place(frames[start : start + BLOCK].astype(np.float32), framed=True) * 255 + 0.5
    return result


@lru_cache(maxsize=32)
def _extension_matrix(length: int) -> np.ndarray:
    """The matrix that makes an axis longer by REACH at both ends, where values keep rising or falling as within."""
    return np.pad(np.eye(length, dtype=np.float32), ((REACH, REACH), (0, 0)), mode="reflect", reflect_type="odd")


def _paper(cells: np.ndarray) -> np.ndarray:
    """The grey closing of cells (h, w): what is dark and narrower than a quarter of the picture goes."""
    closed, (rows, columns) = cells, map(_extension_matrix, cells.shape)
    for combine in (np.maximum, np.minimum):
        closed = (rows @ closed @ columns.T).clip(cells.min(), cells.max())
        for _ in range(2):
            closed = row_windows(closed, 2 * REACH + 1, combine).swapaxes(-1, -2)
    return closed


def _even_paper(cells: np.ndarray) -> np.float32 | None:
    """The lightest of the cells (h, w) where the closing gives it everywhere, as in most drawings, else None."""
    # It lies in every window, if in each of these squares: any window holds a whole one.
    squares = np.maximum.reduceat(cells, np.arange(0, len(cells), REACH), axis=0)
    squares = np.maximum.reduceat(squares, np.arange(0, cells.shape[1], REACH), axis=1)
    return squares.max() if squares.max() - squares.min() < ROUNDING else None


@lru_cache(maxsize=32)
def _mean_matrix(length: int, side: int) -> np.ndarray:
    """Running means (a matrix) over 2 AROUND + 1 values, at `side` places along the axis, whose end values repeat."""
    extended = np.pad(np.eye(length, dtype=np.float32), ((AROUND, AROUND), (0, 0)), mode="edge")
    means = row_windows(extended, 2 * AROUND + 1, np.add) / (2 * AROUND + 1)
    return means[np.arange(side) * length // side]


def _is_light_on_dark(grey: np.ndarray, cells: np.ndarray) -> bool:
    """Whether the ink is lighter than the paper: it is rarer, and so lies farther from the mean around it. Cells show
    this of thick strokes, every other pixel each way of thin ones."""
    total = 0
    for values in (cells, grey[::2, ::2]):
        rows, columns = map(_mean_matrix, cells.shape, values.shape)
        difference = values - rows @ cells @ columns.T
        total += (difference * difference * difference).mean()
    return total > 0


def _noise(grey: np.ndarray) -> float:
    """The median difference between neighbours in a row; the first pixel of a row counts as 0."""
    half, steps = grey.size // 2, np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    if np.count_nonzero(steps < ROUNDING) > half:
        return 0  # numpy is slow to part so many equal values
    steps = np.partition(steps, half, axis=None)  # np.median takes four times as long
    return steps[half] if grey.size % 2 else (steps[:half].max() + steps[half]) / 2


def _scaled(shape: tuple[int, int], side: int) -> np.ndarray:
    """A height and a width, at least 1, once the longer of them is as long as `side`."""
    return np.maximum(1, np.round(np.array(shape) * side / max(shape)).astype(int))


def ink_of(grey: np.ndarray) -> np.ndarray:
    """How much darker than its paper each pixel is: grey (H, W) of either polarity, in any light, to float32 0 to 1.
    The paper is what a large grey closing leaves (shadows stay, strokes go). A picture without contrast gives zeros."""
    grey = grey.astype(np.float32, copy=False)
    if max(grey.shape) > WORKING_SIDE:
        grey = shrink(grey, *_scaled(grey.shape, WORKING_SIDE))
    grey = without_bands(grey)
    cells = shrink(grey, *_scaled(grey.shape, PAPER_GRID))
    if _is_light_on_dark(grey, cells):
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
    ink = ink_of(grey)
    ink, lined = without_lines(ink, solid_level(ink[None])[0, 0, 0])
    return place(ink[None], lined=lined)
