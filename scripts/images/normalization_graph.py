"""The input contract as an ONNX graph: normalization.py step by step, so that one file takes pictures of any size. Each
onnxscript function bears the name of the function in normalization.py that computes the same, here for all pictures at
once. Sizes are int64 scalars that are known only when the graph runs; geometry is float64, as in numpy."""

import numpy as np
import onnx
from onnx import TensorProto, inliner
from onnxscript import FLOAT, UINT8, OnnxFunction, optimizer, script
from onnxscript import opset18 as op

from images import normalization
from images.normalization import CANVAS, CONTENT, FAINT, FLOOR, INK, NOISE, PAPER_GRID, REACH, SOLID, WORKING_SIDE

OLDEST_OPSET, IR_VERSION = 18, 8  # the second came with the first
PICTURES = UINT8["pictures", "height", "width", "channels"]
SINGLE, DOUBLE, INTEGER = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
ROWS, COLUMNS, BOTH = [1], [2], [1, 2]  # axes of pictures (n, H, W)
# A float of Python is a float32 in the graph, one of numpy a float64.
SPECK, GAP, MARGIN = np.float64(normalization.SPECK), np.float64(normalization.GAP), np.float64(normalization.MARGIN)
BAND, REST = np.float64(normalization.EDGE_BAND), np.float64(normalization.REST)
REST_OF_BAND, SLOPE, OFFSET = 1 - BAND, 1 / (1 - FLOOR), FLOOR / (1 - FLOOR)
AROUND = normalization.AROUND
BORDER = [0, AROUND, AROUND, 0, AROUND, AROUND]
LUMINANCE = np.array([[19595], [38470], [7471]], np.float32)  # red, green and blue by ITU-R 601, in 65536ths


@script()
def size(values, axis: int):
    """The length of an axis, a scalar int64."""
    return op.Gather(op.Shape(values), axis)


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
    old_height, old_width, start = size(image, axis=1), size(image, axis=2), double([0])
    rows = resampling_matrix(start, op.Unsqueeze(double(height) / double(old_height), [0]), old_height, height)
    columns = resampling_matrix(start, op.Unsqueeze(double(width) / double(old_width), [0]), old_width, width)
    return rows @ image @ op.Transpose(columns, perm=[0, 2, 1])


@script()
def scaled(length, longer, side):
    """A side of this length, at least 1, once the longer side is as long as `side`."""
    return op.Cast(op.Max(op.Round(double(length * side) / double(longer)), 1), to=INTEGER)


@script()
def solid_level(ink):
    """(n, 1, 1)."""
    mean = op.ReduceSum(ink * ink, BOTH) / op.Max(op.ReduceSum(ink, BOTH), 1e-6)
    return op.Max(mean / SOLID, 1e-6)


@script()
def without_specks(mask):
    steps = count(op.Xor(mask[:, 1:], mask[:, :-1])) + count(op.Xor(mask[:, :, 1:], mask[:, :, :-1]))
    pen_width = double(count(mask)) * 2.5 / op.Max(double(steps), 1)
    reach = op.Max(rounded(SPECK, longer_side(mask)), 2)
    least = op.Cast(op.Min(pen_width * pen_width * 0.5 + 1, double(reach) * pen_width * 0.5), to=INTEGER)
    # normalization.py counts in the smallest integers that hold a full window: a larger threshold wraps around.
    least = least % op.Where(reach < 8, 256, 65536)
    # Sums over windows, exact: products with matrices that are 1 within reach of the diagonal.
    y, x = op.Range(0, size(mask, axis=1), 1), op.Range(0, size(mask, axis=2), 1)
    rows = op.Cast(op.Abs(op.Unsqueeze(y, [1]) - y) <= reach, to=SINGLE)
    columns = op.Cast(op.Abs(op.Unsqueeze(x, [1]) - x) <= reach, to=SINGLE)
    return mask & (rows @ op.Cast(mask, to=SINGLE) @ columns > op.Cast(least, to=SINGLE))


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
    """float32 (length + 2 REACH, length): np.pad(…, mode="reflect", reflect_type="odd") as a matrix. Each period, from
    end to end, is as much higher than the one before as the ends differ; every other one is turned."""
    span = op.Max(length - 1, 1)
    line, place = op.Range(0, length, 1), op.Unsqueeze(op.Range(0, length + 2 * REACH, 1) - REACH, [1])
    period = (place - place % span) / span
    turned = period % 2
    at_source = op.Cast(line == op.Min(op.Abs(turned * span - place % span), length - 1), to=INTEGER)
    at_first, at_last = op.Cast(line == 0, to=INTEGER), op.Cast(line == length - 1, to=INTEGER)
    matrix = (1 - 2 * turned) * at_source + (turned + period) * at_last + (turned - period) * at_first
    return op.Cast(matrix, to=SINGLE)


