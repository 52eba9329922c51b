"""The input contract as an ONNX graph: normalization.py step by step, so that one file takes pictures of any size.

Each onnxscript function bears the name of the function in normalization.py that computes the same, here for all
pictures at once. Sizes are int64 scalars that are known only when the graph runs; geometry is float64, as in numpy.
"""

import numpy as np
import onnx
from onnx import TensorProto, inliner
from onnxscript import FLOAT, UINT8, OnnxFunction, optimizer, script
from onnxscript import opset18 as op

from images import normalization
from images.normalization import CANVAS, CONTENT, FAINT, FLOOR, INK, NOISE, PAPER_GRID, SOLID, WORKING_SIDE
from images.reading_graph import grey_of, size

IR_VERSION = 8  # what opset 18 came with
OLDEST_OPSET = 18
PICTURES, IMAGES = UINT8["pictures", "height", "width", "channels"], FLOAT["pictures", 1, CANVAS, CANVAS]
SINGLE, DOUBLE, INTEGER = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
ROWS, COLUMNS, BOTH = [1], [2], [1, 2]  # axes of pictures (n, H, W)
# A float of Python is a float32 in the graph, one of numpy a float64.
SPECK, GAP, MARGIN = np.float64(normalization.SPECK), np.float64(normalization.GAP), np.float64(normalization.MARGIN)
BAND, REST_OF_BAND = np.float64(normalization.EDGE_BAND), np.float64(1 - normalization.EDGE_BAND)
REST = np.float64(normalization.REST)
SLOPE, OFFSET = 1 / (1 - FLOOR), FLOOR / (1 - FLOOR)
REACH = PAPER_GRID // 8  # of the closing that leaves the paper, in cells
AROUND = PAPER_GRID // 4  # of the mean that shows the ink's polarity, in cells
BORDER = [0, AROUND, AROUND, 0, AROUND, AROUND]


@script()
def double(values):
    return op.Cast(values, to=DOUBLE)


@script()
def longer_side(picture):
    return op.Max(size(picture, axis=1), size(picture, axis=2))


@script()
def rounded(share, length):
    """The whole number nearest to a float64 share of a length."""
    return op.Cast(op.Round(share * double(length)), to=INTEGER)


@script()
def count(mask):
    """float32 (n, 1, 1), exact."""
    return op.ReduceSum(op.Cast(mask, to=SINGLE), BOTH)


@script()
def any_along(mask, axis):
    """bool (n, L): which lines of a mask (n, H, W), seen along one axis, hold anything."""
    return op.ReduceMax(op.Cast(mask, to=SINGLE), axis, keepdims=0) > 0


@script()
def resampling_matrix(start, scale, size_in, size_out):
    """Weights float32 (n, size_out, size_in) of start and scale float64 (n,)."""
    scale = op.Unsqueeze(scale, [1])
    radius = op.Max(1 / scale, 1)
    centre = op.Unsqueeze(start, [1]) + (double(op.Range(0, size_out, 1)) + 0.5) / scale
    pixel = (double(op.Range(0, size_in, 1)) + 0.5) / radius
    distance = op.Unsqueeze(op.Cast(pixel, to=SINGLE), [1]) - op.Unsqueeze(op.Cast(centre / radius, to=SINGLE), [2])
    weights = op.Max(1 - op.Abs(distance), 0)
    return weights / op.Max(op.ReduceSum(weights, [2]), op.Unsqueeze(op.Cast(radius * 0.5, to=SINGLE), [2]))


@script()
def shrink(image, height, width):
    """Pictures (n, H, W) resampled to (n, height, width)."""
    scale_y = op.Unsqueeze(double(height) / double(size(image, axis=1)), [0])
    scale_x = op.Unsqueeze(double(width) / double(size(image, axis=2)), [0])
    rows = resampling_matrix(scale_y * 0, scale_y, size(image, axis=1), height)
    columns = resampling_matrix(scale_x * 0, scale_x, size(image, axis=2), width)
    return rows @ image @ op.Transpose(columns, perm=[0, 2, 1])


@script()
def scaled_size(picture, longer):
    """Height and width at which the longer side has this length, at least 1."""
    height = op.Round(double(size(picture, axis=1) * longer) / double(longer_side(picture)))
    width = op.Round(double(size(picture, axis=2) * longer) / double(longer_side(picture)))
    return op.Cast(op.Max(height, 1), to=INTEGER), op.Cast(op.Max(width, 1), to=INTEGER)


@script()
def solid_level(ink):
    """(n, 1, 1)."""
    mean = op.ReduceSum(ink * ink, BOTH) / op.Max(op.ReduceSum(ink, BOTH), 1e-6)
    return op.Max(mean / SOLID, 1e-6)


@script()
def box_sum(mask, reach):
    """float32 (n, H, W), exact: products with matrices that are 1 within reach of the diagonal."""
    y, x = op.Range(0, size(mask, axis=1), 1), op.Range(0, size(mask, axis=2), 1)
    rows = op.Cast(op.Abs(op.Unsqueeze(y, [1]) - y) <= reach, to=SINGLE)
    columns = op.Cast(op.Abs(op.Unsqueeze(x, [1]) - x) <= reach, to=SINGLE)
    return rows @ op.Cast(mask, to=SINGLE) @ columns


