"""The input contract as an ONNX graph: normalization.py step by step, so that one file takes pictures of any size. Each
onnxscript function bears the name of the function in normalization.py that computes the same, for one picture (H, W).
The graph goes through the pictures one by one, and through the rows of a large one in bands."""

import numpy as np
import onnx
from onnxscript import FLOAT, UINT8, script
from onnxscript import opset18 as op

from images.bands_graph import without_bands
from images.fragments_graph import excess, thinned, without_edge_pieces, without_specks
from images.graph_steps import INTEGER, SINGLE, any_along, as_model, count, double, longer_side, size, span, turned
from images.lines_graph import without_lines
from images.normalization import (
    AROUND,
    CANVAS,
    CONTENT,
    FAINT,
    FLOOR,
    INK,
    NOISE,
    PAPER_GRID,
    REACH,
    ROUNDING,
    SOLID,
    WORKING_SIDE,
)

OLDEST_OPSET = 18
PICTURES = UINT8["pictures", "height", "width", "channels"]
ROWS, COLUMNS = [0], [1]  # axes of a picture
SLOPE, OFFSET = 1 / (1 - FLOOR), FLOOR / (1 - FLOOR)
NOTHING = [0, 1, CANVAS, CANVAS]
BORDER = [AROUND, AROUND, AROUND, AROUND]
ROW_VALUES = 2**21  # of a picture that are looked at at once
LUMINANCE = np.array([[19595], [38470], [7471]], np.float32)  # red, green and blue by ITU-R 601, in 65536ths


@script(default_opset=op)
def resampling_matrix(start, scale, low, high, first, last):
    """Weights float32 (last - first, high - low) for pixels from low on, rows from first on; start, scale float64."""
    radius = op.Max(1 / scale, 1)
    centre = start + (double(op.Range(first, last, 1)) + 0.5) / scale
    pixel = (double(op.Range(low, high, 1)) + 0.5) / radius
    distance = op.Cast(pixel, to=SINGLE) - op.Unsqueeze(op.Cast(centre / radius, to=SINGLE), [1])
    weights = op.Max(1 - op.Abs(distance), 0)
    return weights / op.Max(op.ReduceSum(weights, [1]), op.Cast(radius * 0.5, to=SINGLE))


@script(default_opset=op)
def whole_axis(old, new):
    """The matrix (new, old) that resamples an axis."""
    return resampling_matrix(double(0), double(new) / double(old), old * 0, old, old * 0, new)


@script(default_opset=op)
def shrink(image, height, width):
    """A picture resampled to (height, width)."""
    return whole_axis(size(image, axis=0), height) @ image @ turned(whole_axis(size(image, axis=1), width))


@script(default_opset=op)
def scaled(length, longer, side):
    """A side of this length, at least 1, once the longer side is as long as `side`."""
    return op.Cast(op.Max(op.Round(double(length * side) / double(longer)), 1), to=INTEGER)


@script(default_opset=op)
def solid_level(ink):
    """A scalar."""
    mean = op.ReduceSum(ink * ink, keepdims=0) / op.Max(op.ReduceSum(ink, keepdims=0), 1e-6)
    return op.Max(mean / SOLID, 1e-6)


@script(default_opset=op)
def axis_matrix(low, high, scale, length):
    """The matrix (64, length) that places the span (low, high) of one axis in the middle of the canvas."""
    start = (double(low + high) - CANVAS / scale) / 2
    pixel = op.Range(0, length, 1)
    near = (pixel >= low - 2) & (pixel < high + 2) & (high > low)
    return resampling_matrix(start, scale, low * 0, length, low * 0, low * 0 + CANVAS) * op.Cast(near, to=SINGLE)


@script(default_opset=op)
def place(ink, lined):
    """Darkness float32 (H, W), paper 0, any scale, to the contract (64, 64)."""
    level = solid_level(ink)
    dark = ink > level * INK
    clean = without_edge_pieces(without_specks(dark), lined)
    whole = op.Where(op.Xor(dark, clean), 0.0, ink)
    more = excess(clean)
    if more > 0:
        inner = thinned(whole, clean, more)
        mask = inner > level * INK
    else:
        inner, mask = op.Identity(whole), op.Identity(clean)
    y0, y1 = span(any_along(mask, COLUMNS))
    x0, x1 = span(any_along(mask, ROWS))
    scale = CONTENT / double(op.Max(y1 - y0, x1 - x0, 1))
    rows, columns = axis_matrix(y0, y1, scale, size(ink, axis=0)), axis_matrix(x0, x1, scale, size(ink, axis=1))
    placed = rows @ op.Clip(inner * (SLOPE / level) - OFFSET, 0, 1) @ turned(columns)
    return op.Min(placed / solid_level(placed), 1)


