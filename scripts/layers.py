"""Blocks that two or more architectures use."""

from torch import nn
from torchvision.ops import Conv2dNormActivation

WIDTHS = (32, 64, 96, 160, 192)  # channels at 32 x 32, 16 x 16 (twice), 8 x 8 and 4 x 4


def scaled(widths: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """Numbers of channels times a factor, in whole eights."""
    return tuple(8 * max(1, round(factor * channels / 8)) for channels in widths)


def convolutional_features(widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """(N, 1, 64, 64) to (N, widths[-1], 4, 4): 3 x 3 convolutions with batch norm and ReLU, halved by their strides."""
    a, b, c, d, e = widths
    return nn.Sequential(
        Conv2dNormActivation(1, a, stride=2),  # 32 x 32
        Conv2dNormActivation(a, b, stride=2),  # 16 x 16
        Conv2dNormActivation(b, c),
        Conv2dNormActivation(c, c),
        Conv2dNormActivation(c, d, stride=2),  # 8 x 8
        Conv2dNormActivation(d, d),
        Conv2dNormActivation(d, e, stride=2),  # 4 x 4
    )


def embedding(width_in: int, width: int) -> nn.Sequential:
    """A map or vector of width_in numbers to an embedding (N, width) of zero mean and unit spread."""
    return nn.Sequential(nn.Flatten(), nn.Linear(width_in, width, bias=False), nn.BatchNorm1d(width))