@script()
def without_specks(mask):
    steps = count(op.Xor(mask[:, 1:], mask[:, :-1])) + count(op.Xor(mask[:, :, 1:], mask[:, :, :-1]))
    pen_width = double(count(mask)) * 2.5 / op.Max(double(steps), 1)
    reach = op.Max(rounded(SPECK, longer_side(mask)), 2)
    least = op.Cast(op.Min(pen_width * pen_width * 0.5 + 1, double(reach) * pen_width * 0.5), to=INTEGER)
    # normalization.py counts in the smallest integers that hold a full window: a larger threshold wraps around.
    window = reach + reach + 1
    least = least % op.Where(window * window < 256, 256, 65536)
    return mask & (box_sum(mask, reach) > op.Cast(least, to=SINGLE))


@script()
def fragment_end(has_ink, at_edge):
    """int64 (n, 1) of profiles bool (n, L)."""
    length = size(has_ink, axis=1)
    gap = op.Min(op.Max(rounded(GAP, length), 2), length)
    line = op.Range(0, length, 1)
    ink_so_far = op.CumSum(op.Cast(has_ink, to=SINGLE), 1)
    edge_so_far = op.CumSum(op.Cast(has_ink & at_edge, to=SINGLE), 1)
    ink_in_gap = op.Gather(ink_so_far, op.Min(line + gap, length - 1), axis=1) - ink_so_far
    in_band = line < op.Min(rounded(BAND, length), length - gap)
    ends = has_ink & (ink_in_gap <= 0) & (edge_so_far > 0) & in_band
    return op.ReduceMax(op.Where(ends, line + 1, 0), [1])


@script()
def between_fragments(has_ink, at_edge):
    """bool (n, L)."""
    length = size(has_ink, axis=1)
    line = op.Range(0, length, 1)
    end = length - fragment_end(has_ink[:, ::-1], at_edge[:, ::-1])
    return (line >= fragment_end(has_ink, at_edge)) & (line < end)


@script()
def without_edge_fragments(mask):
    height, width = size(mask, axis=1), size(mask, axis=2)
    margin = op.Max(rounded(MARGIN, longer_side(mask)), 1)
    y, x = op.Unsqueeze(op.Range(0, height, 1), [1]), op.Range(0, width, 1)
    edge = (y < margin) | (y >= height - margin) | (x < margin) | (x >= width - margin)
    middle = (y >= rounded(BAND, height)) & (y < rounded(REST_OF_BAND, height))
    columns = between_fragments(any_along(mask & middle, ROWS), any_along(mask & edge, ROWS))
    rest = mask & op.Unsqueeze(columns, ROWS)
    rows = between_fragments(any_along(rest, COLUMNS), any_along(rest & edge, COLUMNS))
    rest = rest & op.Unsqueeze(rows, COLUMNS)
    enough = double(count(rest)) > double(count(mask)) * REST
    kept_whole = op.Not(enough) | (count(rest & edge) > 0)
    return rest | (mask & kept_whole)


@script()
def ink_span(profile):
    """First and one-past-last True of profiles bool (n, L), int64 (n,); (0, 0) where there is none."""
    length = size(profile, axis=1)
    line = op.Range(0, length, 1)
    end = op.ReduceMax(op.Where(profile, line + 1, 0), [1], keepdims=0)
    first = length - op.ReduceMax(op.Where(profile, length - line, 0), [1], keepdims=0)
    return op.Where(end > 0, first, 0), end


@script()
def axis_matrix(low, high, scale, length):
    """The matrix (n, 64, length) that places the span (low, high) of one axis in the middle of the canvas."""
    start = (double(low + high) - CANVAS / scale) / 2
    pixel, low, high = op.Range(0, length, 1), op.Unsqueeze(low, [1]), op.Unsqueeze(high, [1])
    near = (pixel >= low - 2) & (pixel < high + 2) & (high > low)
    return resampling_matrix(start, scale, length, CANVAS) * op.Unsqueeze(op.Cast(near, to=SINGLE), [1])


@script()
def place(ink):
    """Darkness float32 (n, H, W), paper 0, any scale, to the contract (n, 64, 64)."""
    level = solid_level(ink)
    dark = ink > level * INK
    mask = without_edge_fragments(without_specks(dark))
    y0, y1 = ink_span(any_along(mask, COLUMNS))
    x0, x1 = ink_span(any_along(mask, ROWS))
    scale = CONTENT / double(op.Max(y1 - y0, x1 - x0, 1))
    rows, columns = axis_matrix(y0, y1, scale, size(ink, axis=1)), axis_matrix(x0, x1, scale, size(ink, axis=2))
    solid = op.Clip(ink * (SLOPE / level) - OFFSET, 0, 1)
    placed = rows @ op.Where(op.Xor(dark, mask), 0, solid) @ op.Transpose(columns, perm=[0, 2, 1])
    return op.Min(placed / solid_level(placed), 1)