@script(default_opset=op)
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


@script(default_opset=op)
def dilation(cells, low, high):
    """The highest of the cells (h, w) within REACH of each; beyond the edges they lie between low and high."""
    rows, columns = extension_matrix(size(cells, axis=0)), extension_matrix(size(cells, axis=1))
    extended = op.Max(op.Min(rows @ cells @ turned(columns), high), low)
    highest = op.MaxPool(op.Unsqueeze(extended, [0, 1]), kernel_shape=[2 * REACH + 1, 1])
    return op.Squeeze(op.MaxPool(highest, kernel_shape=[1, 2 * REACH + 1]), [0, 1])


@script(default_opset=op)
def noise_of(grey):
    """A scalar: the median difference between neighbours in a row; the first of a row counts as 0."""
    steps = op.Reshape(op.Pad(op.Abs(grey[:, 1:] - grey[:, :-1]), [0, 1, 0, 0]), [-1])
    length = size(steps, axis=0)
    if count(steps < ROUNDING) > double(length / 2):
        noise = op.ReduceSum(steps[:1], keepdims=0) * 0.0  # TopK is slow to part so many equal values
    else:
        lower, _ = op.TopK(steps, op.Reshape(length / 2 + 1, [1]), axis=0, largest=0, sorted=0)
        middle, _ = op.TopK(lower, op.Reshape(2 - length % 2, [1]), axis=0)
        noise = op.ReduceMean(middle, keepdims=0)
    return noise


@script(default_opset=op)
def is_light_on_dark(grey, cells):
    wide = op.Unsqueeze(op.Pad(cells, BORDER, mode="edge"), [0, 1])
    means = op.AveragePool(op.AveragePool(wide, kernel_shape=[2 * AROUND + 1, 1]), kernel_shape=[1, 2 * AROUND + 1])
    means = op.Squeeze(means, [0, 1])
    some = grey[::2, ::2]
    y = op.Range(0, size(some, axis=0), 1) * size(cells, axis=0) / size(some, axis=0)
    x = op.Range(0, size(some, axis=1), 1) * size(cells, axis=1) / size(some, axis=1)
    thick, thin = cells - means, some - op.Gather(op.Gather(means, y, axis=0), x, axis=1)
    return op.ReduceMean(thick * thick * thick, keepdims=0) + op.ReduceMean(thin * thin * thin, keepdims=0) > 0


@script(default_opset=op)
def ink_of(grey):
    """Grey float32 (H, W), 0 to 255, of at most 256 pixels a side, to darkness, 0 to 1."""
    height, width, longer = size(grey, axis=0), size(grey, axis=1), longer_side(grey)
    plain = without_bands(grey)
    cells = shrink(plain, scaled(height, longer, PAPER_GRID), scaled(width, longer, PAPER_GRID))
    light_ink = is_light_on_dark(plain, cells)
    working, cells = op.Where(light_ink, 255.0 - plain, plain), op.Where(light_ink, 255.0 - cells, cells)
    low, high = op.ReduceMin(cells, keepdims=0), op.ReduceMax(cells, keepdims=0)
    closing = -dilation(-dilation(cells, low, high), -high, -low)
    paper = shrink(closing, height, width)
    ink = op.Max(paper - working, 0)
    darkest = op.ReduceMax(ink, keepdims=0)
    noise = op.Min(noise_of(working) * NOISE, darkest * 0.35)
    return op.Where((ink >= noise) & (darkest >= FAINT), ink / op.Max(paper, 1), 0.0)


@script(default_opset=op)
def rows_of(images, number, first, last):
    """Some rows of one of the pictures uint8 (n, H, W, C), float32 (rows, W, C)."""
    start = op.Concat(op.Unsqueeze(number, [0]), op.Unsqueeze(first, [0]), axis=0)
    stop = op.Concat(op.Unsqueeze(number + 1, [0]), op.Unsqueeze(last, [0]), axis=0)
    return op.Cast(op.Squeeze(op.Slice(images, start, stop, [0, 1]), [0]), to=SINGLE)


