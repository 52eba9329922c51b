"""The input contract: how any picture of a character becomes what every model reads, float32 (1, 64, 64), ink 1, paper 0.

prepare_dataset.py, evaluate.py, recognize.py and the exports all go through here. Only dense array operations are used
(box sums, projections, products with resampling matrices), so that the same steps can be written into an ONNX graph.
"""

import numpy as np

CANVAS = 64  # side of the model's input
CONTENT = 52  # longer side of the ink on it, which leaves a margin of 6
CONTRACT = "64x64 float32, ink 1 on paper 0, ink cropped, longer side 52, centred"
WORKING_SIDE = 256  # larger pictures are first shrunk to this longer side
PAPER_GRID = 64  # the paper's brightness is estimated on this many cells each way
INK = 0.3  # a pixel counts as ink from this darkness on
FLOOR = 0.2  # darkness, relative to the ink's, that still counts as paper
SOLID = 0.8  # the mean darkness that ink is stretched to, weighted by itself


def resampling_matrix(start: np.ndarray, scale: np.ndarray, size_in: int, size_out: int) -> np.ndarray:
    """Weights (n, size_out, size_in) that resample one axis: output pixel o reads around start + (o + ½) / scale.

    A triangle of one output pixel's half-width (antialiased when shrinking, linear when enlarging); what lies outside
    the picture is paper, 0.
    """
    radius = np.maximum(1, 1 / scale)[:, None, None]
    centre = start[:, None] + (np.arange(size_out) + 0.5) / scale[:, None]
    distance = np.abs(np.arange(size_in) + 0.5 - centre[:, :, None])
    weights = np.maximum(0, 1 - distance / radius)
    return (weights / np.maximum(weights.sum(axis=2, keepdims=True), 0.5 * radius)).astype(np.float32)


def shrink(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W) resampled to (height, width)."""
    rows = resampling_matrix(np.zeros(1), np.array([height / image.shape[0]]), image.shape[0], height)[0]
    columns = resampling_matrix(np.zeros(1), np.array([width / image.shape[1]]), image.shape[1], width)[0]
    return rows @ image @ columns.T


def stretch(ink: np.ndarray) -> np.ndarray:
    """Darkness (n, H, W) scaled per picture so that its self-weighted mean is SOLID, clipped to [0, 1]."""
    weight = ink.sum(axis=(1, 2))
    mean = np.square(ink).sum(axis=(1, 2)) / np.maximum(weight, 1e-6)
    return np.minimum(ink * (SOLID / np.maximum(mean, 1e-6))[:, None, None], 1)


def _box_sum(mask: np.ndarray, reach: int) -> np.ndarray:
    """Sums over windows of 2 reach + 1 pixels each way, (n, H, W) bool to int32."""
    padded = np.pad(mask, ((0, 0), (reach + 1, reach), (reach + 1, reach)))
    total = padded.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    window = 2 * reach + 1
    rows = total[:, window:] - total[:, :-window]
    return rows[:, :, window:] - rows[:, :, :-window]


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask (n, H, W) without specks much smaller than the pen: too little ink around them for even a stroke's end."""
    area = mask.sum(axis=(1, 2))
    steps = (mask[:, 1:] != mask[:, :-1]).sum(axis=(1, 2)) + (mask[:, :, 1:] != mask[:, :, :-1]).sum(axis=(1, 2))
    pen_width = 2.5 * area / np.maximum(steps, 1)  # a long stroke has an edge on both sides
    reach = max(2, round(0.035 * max(mask.shape[1:])))
    return mask & (_box_sum(mask, reach) > np.minimum(0.5 * pen_width**2 + 1, reach * pen_width * 0.5)[:, None, None])


def _cut(has_ink: np.ndarray) -> np.ndarray:
    """How many lines (n,) at the start of a profile (n, L) hold nothing but a fragment with a gap behind it."""
    length = has_ink.shape[1]
    band, gap = round(0.12 * length), max(2, round(0.025 * length))
    empty = ~np.lib.stride_tricks.sliding_window_view(has_ink[:, : band + gap], gap, axis=1).any(axis=2)
    ink_before = has_ink[:, : empty.shape[1]].cumsum(axis=1) > 0
    starts = empty & ink_before
    last = empty.shape[1] - 1 - starts[:, ::-1].argmax(axis=1)
    return np.where(starts.any(axis=1), last, 0)


