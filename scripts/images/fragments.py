"""What lies beside a character and does not belong to it: specks, and pieces along the edges. Only dense operations."""

import numpy as np

from images.lines import longer_side, row_windows

SPECK = 0.035  # of the longer side: how far around a pixel its ink is counted
CELLS = 64  # connections are followed on at most so many cells each way
BAND = 0.17  # of a side: how far a piece along an edge reaches in
CLEAR = 0.06  # of the longer side: what remains keeps so far from every edge
SMALLEST = 0.2  # of the longer side: how large it is at least
SHORT = 0.27  # of the longer side: how long pieces along two sides and more are at most
FARTHER = 3  # cells: what lies so near to a piece, and is not connected to the character, goes with it
TOUCH, TOUCH_OF_FRAMES = 1, 4  # in cells: what lies so near to an edge touches it


def count(mask: np.ndarray) -> np.ndarray:
    """How many pixels (n,) of each picture are set."""
    return np.array([np.count_nonzero(picture) for picture in mask])


def _box_sum(mask: np.ndarray, reach: int) -> np.ndarray:
    """Sums over windows of 2 reach + 1 pixels each way, (n, H, W) bool to unsigned integers just large enough."""
    window, (n, height, width) = 2 * reach + 1, mask.shape
    padded = np.zeros((n, height + window, width + 2 * reach), np.min_scalar_type(window**2))
    padded[:, reach : reach + height, reach : reach + width] = mask
    rows = row_windows(padded, window, np.add)
    sums = row_windows(rows.reshape(n, -1, 1), window, np.add)  # all rows as one: only in the margins do they mix
    return sums[:, : height * rows.shape[2]].reshape(n, height, -1)[:, :, :width]


def pen_width(mask: np.ndarray) -> np.ndarray:
    """How wide the strokes of each picture are, (n,): a long one has an edge on both sides."""
    steps = count(mask[:, 1:] != mask[:, :-1]) + count(mask[:, :, 1:] != mask[:, :, :-1])
    return 2.5 * count(mask) / np.maximum(steps, 1)


def without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask (n, H, W) without specks much smaller than the pen: less ink around them than around a stroke's end."""
    pen, reach = pen_width(mask), max(2, round(SPECK * max(mask.shape[1:])))
    least = np.minimum(0.5 * pen**2 + 1, reach * pen * 0.5).astype(np.int32)
    sums = _box_sum(mask, reach)
    return mask & (sums > least[:, None, None].astype(sums.dtype))


