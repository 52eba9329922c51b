"""lines.py as an ONNX graph, step by step, for one picture (H, W): onnxscript functions with the same names."""

import numpy as np
from onnxscript import opset18 as op
from onnxscript import script

from images import lines
from images.graph_steps import (
    BOOL,
    INTEGER,
    SINGLE,
    any_along,
    any_of,
    count,
    double,
    longer_side,
    part,
    rounded,
    size,
    span,
    turned,
)
from images.lines import APART, MANY, MOST_PARTS, NEAR, PARTS, SEVERAL, SHARP, SHORTEST, SOME_PARTS

LEAST, SMALLEST, CLEAR = np.float64(lines.LEAST), np.float64(lines.SMALLEST), np.float64(lines.CLEAR)
SPANS, STROKE, LEFT_OVER = np.float64(lines.SPANS), np.float64(lines.STROKE), np.float64(lines.LEFT_OVER)
FAINTEST, DARKER, COVERED = lines.FAINTEST, lines.DARKER, lines.COVERED
SLOPES, MIDDLES = lines.SLOPES[:, None], (np.arange(PARTS) + 0.5) / PARTS - 0.5
LEVEL, ZERO = len(lines.SLOPES) // 2, np.float64(0)
ROWS, COLUMNS, PER_LINE = [0], [1], [PARTS]  # axes, and a length


@script(default_opset=op)
def large(mask, longer):
    y0, y1 = span(any_along(mask, COLUMNS))
    x0, x1 = span(any_along(mask, ROWS))
    return (count(mask) >= LEAST * double(longer)) & (double(op.Max(y1 - y0, x1 - x0)) >= SMALLEST * double(longer))


@script(default_opset=op)
def beside(rest):
    """How many pixels of a mask lie along the top or the bottom, and along the left or the right, the more of both."""
    strip, height, width = op.Max(rounded(CLEAR, longer_side(rest)), 2), size(rest, axis=0), size(rest, axis=1)
    none = strip * 0
    rows = op.Max(count(part(rest, none, strip, ROWS)), count(part(rest, height - strip, height, ROWS)))
    columns = op.Max(count(part(rest, none, strip, COLUMNS)), count(part(rest, width - strip, width, COLUMNS)))
    return rows, columns


@script(default_opset=op)
def parts(length):
    """float32 (length, PARTS)."""
    part_of = op.Unsqueeze(op.Range(0, length, 1) * PARTS / length, [1])
    return op.Cast(part_of == op.Range(0, PARTS, 1), to=SINGLE)


@script(default_opset=op)
def farther_in(passing, row, height, reach, drawn_first, drawn_last):
    """bool (rows,)."""
    used = any_along(passing, COLUMNS)
    gaps = op.CumSum(op.Cast(op.Not(used), to=INTEGER), 0)
    at = op.Unsqueeze(row, [1])
    near_first = any_along(passing & (at - reach < NEAR), COLUMNS) & drawn_first
    near_last = any_along(passing & (at + reach >= height - NEAR), COLUMNS) & drawn_last
    first = op.ReduceMax(op.Where(near_first, gaps, -1), keepdims=0)
    last = op.ReduceMin(op.Where(near_last, gaps, size(row, axis=0) + 1), keepdims=0)
    return used & (gaps > first) & (gaps < last)


@script(default_opset=op)
def along_slopes(values, at):
    """Values (H, PARTS) at rows (rows, slopes, PARTS), -1 and H for 0, summed over the parts: int64 (rows, slopes)."""
    flat = op.Reshape(op.Pad(op.Cast(values, to=INTEGER), [1, 0, 1, 0]), [-1])
    return op.ReduceSum(op.Gather(flat, (at + 1) * PARTS + op.Range(0, PARTS, 1)), [2], keepdims=0)