def _without_edge_fragments(mask: np.ndarray) -> np.ndarray:
    """The mask without printed frame lines, neighbours' slivers and dirt along the edges.

    Such a fragment lies in the outer 12 % and a gap parts it from the rest; it goes only if the rest then keeps clear
    of every edge, so that a tightly cropped character loses nothing.
    """
    n, height, width = mask.shape
    y, x = np.arange(height), np.arange(width)
    rows = mask[:, :, round(0.12 * width) : round(0.88 * width)].any(axis=2)
    columns = mask[:, round(0.12 * height) : round(0.88 * height)].any(axis=1)
    top, bottom = _cut(rows), height - _cut(rows[:, ::-1])
    left, right = _cut(columns), width - _cut(columns[:, ::-1])
    keep_rows = (y >= top[:, None]) & (y < bottom[:, None])
    keep_columns = (x >= left[:, None]) & (x < right[:, None])
    rest = mask & keep_rows[:, :, None] & keep_columns[:, None, :]
    (y0, y1), (x0, x1) = ink_span(rest.any(axis=2)), ink_span(rest.any(axis=1))
    margin_y, margin_x = round(0.03 * height), round(0.03 * width)
    clear = (y0 >= margin_y) & (y1 <= height - margin_y) & (x0 >= margin_x) & (x1 <= width - margin_x) & (y1 > y0)
    enough = 2 * rest.sum(axis=(1, 2)) > mask.sum(axis=(1, 2))
    return np.where((clear & enough)[:, None, None], rest, mask)


def ink_span(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last True of each profile (n, L); (0, 0) where there is none."""
    some = profile.any(axis=1)
    first = np.where(some, profile.argmax(axis=1), 0)
    return first, np.where(some, profile.shape[1] - profile[:, ::-1].argmax(axis=1), 0)


def place(ink: np.ndarray) -> np.ndarray:
    """Darkness float32 (n, H, W), paper 0, any scale, to the contract (n, 64, 64); a picture without ink becomes zeros."""
    ink = stretch(ink)
    ink = np.maximum(ink - FLOOR, 0) / (1 - FLOOR)
    mask = _without_edge_fragments(_without_specks(ink > INK))
    (y0, y1), (x0, x1) = ink_span(mask.any(axis=2)), ink_span(mask.any(axis=1))
    # What was dropped goes, and so does all beyond the box but the soft edge of the strokes that touch it.
    y, x = np.arange(ink.shape[1]), np.arange(ink.shape[2])
    near_box = ((y >= y0[:, None] - 2) & (y < y1[:, None] + 2))[:, :, None]
    near_box = near_box & ((x >= x0[:, None] - 2) & (x < x1[:, None] + 2))[:, None, :]
    ink = ink * near_box * ((ink <= INK) | mask)
    scale = CONTENT / np.maximum(np.maximum(y1 - y0, x1 - x0), 1).astype(np.float64)
    rows = resampling_matrix((y0 + y1) / 2 - CANVAS / 2 / scale, scale, ink.shape[1], CANVAS)
    columns = resampling_matrix((x0 + x1) / 2 - CANVAS / 2 / scale, scale, ink.shape[2], CANVAS)
    placed = rows @ ink @ columns.transpose(0, 2, 1)
    return stretch(placed * (y1 > y0)[:, None, None])


def normalize_frames(frames: np.ndarray) -> np.ndarray:
    """ETL9G frames uint8 (n, 127, 128), 0 = paper, 15 = darkest, to the contract as uint8 (n, 64, 64), 255 = ink."""
    return (place(frames.astype(np.float32)) * 255 + 0.5).astype(np.uint8)


def _sliding(values: np.ndarray, reach: int, reduce) -> np.ndarray:
    """A running maximum or minimum over 2 reach + 1 cells each way."""
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        values = reduce(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=axis), axis=-1)
    return values


def ink_of(grey: np.ndarray) -> np.ndarray:
    """How dark each pixel is against its paper: grey (H, W) of either polarity and any light to float32, paper 0.

    The paper is what a large grey closing leaves (shadows stay, strokes go). A picture without contrast gives zeros.
    """
    grey = grey.astype(np.float32)
    longer = max(grey.shape)
    if longer > WORKING_SIDE:
        grey = shrink(grey, *(max(1, round(side * WORKING_SIDE / longer)) for side in grey.shape))
    height, width = grey.shape
    edge = max(1, round(0.04 * max(height, width)))
    border = np.concatenate([a.ravel() for a in (grey[:edge], grey[-edge:], grey[:, :edge], grey[:, -edge:])])
    if grey.mean() > np.median(border):  # light ink on dark paper
        grey = -grey
    cells = shrink(grey, PAPER_GRID, PAPER_GRID)
    closed = _sliding(_sliding(cells, PAPER_GRID // 8, np.max), PAPER_GRID // 8, np.min)
    ink = np.maximum(shrink(closed, height, width) - grey, 0)
    return ink if ink.max() >= 12 else np.zeros_like(ink)


def normalize(grey: np.ndarray) -> np.ndarray:
    """Any picture of one character, grey values 0 to 255 (H, W), to the contract: float32 (1, 64, 64).

    Raises ValueError for an array that is not two-dimensional or has no pixels.
    """
    if grey.ndim != 2 or 0 in grey.shape:
        raise ValueError(f"a grey picture has two dimensions and some pixels, this has the shape {grey.shape}")
    return place(ink_of(grey)[None])