@script(default_opset=op)
def rows_at_once(images):
    """So many of a picture's rows, at least one, that they hold no more than ROW_VALUES."""
    return op.Max(ROW_VALUES / (size(images, axis=2) * size(images, axis=3)), 1)


@script(default_opset=op)
def ground(images, number):
    """What is under the transparent parts of a picture, 255 or 0: white, or black under light ink."""
    height, channels = size(images, axis=1), size(images, axis=3)
    rows, light, opacity = rows_at_once(images), double(height * 0), double(height * 0)
    for step in range(op.Where(channels % 2 == 0, (height + rows - 1) / rows, 0)):
        values = rows_of(images, number, step * rows, op.Min(step * rows + rows, height))
        opaque = values[:, :, -1:]
        colour = op.ReduceMean(values[:, :, :-1], [2], keepdims=1)
        light = light + double(op.ReduceSum(colour * opaque, keepdims=0))
        opacity = opacity + double(op.ReduceSum(opaque, keepdims=0))
    pixels = double(height * size(images, axis=2))
    black = (light > op.Max(opacity, 1.0) * 128.0) & (opacity < pixels * 128.0)
    return op.Where(black, 0.0, 255.0)


@script(default_opset=op)
def grey_of(values, under):
    """Pictures float32 (H, W, C), on this ground, to grey (H, W), to the last bit as read_grey and Pillow make it."""
    channels = size(values, axis=2)
    if channels % 2 == 0:
        opacity = values[:, :, -1:]
        mixed = values[:, :, :-1] * opacity + (255 - opacity) * under + 128
        colour = op.Floor((mixed * 128 + op.Floor(mixed / 2)) / 32768)  # as Pillow rounds, in integers below 2 ** 24
    else:
        colour = op.Identity(values)
    if channels >= 3:
        light = colour @ LUMINANCE + 32768
        grey = op.Floor(light / 65536)
    else:
        grey = op.Identity(colour)
    return op.Squeeze(grey, [2])


@script(default_opset=op)
def working_grey(images, number):
    """One of the pictures uint8 (n, H, W, C), grey float32 (h, w), the longer side at most 256."""
    height, width, under = size(images, axis=1), size(images, axis=2), ground(images, number)
    longer = op.Max(height, width)
    if longer > WORKING_SIDE:
        new_height, new_width = scaled(height, longer, WORKING_SIDE), scaled(width, longer, WORKING_SIDE)
        columns = turned(whole_axis(width, new_width))
        scale = double(new_height) / double(height)
        band = op.Max(op.Cast(double(rows_at_once(images)) * scale, to=INTEGER), 1)
        result = columns[:0]
        for step in range((new_height + band - 1) / band):
            first, last = step * band, op.Min(step * band + band, new_height)
            reach = op.Max(1 / scale, 1) + 1
            low = op.Max(op.Cast(double(first) / scale - reach, to=INTEGER), 0)
            high = op.Min(op.Cast(double(last) / scale + reach, to=INTEGER) + 1, height)
            rows = resampling_matrix(double(low * 0), scale, low, high, first, last)
            shrunk = rows @ grey_of(rows_of(images, number, low, high), under) @ columns
            result = op.Concat(result, shrunk, axis=0)
    else:
        result = grey_of(rows_of(images, number, number * 0, height), under)
    return result


@script(default_opset=op)
def normalize(image):
    """Pictures uint8 (n, H, W, C) to the contract, float32 (n, 1, 64, 64)."""
    made = op.ConstantOfShape(NOTHING)
    for number in range(size(image, axis=0)):
        ink = ink_of(working_grey(image, number))
        clean, lined = without_lines(ink, solid_level(ink))
        made = op.Concat(made, op.Unsqueeze(place(clean, lined), [0, 1]), axis=0)
    return made


def normalization_model(opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    """The normalisation alone, `image` to `input_image`; newer opsets have its operators as opset 18 has them."""
    model = as_model(normalize, [PICTURES], [FLOAT["pictures", 1, CANVAS, CANVAS]])
    model.opset_import[0].version = opset
    onnx.checker.check_model(model, full_check=True)
    return model