@script(default_opset=op)
def outermost(exact, least, row, height):
    """Where the first or last rows of all are filled, bool (rows, slopes), by level lines."""
    line = op.Range(0, height, 1)
    filled = op.ReduceSum(op.Cast(exact >= least, to=INTEGER), COLUMNS, keepdims=0) >= MOST_PARTS
    first, last = any_of(filled & (line < 2)), any_of(filled & (line >= height - 2))
    filled = filled & (((line < NEAR) & first) | ((line >= height - NEAR) & last))
    at = op.Max(op.Min(row, height - 1), 0)
    level = op.Unsqueeze(op.Gather(filled, at) & (row >= 0) & (row < height), [1])
    return level & (op.Range(0, 2 * LEVEL + 1, 1) == LEVEL)


@script(default_opset=op)
def lines_through(exact, covered, least, sharp, sides, drawn_first, drawn_last):
    """places, thickness, number and inside as Lines has them, int64 but for the first; sides are height and width."""
    height, width = op.Gather(sides, 0), op.Gather(sides, 1)
    offsets = op.Cast(op.Round(SLOPES * double(width) * MIDDLES), to=INTEGER)
    reach = op.ReduceMax(offsets, keepdims=0)
    row = op.Range(op.Neg(reach), height + reach, 1)
    lower = op.Unsqueeze(row, [1, 2]) + offsets
    at = op.Max(op.Min(lower, height), -1)  # (rows, slopes, PARTS)
    along = along_slopes(covered, at)
    beyond = op.ReduceSum(op.Cast((at < 0) | (at >= height), to=INTEGER), [2], keepdims=0)
    through = along >= MOST_PARTS
    inner = farther_in(through, row, height, op.ReduceMax(offsets, COLUMNS, keepdims=0), drawn_first, drawn_last)
    several = any_of(inner)
    strict = outermost(exact, least, row, height)
    strict = strict & op.Not(several)
    whole = (through & several) | strict
    passing = ((along + beyond >= MOST_PARTS) & (along >= SOME_PARTS) & several) | strict
    sharpness = along_slopes(exact, at)
    squares = op.ReduceSum(sharpness * sharpness * op.Cast(passing, to=INTEGER), ROWS, keepdims=0)
    best = op.ArgMax(squares, axis=0, keepdims=0)
    passing, full = op.Gather(passing, best, axis=1), op.Gather(whole, best, axis=1)
    # Which rows belong to the same run, and what each run is.
    gaps = op.CumSum(op.Cast(op.Not(passing), to=INTEGER), 0)
    same = op.Cast((op.Unsqueeze(gaps, [1]) == gaps) & passing & op.Unsqueeze(passing, [1]), to=SINGLE)
    length = op.Cast(op.ReduceSum(same, COLUMNS, keepdims=0), to=INTEGER)
    most = op.Cast(STROKE * double(op.ReduceMax(sides, keepdims=0)), to=INTEGER) + 2 * sharp
    thin = passing & (length <= most)
    before = op.Cast(op.Pad(op.Cast(passing[:-1], to=INTEGER), [1, 0]), to=BOOL)
    begins = thin & op.Not(before) & (op.MatMul(same, op.Cast(full, to=SINGLE)) > 0)
    number = op.ReduceSum(op.Cast(begins, to=INTEGER), keepdims=0)
    within = begins & (op.MatMul(same, op.Cast(inner, to=SINGLE)) > 0)
    inside = op.ReduceSum(op.Cast(within, to=INTEGER), keepdims=0)
    thickness = op.ReduceMax(op.Where(thin, length, 0), keepdims=0) + 2 - 2 * sharp * op.Cast(several, to=INTEGER)
    wide = op.MaxPool(op.Unsqueeze(op.Cast(thin, to=SINGLE), [0, 1]), kernel_shape=[3], pads=[1, 1])
    wide = op.Pad(op.Squeeze(wide, [0, 1]), op.Concat(op.Unsqueeze(reach, [0]), op.Unsqueeze(reach, [0]), axis=0))
    from_line = op.Unsqueeze(op.Range(0, height, 1), [1]) - op.Gather(offsets, best, axis=0) + 2 * reach
    return op.Gather(wide, from_line) > 0, thickness, number, inside


