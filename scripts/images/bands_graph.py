"""bands.py as an ONNX graph, step by step, for one picture (H, W): onnxscript functions with the same names."""

import numpy as np
from onnxscript import opset18 as op
from onnxscript import script

from images import bands
from images.bands import DIFFERENT, SHORTEST
from images.graph_steps import INTEGER, count, double, longer_side, part, size, turned
from images.lines_graph import beside, large

WOBBLE, FINEST, DEEPEST = np.float64(bands.WOBBLE), np.float64(bands.FINEST), np.float64(bands.DEEPEST)
FULL, FITTING, CROWDED = np.float64(bands.FULL), np.float64(bands.FITTING), np.float64(bands.CROWDED)
ROWS = [0]  # an axis


@script(default_opset=op)
def upper_median(values):
    """A scalar, of values (L,)."""
    half = size(values, axis=0) / 2
    lower, _ = op.TopK(values, op.Reshape(half + 1, [1]), axis=0, largest=0)
    return op.Gather(lower, half)


@script(default_opset=op)
def paper_level(grey):
    sides = op.Shape(grey)
    middle = op.Slice(grey, sides / 4, sides - sides / 4, [0, 1], [4, 4])
    return upper_median(op.Reshape(middle, [-1]))


@script(default_opset=op)
def band(outside):
    """Where a band along the top lies, bool (H, W); whether there is one, whether nothing touches it, float64."""
    height, width = size(outside, axis=0), size(outside, axis=1)
    most = op.Max(op.Cast(DEEPEST * double(height), to=INTEGER), 1)
    third = (width + 2) / 3
    corner = third / 2
    tolerance = op.Max(FINEST, WOBBLE * double(op.Max(height, width)))
    row, column = op.Unsqueeze(op.Range(0, height, 1), [1]), op.Range(0, width, 1)
    depth = op.Min(op.ReduceMin(op.Where(outside, height, row), ROWS, keepdims=0), most)
    middle, length = part(depth, corner, width - corner, ROWS), width - corner * 2
    left = double(upper_median(part(middle, corner * 0, third, ROWS)))
    right = double(upper_median(part(middle, length - third, length, ROWS)))
    slope = (right - left) / double(op.Max(length - third, 1))
    fit = left + slope * (double(column - corner) - double(third - 1) * 0.5)
    fitting = count(part(op.Abs(double(depth) - fit) <= tolerance, corner, width - corner, ROWS))
    full = count(op.Gather(outside, 0, axis=0)) >= FULL * double(width)
    found = full & (op.Max(left, right) < double(most)) & (fitting >= FITTING * double(length))
    filled = double(row) < op.Ceil(fit + tolerance) + 1.0
    return filled & found, double(found), double(found & (fitting >= double(length)))


@script(default_opset=op)
def with_paper_for_bands(grey, paper, outside):
    across = turned(outside)
    top, has_top, free_top = band(outside)
    right, has_right, free_right = band(across[::-1])
    bottom, has_bottom, free_bottom = band(outside[::-1, ::-1])
    left, has_left, free_left = band(across[:, ::-1])
    inside = op.Not(top | bottom[::-1, ::-1] | turned(right[::-1]) | turned(left[:, ::-1]))
    rest = outside & inside
    rows, columns = beside(rest)
    opposite = (has_top * has_bottom + has_left * has_right) > 0.0
    free = free_top + free_right + free_bottom + free_left
    found = has_top + has_right + has_bottom + has_left
    good = (found > 1.0) | (free > 0.0)
    good = good & (count(rest) <= CROWDED * count(inside)) & large(rest, longer_side(rest))
    good = good & (opposite | (rows + columns <= 0.0))
    return op.Where(inside | op.Not(good), grey, paper)


@script(default_opset=op)
def without_bands(grey):
    height, width = size(grey, axis=0), size(grey, axis=1)
    paper = paper_level(grey)
    least = op.Max(op.ReduceMax(grey, keepdims=0) - paper, paper - op.ReduceMin(grey, keepdims=0)) * DIFFERENT
    outside = op.Abs(grey - paper) > least
    rows = op.Max(count(op.Gather(outside, 0, axis=0)), count(op.Gather(outside, height - 1, axis=0)))
    columns = op.Max(count(op.Gather(outside, 0, axis=1)), count(op.Gather(outside, width - 1, axis=1)))
    full = (rows >= FULL * double(width)) | (columns >= FULL * double(height))
    if full & (op.Min(height, width) >= SHORTEST):
        result = with_paper_for_bands(grey, paper, outside)
    else:
        result = op.Identity(grey)
    return result