@script()
def dilation(cells, low, high):
    """The highest of the cells (n, h, w) within REACH of each; beyond the edges they lie between low and high."""
    rows, columns = extension_matrix(size(cells, axis=1)), extension_matrix(size(cells, axis=2))
    extended = op.Max(op.Min(rows @ cells @ op.Transpose(columns, perm=[1, 0]), high), low)
    highest = op.MaxPool(op.Unsqueeze(extended, [1]), kernel_shape=[2 * REACH + 1, 1])
    return op.Squeeze(op.MaxPool(highest, kernel_shape=[1, 2 * REACH + 1]), [1])


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
    height, width, longer = size(grey, axis=1), size(grey, axis=2), longer_side(grey)
    if longer > WORKING_SIDE:
        working = shrink(grey, scaled(height, longer, WORKING_SIDE), scaled(width, longer, WORKING_SIDE))
    else:
        working = op.Identity(grey)
    cells = shrink(working, scaled(height, longer, PAPER_GRID), scaled(width, longer, PAPER_GRID))
    wide = op.Unsqueeze(op.Pad(cells, BORDER, mode="edge"), [1])
    means = op.AveragePool(op.AveragePool(wide, kernel_shape=[2 * AROUND + 1, 1]), kernel_shape=[1, 2 * AROUND + 1])
    difference = cells - op.Squeeze(means, [1])
    light_ink = op.ReduceSum(difference * difference * difference, BOTH) > 0
    working, cells = op.Where(light_ink, 255 - working, working), op.Where(light_ink, 255 - cells, cells)
    low, high = op.ReduceMin(cells, BOTH), op.ReduceMax(cells, BOTH)
    closing = -dilation(-dilation(cells, low, high), -high, -low)
    paper = shrink(closing, size(working, axis=1), size(working, axis=2))
    ink = op.Max(paper - working, 0)
    darkest = op.ReduceMax(ink, BOTH)
    noise = op.Min(noise_of(working) * NOISE, darkest * 0.35)
    return op.Where((ink >= noise) & (darkest >= FAINT), ink / op.Max(paper, 1), 0)


@script()
def grey_of(image):
    """Pictures uint8 (n, H, W, C) to grey float32 (n, H, W), to the last bit as read_grey and Pillow make it."""
    channels, values = size(image, axis=3), op.Cast(image, to=SINGLE)
    if channels % 2 == 0:  # what is transparent goes on white, or on black under light ink
        colour, opacity = values[:, :, :, :-1], values[:, :, :, -1:]
        light = op.ReduceSum(op.ReduceMean(colour, [3]) * opacity, [1, 2]) / op.Max(op.ReduceSum(opacity, [1, 2]), 1)
        black = (light > 128) & (op.ReduceMean(opacity, [1, 2]) < 128)
        mixed = colour * opacity + (255 - opacity) * op.Where(black, 0.0, 255.0) + 128
        colour = op.Floor((mixed * 128 + op.Floor(mixed / 2)) / 32768)  # as Pillow rounds, in integers below 2 ** 24
    else:
        colour = op.Identity(values)
    if channels >= 3:
        light = colour @ LUMINANCE + 32768
        grey = op.Floor(light / 65536)
    else:
        grey = op.Identity(colour)
    return op.Squeeze(grey, [3])


@script()
def normalize(image):
    """Pictures uint8 (n, H, W, C) to the contract, float32 (n, 1, 64, 64)."""
    return op.Unsqueeze(place(ink_of(grey_of(image))), [1])


def as_model(function: OnnxFunction, input_types: list, output_types: list) -> onnx.ModelProto:
    """A graph of the function and of all that it calls, in opset 18."""
    model = function.to_model_proto(ir_version=IR_VERSION, input_types=input_types, output_types=output_types)
    model = optimizer.optimize(inliner.inline_local_functions(model))
    del model.graph.value_info[:]
    return model


def normalization_model(opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    """The normalisation alone, `image` to `input_image`; newer opsets have its operators as opset 18 has them."""
    model = as_model(normalize, [PICTURES], [FLOAT["pictures", 1, CANVAS, CANVAS]])
    model.opset_import[0].version = opset
    onnx.checker.check_model(model, full_check=True)
    return model
