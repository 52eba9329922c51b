"""Grey values of colour pictures as parts of an ONNX graph: as reading.py and Pillow make them, to the last bit."""

import numpy as np
from onnx import TensorProto
from onnxscript import opset18 as op
from onnxscript import script

LUMINANCE = np.array([[19595], [38470], [7471]], np.float32)  # red, green and blue by ITU-R 601, in 65536ths
PART = 1 / 65536


@script()
def size(values, axis: int):
    """The length of an axis, a scalar int64."""
    return op.Gather(op.Shape(values), axis)


@script()
def over_paper(colour, opacity):
    """Colour (n, H, W, 1 or 3) and opacity (n, H, W, 1), float32 0 to 255, on white, or on black under light ink.

    Rounded as Pillow's alpha_composite does, in whole numbers below 2 ** 24.
    """
    light = op.ReduceSum(op.ReduceMean(colour, [3]) * opacity, [1, 2]) / op.Max(op.ReduceSum(opacity, [1, 2]), 1)
    black = (light > 128) & (op.ReduceMean(opacity, [1, 2]) < 128)
    paper = op.Where(black, 0.0, 255.0)
    mixed = colour * opacity + (255 - opacity) * paper + 128
    return op.Floor((mixed * 128 + op.Floor(mixed / 2)) / 32768)


@script()
def grey_of(image):
    """uint8 (n, H, W, C) to grey float32 (n, H, W): C is 1 grey, 2 grey and opacity, 3 RGB, 4 RGB and opacity."""
    channels, values = size(image, axis=3), op.Cast(image, to=TensorProto.FLOAT)
    if channels % 2 == 0:
        colour, opacity = values[:, :, :, :-1], values[:, :, :, -1:]
        colour = over_paper(colour, opacity)
    else:
        colour = op.Identity(values)
    if channels >= 3:
        light = colour @ LUMINANCE
        grey = op.Floor((light + 32768) * PART)
    else:
        grey = op.Identity(colour)
    return op.Squeeze(grey, [3])