def _pooled(mask: np.ndarray, factor: int) -> np.ndarray:
    """Whether each cell of factor x factor pixels holds any of a mask (n, H, W)."""
    n, height, width = mask.shape
    if factor == 1:
        return mask
    rows = np.zeros((n, -(-height // factor), width + -width % factor), bool)
    for start in range(factor):
        part = mask[:, start::factor]
        rows[:, : part.shape[1], :width] |= part
    if factor in (2, 4):  # the bytes of a cell as one number: any() takes ten times as long
        return rows.view({2: np.uint16, 4: np.uint32}[factor]) != 0
    return rows.reshape(n, rows.shape[1], -1, factor).any(axis=3)


def _packed(cells: np.ndarray) -> np.ndarray:
    """Rows of at most 64 cells (…, h, w) as one integer each, (…, h); the first cell is the highest bit."""
    whole = np.zeros((*cells.shape[:-1], CELLS), bool)
    whole[..., : cells.shape[-1]] = cells
    return np.packbits(whole, axis=-1).view(">u8")[..., 0].astype(np.uint64)


def _unpacked(words: np.ndarray, width: int) -> np.ndarray:
    return np.unpackbits(words.astype(">u8")[..., None].view(np.uint8), axis=-1)[..., :width].astype(bool)


def _grown(seed: np.ndarray, within: np.ndarray) -> np.ndarray:
    """All of `within` that is connected to the seed, both (n, h) rows of cells."""
    one = np.uint64(1)
    while True:
        wide = seed | seed << one
        wide |= seed >> one
        grown = wide.copy()
        grown[:, 1:] |= wide[:, :-1]
        grown[:, :-1] |= wide[:, 1:]
        grown &= within
        if np.array_equal(grown, seed):
            return seed
        seed = grown


def _pieces(bands: np.ndarray, beyond: np.ndarray, touch: int) -> np.ndarray:
    """The parts of bands (n, depth, 64) that touch their first rows and are connected to nothing beyond; with what else
    is not and lies hardly farther in."""
    whole = _packed(bands | beyond)
    apart = whole & ~_grown(_packed(beyond), whole)
    near = apart.copy()
    near[:, touch:] = 0
    rows = _grown(near, apart) != 0
    deep = np.where(rows.any(axis=1), rows.shape[1] - rows[:, ::-1].argmax(axis=1) + FARTHER, 0)
    return _grown(np.where(np.arange(rows.shape[1]) < deep[:, None], apart, np.uint64(0)), apart)


def _along_edges(cells: np.ndarray, touch: int) -> np.ndarray:
    """The pieces (4, n, h, w) of cells (n, h, w) along the top, right, bottom and left."""
    n, height, width = cells.shape
    depths = [max(1, round(BAND * side)) for side in (height, width) * 2]
    bands, beyond = np.zeros((2, 4, n, max(depths) + 1, CELLS), bool)
    for turns, depth in enumerate(depths):
        seen = np.rot90(cells, turns, (1, 2))[:, : depth + 1]
        bands[turns, :, :depth, : seen.shape[2]] = seen[:, :depth]
        beyond[turns, :, depth, : seen.shape[2]] = seen[:, depth] if seen.shape[1] > depth else False
    shape = (4 * n, -1, CELLS)
    pieces = _unpacked(_pieces(bands.reshape(shape), beyond.reshape(shape), touch), CELLS).reshape(bands.shape)
    whole = np.zeros((4, *cells.shape), bool)
    for turns, depth in enumerate(depths):
        into = np.rot90(whole[turns], turns, (1, 2))
        into[:, :depth] = pieces[turns, :, : min(depth, into.shape[1]), : into.shape[2]]
    return whole


def _touches(cells: np.ndarray, depth: int) -> np.ndarray:
    """Whether each picture (n,) has cells (n, h, w) so near to an edge."""
    ends = cells[:, :depth], cells[:, -depth:], cells[:, :, :depth], cells[:, :, -depth:]
    return np.any([end.any(axis=(1, 2)) for end in ends], axis=0)


def without_edge_pieces(mask: np.ndarray, framed: bool = False, lined: bool = False) -> np.ndarray:
    """The mask (n, H, W) without neighbours' pieces, bits of printed lines and dirt along the edges. Such a piece
    touches an edge, lies in the outer 17 % there and is not connected to anything farther in. In pictures it goes only
    if what remains keeps clear of every edge, so that a tightly cropped character loses nothing."""
    (height, width), touch = mask.shape[1:], TOUCH_OF_FRAMES if framed else TOUCH
    factor = -(-max(height, width) // CELLS)
    cells = _pooled(mask, factor)
    some = np.flatnonzero(_touches(cells, touch))
    if not len(some):
        return mask
    cells, longer = cells[some], max(cells.shape[1:])
    pieces = _along_edges(cells, touch)
    piece = pieces.any(axis=0)
    rest = cells & ~piece
    good = piece.any(axis=(1, 2))
    good &= longer_side(rest) >= SMALLEST * longer
    if not framed:
        good &= ~_touches(rest, max(2, round(CLEAR * longer)))
        along = np.maximum(pieces.any(axis=2).sum(axis=2), pieces.any(axis=3).sum(axis=2))  # (4, n), in cells
        good &= lined | ((along > 0).sum(axis=0) == 1) | (along.max(axis=0) <= SHORT * longer)
    if not good.any():
        return mask
    mask = mask.copy()
    mask[some[good]] &= ~piece[good].repeat(factor, axis=1).repeat(factor, axis=2)[:, :height, :width]
    return mask