@script()
def extension_matrix(length):
    """float32 (length + 2 REACH, length): np.pad(…, mode="reflect", reflect_type="odd") as a matrix.

    In periods of twice the span between the ends, each higher than the one before by twice the ends' difference.
    """
    span = op.Max(length - 1, 1)
    place = op.Range(0, length + 2 * REACH, 1) - REACH
    within = place % (span + span)
    falls = within > span
    source = op.Min(op.Where(falls, span + span - within, within), length - 1)
    falling = op.Unsqueeze(op.Cast(falls, to=SINGLE), [1])
    periods = op.Unsqueeze(op.Cast((place - within) / span, to=SINGLE), [1])
    line = op.Range(0, length, 1)
    at_source = op.Cast(op.Unsqueeze(source, [1]) == line, to=SINGLE)
    at_first, at_last = op.Cast(line == 0, to=SINGLE), op.Cast(line == length - 1, to=SINGLE)
    return (1 - 2 * falling) * at_source + (periods + 2 * falling) * at_last - periods * at_first


@script()
def dilation(cells, low, high):
    """The highest of the cells (n, h, w) within REACH of each; beyond the edges they lie between low and high."""
    rows, columns = extension_matrix(size(cells, axis=1)), extension_matrix(size(cells, axis=2))
    extended = op.Max(op.Min(rows @ cells @ op.Transpose(columns, perm=[1, 0]), high), low)
    highest = op.MaxPool(op.Unsqueeze(extended, [1]), kernel_shape=[2 * REACH + 1, 1])
    return op.Squeeze(op.MaxPool(highest, kernel_shape=[1, 2 * REACH + 1]), [1])


@script()
def paper_of(cells):
    """The grey closing of cells (n, h, w): what is lowest around each of what is highest around each."""
    low, high = op.ReduceMin(cells, BOTH), op.ReduceMax(cells, BOTH)
    return -dilation(-dilation(cells, low, high), -high, -low)


@script()
def is_light_on_dark(cells):
    """bool (n, 1, 1)."""
    wide = op.Unsqueeze(op.Pad(cells, BORDER, mode="edge"), [1])
    rows = op.AveragePool(wide, kernel_shape=[2 * AROUND + 1, 1])
    difference = cells - op.Squeeze(op.AveragePool(rows, kernel_shape=[1, 2 * AROUND + 1]), [1])
    return op.ReduceSum(difference * difference * difference, BOTH) > 0


@script()
def noise_of(grey):
    """(n, 1, 1): the median difference between neighbours in a row; the first of a row counts as 0."""
    steps = op.Reshape(op.Pad(op.Abs(grey[:, :, 1:] - grey[:, :, :-1]), [0, 0, 1, 0, 0, 0]), [0, -1])
    length = size(steps, axis=1)
    lower, _ = op.TopK(steps, op.Reshape(length / 2 + 1, [1]), axis=1, largest=0, sorted=0)
    middle, _ = op.TopK(lower, op.Reshape(2 - length % 2, [1]), axis=1)
    return op.Unsqueeze(op.ReduceMean(middle, [1]), [2])


@script()
def ink_of(grey):
    """Grey float32 (n, H, W), 0 to 255, to darkness (n, h, w), 0 to 1, of at most 256 pixels a side."""
    grid_height, grid_width = scaled_size(grey, PAPER_GRID)
    if longer_side(grey) > WORKING_SIDE:
        height, width = scaled_size(grey, WORKING_SIDE)
        working = shrink(grey, height, width)
    else:
        working = op.Identity(grey)
    cells = shrink(working, grid_height, grid_width)
    light_ink = is_light_on_dark(cells)
    working, cells = op.Where(light_ink, 255 - working, working), op.Where(light_ink, 255 - cells, cells)
    paper = shrink(paper_of(cells), size(working, axis=1), size(working, axis=2))
    ink = op.Max(paper - working, 0)
    darkest = op.ReduceMax(ink, BOTH)
    noise = op.Min(noise_of(working) * NOISE, darkest * 0.35)
    return op.Where((ink >= noise) & (darkest >= FAINT), ink / op.Max(paper, 1), 0)


@script()
def normalize(image):
    """Pictures uint8 (n, H, W, C) to the contract, float32 (n, 1, 64, 64)."""
    return op.Unsqueeze(place(ink_of(grey_of(image))), [1])


def as_model(function: OnnxFunction, input_types: list, output_types: list) -> onnx.ModelProto:
    """A graph of the function and of all that it calls, in opset 18."""
    types = {"input_types": input_types, "output_types": output_types}
    model = inliner.inline_local_functions(function.to_model_proto(ir_version=IR_VERSION, **types))
    model = optimizer.optimize(model)
    del model.graph.value_info[:]
    return model


def normalization_model(opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    """The normalisation alone: `image` uint8 (N, H, W, C) to `input_image` float32 (N, 1, 64, 64).

    Newer opsets have its operators as opset 18 has them.
    """
    model = as_model(normalize, [PICTURES], [IMAGES])
    model.opset_import[0].version = opset
    onnx.checker.check_model(model, full_check=True)
    return model