@script(default_opset=op)
def lines_of(mask, drawn_first, drawn_last):
    sides, columns = op.Shape(mask), parts(size(mask, axis=1))
    values = op.Cast(mask, to=SINGLE)
    sharp = op.Cast(longer_side(mask) >= SHARP, to=INTEGER)
    wide = op.Squeeze(op.MaxPool(op.Unsqueeze(values, [0, 1]), kernel_shape=[3, 1], pads=[1, 0, 1, 0]), [0, 1])
    exact = values @ columns
    least = op.ReduceSum(columns, ROWS, keepdims=0) * COVERED
    covered = op.Where(sharp > 0, wide @ columns, exact) >= least
    enough = (count(any_along(covered, ROWS)) >= MOST_PARTS) & (op.ReduceMin(sides, keepdims=0) >= SHORTEST)
    if enough:
        places, thickness, number, inside = lines_through(exact, covered, least, sharp, sides, drawn_first, drawn_last)
    else:
        places = exact < 0
        thickness, number, inside = sharp * 0, sharp * 0, sharp * 0
    return places, thickness, number, inside


@script(default_opset=op)
def sums_of_rows(values, length):
    """The sums (H - length, W) of so many rows, from each but the first on."""
    so_far, height = op.CumSum(values, 0), size(values, axis=0)
    return part(so_far, length, height, ROWS) - part(so_far, length * 0, height - length, ROWS)


@script(default_opset=op)
def opened(mask, length):
    """The pixels of a mask that belong to vertical runs of at least this length."""
    more = op.Concat(op.Unsqueeze(length, [0]), [0], op.Unsqueeze(length, [0]), [0], axis=0)
    whole = sums_of_rows(op.Pad(op.Cast(mask, to=SINGLE), more), length) >= op.Cast(length, to=SINGLE)
    ends = op.Pad(op.Cast(whole, to=SINGLE), [1, 0, 0, 0])  # (H + length + 1, W): runs that end at each row
    return part(sums_of_rows(ends, length), length * 0, size(mask, axis=0), ROWS) > 0


@script(default_opset=op)
def pixels(places, width):
    return op.Gather(places, op.Range(0, width, 1) * PARTS / width, axis=1)


@script(default_opset=op)
def around(places, rows: int):
    """Places, and so many rows above and below."""
    values = op.Unsqueeze(op.Cast(places, to=SINGLE), [0, 1])
    if rows == APART:
        wide = op.MaxPool(values, kernel_shape=[7, 1], pads=[3, 0, 3, 0])
    else:
        wide = op.MaxPool(values, kernel_shape=[5, 1], pads=[2, 0, 2, 0])
    return op.Squeeze(wide, [0, 1]) > 0


@script(default_opset=op)
def removed_of(ink, mask, places, thickness, number, crossing):
    width = size(mask, axis=1)
    columns = parts(width)
    removed = pixels(places, width) & mask & op.Not(opened(mask & op.Not(crossing), thickness + 1))
    along = op.ReduceMax((ink @ columns) * op.Cast(places, to=SINGLE), ROWS, keepdims=0)
    along = along / op.ReduceSum(columns, ROWS, keepdims=0)
    removed = removed & ((ink <= op.ReduceMean(along, keepdims=0) * DARKER) | crossing)
    touching = pixels(around(places, rows=2), width) & mask & op.Not(removed | crossing)
    return removed & ((number >= SEVERAL) | op.Not(any_of(touching)))


@script(default_opset=op)
def lines_if(mask, wanted, drawn_first, drawn_last):
    if wanted:
        places, thickness, number, inside = lines_of(mask, drawn_first, drawn_last)
    else:
        rows = op.Shape(mask, start=0, end=1)
        places = op.Expand(op.Cast(0, to=BOOL), op.Concat(rows, PER_LINE, axis=0))
        none = op.Squeeze(rows) * 0
        thickness, number, inside = op.Identity(none), op.Identity(none), op.Identity(none)
    return places, thickness, number, inside


