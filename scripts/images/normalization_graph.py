"""The input contract as an ONNX graph: normalization.py step by step, so that one file takes pictures of any size.

Functions here bear the names of those in normalization.py and compute the same, for all pictures at once. Sizes are
int64 scalars that are known only when the graph runs; geometry is float64, as numpy has it.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from images.normalization import CANVAS, CONTENT, FLOOR, INK, NOISE, PAPER_GRID, REST, SOLID, WORKING_SIDE
from images.onnx_expressions import Expression, Graph, concatenate

IR_VERSION = 8  # what opset 18 came with
OLDEST_OPSET = 18
RED, GREEN, BLUE, ONE = 19595, 38470, 7471, 65536  # ITU-R 601 in 65536ths, as Pillow has them


def rounded(factor: float, size: Expression) -> Expression:
    """The whole number nearest to factor times an int64 scalar."""
    return (size.to(np.float64) * factor).round().to(np.int64)


def resampling_matrix(start: Expression, scale: Expression, size_in: Expression, size_out: Expression) -> Expression:
    """Weights float32 (n, size_out, size_in) of start and scale float64 (n,)."""
    graph, scale = start.graph, scale.expand(1)
    radius = (1 / scale).at_least(1)
    centre = start.expand(1) + (graph.arange(size_out).to(np.float64) + 0.5) / scale
    pixel = (graph.arange(size_in).to(np.float64) + 0.5) / radius
    distance = pixel.to(np.float32).expand(1) - (centre / radius).to(np.float32).expand(2)
    weights = (1 - abs(distance)).at_least(0)
    return weights / weights.sum(2).at_least((radius * 0.5).to(np.float32).expand(2))


def shrink(image: Expression, height: Expression, width: Expression) -> Expression:
    """Pictures (n, H, W) resampled to (n, height, width)."""
    zero, matrices = image.graph.constant([0], np.float64), []
    for axis, size in ((1, height), (2, width)):
        size_in = image.size(axis)
        scale = size.to(np.float64) / size_in.to(np.float64)
        matrices.append(resampling_matrix(zero, scale.expand(0), size_in, size))
    return matrices[0] @ image @ matrices[1].transpose(0, 2, 1)


def solid_level(ink: Expression) -> Expression:
    """(n, 1, 1)."""
    mean = (ink * ink).sum(1, 2) / ink.sum(1, 2).at_least(1e-6)
    return (mean / SOLID).at_least(1e-6)


def count(mask: Expression) -> Expression:
    """float32 (n, 1, 1), exact."""
    return mask.to(np.float32).sum(1, 2)


def box_sum(mask: Expression, reach: Expression) -> Expression:
    """float32 (n, H, W), exact: products with matrices that are 1 within reach of the diagonal."""
    bands = []
    for axis in (1, 2):
        line = mask.graph.arange(mask.size(axis))
        bands.append((abs(line.expand(1) - line.expand(0)) <= reach).to(np.float32))
    return bands[0] @ mask.to(np.float32) @ bands[1]


def longer_side(picture: Expression) -> Expression:
    return picture.size(1).at_least(picture.size(2))


def without_specks(mask: Expression) -> Expression:
    steps = []
    for axis in (1, 2):
        end = mask.size(axis)
        steps.append(count(mask.slice(axis, 1, end) ^ mask.slice(axis, 0, end - 1)))
    pen_width = count(mask).to(np.float64) * 2.5 / (steps[0] + steps[1]).to(np.float64).at_least(1)
    reach = rounded(0.035, longer_side(mask)).at_least(2)
    least = (pen_width * pen_width * 0.5 + 1).at_most(reach.to(np.float64) * pen_width * 0.5).to(np.int32)
    # normalization.py counts in the smallest integers that hold a full window: a larger threshold wraps around.
    window = reach + reach + 1
    modulus = (window * window < 256).where(mask.graph.constant(256, np.int32), 65536)
    return mask & (box_sum(mask, reach) > (least % modulus).to(np.float32))


def fragment_end(has_ink: Expression, at_edge: Expression) -> Expression:
    """int64 (n, 1) of profiles bool (n, L)."""
    length = has_ink.size(1)
    band = rounded(0.12, length)
    gap = rounded(0.025, length).at_least(2).at_most(length)
    line, axis = has_ink.graph.arange(length), has_ink.graph.constant(1, np.int64)
    ink, edge = (profile.graph.node("CumSum", profile.to(np.float32), axis) for profile in (has_ink, has_ink & at_edge))
    behind = ink.gather((line + gap).at_most(length - 1), 1) - ink
    ends = has_ink & (behind <= 0) & (edge > 0) & (line < (band + gap).at_most(length) - gap)
    return ends.where(line + 1, 0).max(1)


def between_fragments(has_ink: Expression, at_edge: Expression) -> Expression:
    """bool (n, L)."""
    line, length = has_ink.graph.arange(has_ink.size(1)), has_ink.size(1)
    far = [profile.slice(1, -1, -(2**31), -1) for profile in (has_ink, at_edge)]
    return (line >= fragment_end(has_ink, at_edge)) & (line < length - fragment_end(*far))


def without_edge_fragments(mask: Expression) -> Expression:
    height, width = mask.size(1), mask.size(2)
    margin = rounded(0.04, longer_side(mask)).at_least(1)
    y, x = mask.graph.arange(height).expand(1), mask.graph.arange(width).expand(0)
    edge = ~((y >= margin) & (y < height - margin) & (x >= margin) & (x < width - margin))
    middle = (y >= rounded(0.12, height)) & (y < rounded(0.88, height))
    columns = (mask & middle).any(1).squeeze(1)
    rest = mask & between_fragments(columns, (mask & edge).any(1).squeeze(1)).expand(1)
    rest = rest & between_fragments(rest.any(2).squeeze(2), (rest & edge).any(2).squeeze(2)).expand(2)
    enough = count(rest).to(np.float64) > count(mask).to(np.float64) * REST
    return rest | (mask & ((rest & edge).any(1, 2) | ~enough))


def ink_span(profile: Expression) -> tuple[Expression, Expression]:
    """First and one-past-last True of profiles bool (n, L), int64 (n,); (0, 0) where there is none."""
    length = profile.size(1)
    line = profile.graph.arange(length)
    end = profile.where(line + 1, 0).max(1).squeeze(1)
    first = length - profile.where(length - line, 0).max(1).squeeze(1)
    return (end > 0).where(first, 0), end


def axis_matrix(low: Expression, high: Expression, scale: Expression, size: Expression) -> Expression:
    """The matrix (n, 64, size) that places the span (low, high) of one axis in the middle of the canvas."""
    middle = (low + high).to(np.float64) / 2
    canvas = low.graph.constant(CANVAS, np.int64)
    weights = resampling_matrix(middle - CANVAS / 2 / scale, scale, size, canvas)
    pixel, low, high = low.graph.arange(size), low.expand(1), high.expand(1)
    near = (pixel >= low - 2) & (pixel < high + 2) & (high > low)
    return weights * near.to(np.float32).expand(1)


def place(ink: Expression) -> Expression:
    """Darkness float32 (n, H, W), paper 0, any scale, to the contract (n, 64, 64)."""
    level = solid_level(ink)
    dark = ink > level * INK
    mask = without_edge_fragments(without_specks(dark))
    (y0, y1), (x0, x1) = ink_span(mask.any(2).squeeze(2)), ink_span(mask.any(1).squeeze(1))
    scale = CONTENT / (y1 - y0).at_least(x1 - x0).at_least(1).to(np.float64)
    rows, columns = axis_matrix(y0, y1, scale, ink.size(1)), axis_matrix(x0, x1, scale, ink.size(2))
    solid = (ink * (1 / (1 - FLOOR) / level) - FLOOR / (1 - FLOOR)).at_least(0).at_most(1)
    placed = rows @ (dark ^ mask).where(solid * 0, solid) @ columns.transpose(0, 2, 1)
    return (placed / solid_level(placed)).at_most(1)


def sliding(values: Expression, reach: int, operator: str) -> Expression:
    """A running maximum or mean of (n, h, w) over 2 reach + 1 cells each way; the result is smaller by as much."""
    window, values = 2 * reach + 1, values.expand(1)
    for kernel in ((window, 1), (1, window)):
        values = values.graph.node(operator, values, kernel_shape=kernel)
    return values.squeeze(1)


def reflected(values: Expression, reach: int, axis: int) -> Expression:
    """The axis longer by reach at both ends, where values go on as they came: np.pad(…, reflect_type="odd").

    In periods of twice the span between the ends, each higher than the one before by twice the ends' difference.
    """
    graph, length = values.graph, values.size(axis)
    span = (length - 1).at_least(1)
    place = graph.arange(length + 2 * reach) - reach
    within = place % (span + span)
    falling = within > span
    source = falling.where(span + span - within, within).at_most(length - 1)
    periods = ((place - within) / span).to(np.float32)
    others = tuple(i for i in (1, 2) if i != axis)
    from_first, from_last, sign = (
        weight.expand(*(0, *others))
        for weight in (-periods, periods + falling.to(np.float32) * 2, 1 - falling.to(np.float32) * 2)
    )
    first, last = values.slice(axis, 0, 1), values.slice(axis, length - 1, length)
    return values.gather(source, axis) * sign + first * from_first + last * from_last


def paper_of(cells: Expression) -> Expression:
    """The grey closing of cells (n, h, w)."""
    reach, closed, low, high = PAPER_GRID // 8, cells, cells.min(1, 2), cells.max(1, 2)
    for sign in (1, -1):  # the minimum is the maximum of the negative
        extended = reflected(reflected(closed, reach, 1), reach, 2).at_least(low).at_most(high)
        closed = sliding(extended * sign, reach, "MaxPool") * sign
    return closed


def median(values: Expression) -> Expression:
    """(n, 1) of (n, L): the mean of the one or two largest of the lower half."""
    graph, length = values.graph, values.size(1)
    half = (length / 2 + 1).expand(0)
    lower, _ = graph.node("TopK", values, half, outputs=2, axis=1, largest=0, sorted=0)
    middle, _ = graph.node("TopK", lower, (2 - length % 2).expand(0), outputs=2, axis=1)
    return middle.mean(1)


def noise_of(grey: Expression) -> Expression:
    """(n, 1, 1): the median difference between neighbours in a row; the first of a row counts as 0."""
    before = concatenate([grey.slice(2, 0, 1), grey.slice(2, 0, grey.size(2) - 1)], 2)
    return median(abs(grey - before).reshape(0, -1)).expand(2)


def scaled_size(picture: Expression, side: int) -> list[Expression]:
    """Height and width at which the longer side is `side`, at least 1."""
    longer = longer_side(picture).to(np.float64)
    sizes = ((picture.size(axis) * side).to(np.float64) / longer for axis in (1, 2))
    return [size.round().at_least(1).to(np.int64) for size in sizes]


def ink_of(grey: Expression) -> Expression:
    """Grey float32 (n, H, W), 0 to 255, to darkness (n, h, w), 0 to 1, of at most 256 pixels a side."""
    grid = scaled_size(grey, PAPER_GRID)
    small, large = scaled_size(grey, WORKING_SIDE), grey
    grey = grey.graph.choose(longer_side(large) > WORKING_SIDE, lambda: shrink(large, *small), lambda: large)
    cells, margin = shrink(grey, *grid), PAPER_GRID // 4
    pads = grey.graph.constant((0, margin, margin) * 2, np.int64)
    difference = cells - sliding(grey.graph.node("Pad", cells, pads, mode="edge"), margin, "AveragePool")
    light_ink = (difference * difference * difference).sum(1, 2) > 0
    grey, cells = light_ink.where(255 - grey, grey), light_ink.where(255 - cells, cells)
    paper = shrink(paper_of(cells), grey.size(1), grey.size(2))
    ink = (paper - grey).at_least(0)
    peak = ink.max(1, 2)
    noise = (noise_of(grey) * NOISE).at_most(peak * 0.35)
    visible = (ink >= noise) & (peak >= 12)
    return visible.where(ink / paper.at_least(1), 0)


def over_paper(colour: Expression, opacity: Expression) -> Expression:
    """Colour (n, H, W, 1 or 3) and opacity (n, H, W, 1), float32 0 to 255, on white, or on black under light ink.

    Rounded as Pillow's alpha_composite does, in whole numbers below 2 ** 24.
    """
    ink = (colour.mean(3) * opacity).sum(1, 2) / opacity.sum(1, 2).at_least(1)
    black = (ink > 128) & (opacity.mean(1, 2) < 128)
    paper = black.where(ink * 0, 255)
    mixed = colour * opacity + (255 - opacity) * paper.expand(3).squeeze(3) + 128
    return ((mixed * 128 + (mixed / 2).floor()) / 32768).floor()


def grey_of(image: Expression) -> Expression:
    """uint8 (n, H, W, C) to grey float32 (n, H, W): C is 1 grey, 2 grey and opacity, 3 RGB, 4 RGB and opacity."""
    channels, values = image.size(3), image.to(np.float32)
    weights = image.graph.constant([[RED], [GREEN], [BLUE]], np.float32)

    def light(colour):
        """float32 (n, H, W, 1 or 3) to (n, H, W, 1)."""
        return image.graph.choose(
            colour.size(3) >= 3,
            lambda: ((colour.slice(3, 0, 3) @ weights + ONE / 2) * (1 / ONE)).floor(),
            lambda: colour,
        )

    def composed():
        return light(over_paper(values.slice(3, 0, channels - 1), values.slice(3, channels - 1, channels)))

    return image.graph.choose((channels % 2).equals(0), composed, lambda: light(values)).squeeze(3)


def normalization_nodes(source: str, target: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that make the tensor `target` float32 (n, 1, 64, 64) of `source` uint8 (n, H, W, C)."""
    graph = Graph("normalization/")
    image = place(ink_of(grey_of(graph.tensor(source, np.uint8)))).expand(1)
    graph.nodes.append(helper.make_node("Identity", [image.name], [target], "normalization/result"))
    return graph.nodes, list(graph.constants.values())


def normalization_model(opset: int = OLDEST_OPSET) -> onnx.ModelProto:
    """The normalisation alone as a model: `image` uint8 (N, H, W, C) to `input_image` float32 (N, 1, 64, 64)."""
    nodes, constants = normalization_nodes("image", "input_image")
    graph = helper.make_graph(
        nodes,
        "normalization",
        [picture_input()],
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["pictures", 1, CANVAS, CANVAS])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def picture_input() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.UINT8, ["pictures", "height", "width", "channels"])
