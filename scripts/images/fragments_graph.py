"""fragments.py and thinning.py as an ONNX graph, step by step, for one picture (H, W): onnxscript functions that bear
the names of those which compute the same there."""

import numpy as np
from onnxscript import opset18 as op
from onnxscript import script

from images import fragments, thinning
from images.fragments import CELLS, FARTHER, TOUCH
from images.graph_steps import INTEGER, SINGLE, any_along, count, double, longer_side, part, rounded, size, span, turned

SPECK, BAND, CLEAR = np.float64(fragments.SPECK), np.float64(fragments.BAND), np.float64(fragments.CLEAR)
SMALLEST, SHORT = np.float64(fragments.SMALLEST), np.float64(fragments.SHORT)
THICKEST, FINEST, LOST = np.float64(thinning.THICKEST), np.float64(thinning.FINEST), np.float32(thinning.LOST)
ROWS, COLUMNS = [0], [1]
DEPTH = round(fragments.BAND * CELLS)


@script(default_opset=op)
def pen_width(mask):
    """float64: 2.5 times the pixels by the edges between ink and paper."""
    steps = count(op.Xor(mask[1:], mask[:-1])) + count(op.Xor(mask[:, 1:], mask[:, :-1]))
    return count(mask) * 2.5 / op.Max(steps, 1.0)


@script(default_opset=op)
def without_specks(mask):
    pen = pen_width(mask)
    reach = op.Max(rounded(SPECK, longer_side(mask)), 2)
    least = op.Cast(op.Min(pen * pen * 0.5 + 1.0, double(reach) * pen * 0.5), to=INTEGER)
    # fragments.py counts in the smallest integers that hold a full window: a larger threshold wraps around.
    least = least % op.Where(reach < 8, 256, 65536)
    # Sums over windows, exact: products with matrices that are 1 within reach of the diagonal.
    y, x = op.Range(0, size(mask, axis=0), 1), op.Range(0, size(mask, axis=1), 1)
    rows = op.Cast(op.Abs(op.Unsqueeze(y, [1]) - y) <= reach, to=SINGLE)
    columns = op.Cast(op.Abs(op.Unsqueeze(x, [1]) - x) <= reach, to=SINGLE)
    return mask & (rows @ op.Cast(mask, to=SINGLE) @ columns > op.Cast(least, to=SINGLE))


@script(default_opset=op)
def pooled(mask, factor):
    """float32 (h, w), 1 where a cell of factor x factor pixels holds any of a mask (H, W)."""
    sides = op.Shape(mask)
    more = op.Concat([0, 0], (factor - sides % factor) % factor, axis=0)
    one, cells = op.Unsqueeze(factor, [0]), (sides + factor - 1) / factor
    shape = op.Concat(cells[:1], one, cells[1:], one, axis=0)
    blocks = op.Reshape(op.Pad(op.Cast(mask, to=SINGLE), more), shape)
    return op.ReduceMax(blocks, [1, 3], keepdims=0)


@script(default_opset=op)
def grown(seed, within):
    """All of `within` that is connected to the seed, both float32 (4, 1, h, w), 0 or 1."""
    reached, before, now = op.Identity(seed), op.ReduceSum(seed) - 1.0, op.ReduceSum(seed)
    more = op.ReduceSum(seed, keepdims=0) > 0
    while more:
        reached = op.MaxPool(reached, kernel_shape=[3, 3], pads=[1, 1, 1, 1]) * within
        before, now = op.Identity(now), op.ReduceSum(reached)
        more = op.Squeeze(now > before)
    return reached


@script(default_opset=op)
def along_top(cells):
    """The band of cells (h, w) along the top, and the row beyond it: both (1, 1, DEPTH + 1, CELLS) with 0 around."""
    height, width = size(cells, axis=0), size(cells, axis=1)
    depth = op.Max(rounded(BAND, height), 1)
    row = op.Unsqueeze(op.Range(0, height, 1), [1])
    rows = op.Min(height, DEPTH + 1)
    room = op.Concat([0, 0], op.Unsqueeze(DEPTH + 1 - rows, [0]), op.Unsqueeze(CELLS - width, [0]), axis=0)
    band = op.Pad(part(cells * op.Cast(row < depth, to=SINGLE), rows * 0, rows, ROWS), room)
    beyond = op.Pad(part(cells * op.Cast(row == depth, to=SINGLE), rows * 0, rows, ROWS), room)
    return op.Unsqueeze(band, [0, 1]), op.Unsqueeze(beyond, [0, 1])


@script(default_opset=op)
def pieces_of(bands, beyond):
    """Both and the result float32 (4, 1, DEPTH + 1, CELLS), 0 or 1."""
    apart = bands - grown(beyond, op.Max(bands, beyond)) * bands
    row = op.Unsqueeze(op.Range(0, DEPTH + 1, 1), [1])
    used = op.ReduceMax(grown(apart * op.Cast(row < TOUCH, to=SINGLE), apart), [3]) > 0  # (4, 1, DEPTH + 1, 1)
    deep = op.ReduceMax(op.Where(used, row + (1 + FARTHER), 0), [2])
    return grown(apart * op.Cast(row < deep, to=SINGLE), apart)