@script(default_opset=op)
def inner_box(values, box):
    """Of values (H, W) the rows from box[0] to box[2], the columns from box[1] to box[3]."""
    return op.Slice(values, box[:2], box[2:], [0, 1])


@script(default_opset=op)
def lines_taken(ink, mask, box, reaches):
    """Darkness (H, W) and whether there were lines, of a mask that lies in a box and `reaches` sides, bool (4,)."""
    sides = op.Shape(ink)
    top, left, bottom, right = reaches[0], reaches[1], reaches[2], reaches[3]
    upright_through, level_through = top & bottom, left & right
    level_mask = inner_box(mask, box)
    upright_mask = turned(level_mask)
    long = double(box[2:] - box[:2]) >= double(sides) * SPANS
    tall, broad = long[0], long[1]
    open_level, open_upright = op.Not(level_through), op.Not(upright_through)
    level, level_thickness, level_number, level_inside = lines_if(
        level_mask, broad & (level_through | tall), top | open_level, bottom | open_level
    )
    upright, upright_thickness, upright_number, upright_inside = lines_if(
        upright_mask, tall & (upright_through | broad), left | open_upright, right | open_upright
    )
    never = top & op.Not(top)
    if (upright_inside >= SEVERAL) & level_through:
        level, level_thickness, level_number, level_inside = lines_of(level_mask, never, never)
    if (level_inside >= SEVERAL) & upright_through:
        upright, upright_thickness, upright_number, upright_inside = lines_of(upright_mask, never, never)
    height, width = size(level_mask, axis=0), size(level_mask, axis=1)
    level_pixels, upright_pixels = pixels(level, width), pixels(upright, height)
    darkness = inner_box(ink, box)
    removed = removed_of(darkness, level_mask, level, level_thickness, level_number, turned(upright_pixels))
    across = removed_of(
        turned(darkness), upright_mask, upright, upright_thickness, upright_number, turned(level_pixels)
    )
    removed = removed | turned(across)
    rest = level_mask & op.Not(removed)
    outer = op.Concat(box[:2], sides - box[2:], axis=0)
    through = upright_through | level_through
    whole = op.Pad(op.Cast(rest, to=SINGLE), op.Where(through, outer, 0)) > 0
    near = pixels(around(level, rows=APART), width) | turned(pixels(around(upright, rows=APART), height))
    rows, columns = beside(whole)
    most = op.Where((level_inside >= SEVERAL) | (upright_inside >= SEVERAL), LEFT_OVER, ZERO)
    most = most * double(longer_side(whole))
    clear = ((level_number >= MANY) | (rows <= most)) & ((upright_number >= MANY) | (columns <= most))
    framed = (level_number == SEVERAL) & (upright_number == SEVERAL) & op.Not(through)
    good = any_of(removed) & large(rest & op.Not(near), longer_side(whole)) & (framed | clear)
    gone = op.Pad(op.Cast(removed, to=SINGLE), outer) > 0
    return op.Where(gone & good, 0.0, ink), good


@script(default_opset=op)
def without_lines(ink, solid):
    """Darkness (H, W), and whether there were lines, a scalar bool."""
    mask = ink > solid * FAINTEST
    y0, y1 = span(any_along(mask, COLUMNS))
    x0, x1 = span(any_along(mask, ROWS))
    start = op.Concat(op.Unsqueeze(y0, [0]), op.Unsqueeze(x0, [0]), axis=0)
    stop = op.Concat(op.Unsqueeze(y1, [0]), op.Unsqueeze(x1, [0]), axis=0)
    long = double(stop - start) >= double(op.Shape(ink)) * SPANS
    if op.ReduceMax(op.Cast(long, to=SINGLE), keepdims=0) > 0:
        reaches = op.Cast(
            op.Concat(op.Cast(start <= 1, to=INTEGER), op.Cast(stop >= op.Shape(ink) - 1, to=INTEGER), axis=0), to=BOOL
        )
        result, lined = lines_taken(ink, mask, op.Concat(start, stop, axis=0), reaches)
    else:
        result, lined = op.Identity(ink), y0 < 0
    return result, lined