@script(default_opset=op)
def in_place(pieces, shape):
    """The pieces (DEPTH + 1, CELLS) along the top of cells of this shape, (h, w)."""
    rows = op.Min(op.Unsqueeze(DEPTH + 1, [0]), shape[:1])
    cut = op.Slice(pieces, [0, 0], op.Concat(rows, shape[1:], axis=0), [0, 1])
    return op.Pad(cut, op.Concat([0, 0], shape[:1] - rows, [0], axis=0))


@script(default_opset=op)
def touches(cells, depth):
    """How many cells (h, w), 0 or 1, lie so near to an edge."""
    height, width = size(cells, axis=0), size(cells, axis=1)
    row, column = op.Unsqueeze(op.Range(0, height, 1), [1]), op.Range(0, width, 1)
    near = (row < depth) | (row >= height - depth) | (column < depth) | (column >= width - depth)
    return op.ReduceSum(cells * op.Cast(near, to=SINGLE), keepdims=0) > 0


@script(default_opset=op)
def piece_pixels(mask, cells, factor, lined):
    """The pixels (H, W) of the pieces that go."""
    across = turned(cells)
    top, beyond_top = along_top(cells)
    right, beyond_right = along_top(across[::-1])
    bottom, beyond_bottom = along_top(cells[::-1, ::-1])
    left, beyond_left = along_top(across[:, ::-1])
    bands = op.Concat(top, right, bottom, left, axis=0)
    beyond = op.Concat(beyond_top, beyond_right, beyond_bottom, beyond_left, axis=0)
    pieces = pieces_of(bands, beyond)
    flat = op.Squeeze(pieces, [1])
    shape, other = op.Shape(cells), op.Shape(across)
    piece = op.Max(
        in_place(op.Gather(flat, 0), shape),
        turned(in_place(op.Gather(flat, 1), other)[::-1]),
        in_place(op.Gather(flat, 2), shape)[::-1, ::-1],
        turned(in_place(op.Gather(flat, 3), other)[:, ::-1]),
    )
    rest, longer = cells - piece * cells, longer_side(cells)
    y0, y1 = span(any_along(rest, COLUMNS))
    x0, x1 = span(any_along(rest, ROWS))
    lengths = op.Max(op.ReduceSum(op.ReduceMax(flat, [1]), [2]), op.ReduceSum(op.ReduceMax(flat, [2]), [1]))
    sides = op.ReduceSum(op.Cast(lengths > 0, to=SINGLE), keepdims=0)
    short = double(op.ReduceMax(lengths, keepdims=0)) <= SHORT * double(longer)
    good = (
        (sides > 0) & (double(op.Max(y1 - y0, x1 - x0)) >= SMALLEST * double(longer)) & (lined | (sides <= 1) | short)
    )
    good = good & op.Not(touches(rest, op.Max(rounded(CLEAR, longer), 2)))
    row, column = op.Range(0, size(mask, axis=0), 1) / factor, op.Range(0, size(mask, axis=1), 1) / factor
    return (op.Gather(op.Gather(piece, row, axis=0), column, axis=1) > 0) & good


@script(default_opset=op)
def without_edge_pieces(mask, lined):
    factor = (longer_side(mask) + (CELLS - 1)) / CELLS
    cells = pooled(mask, factor)
    if touches(cells, factor * 0 + TOUCH):
        rest = mask & op.Not(piece_pixels(mask, cells, factor, lined))
    else:
        rest = op.Identity(mask)
    return rest


@script(default_opset=op)
def excess(mask):
    y0, y1 = span(any_along(mask, COLUMNS))
    x0, x1 = span(any_along(mask, ROWS))
    usual = op.Max(FINEST, THICKEST * double(op.Max(y1 - y0, x1 - x0)))
    return (pen_width(mask) - usual) * 0.5


@script(default_opset=op)
def least(ink, corners):
    around = op.Pad(ink, [1, 1, 1, 1])
    rows = op.Min(around[:-2], around[1:-1], around[2:])
    beside = op.Where(corners, op.Min(rows[:, :-2], rows[:, 2:]), op.Min(around[1:-1, :-2], around[1:-1, 2:]))
    return op.Min(rows[:, 1:-1], beside)


@script(default_opset=op)
def thinned(ink, mask, pixels):
    strokes = op.Cast(mask, to=SINGLE)
    most = LOST * op.ReduceSum(ink * strokes, keepdims=0)
    for step in range(op.Cast(pixels, to=INTEGER) + 1):
        corners = step % 2 == 1
        inner = least(ink, corners)
        lost = op.ReduceSum((ink + least(-inner, corners)) * strokes, keepdims=0)
        share = op.Cast(op.Min(pixels - double(step), 1.0), to=SINGLE)
        share = op.Where(lost <= most, share, 0.0)
        ink = (1.0 - share) * ink + share * inner
    return ink
