"""Blocks that two or more architectures use."""

import torch
from torch import nn

WIDTHS = (32, 64, 96, 160, 192)  # channels at 32 x 32, 16 x 16 (twice), 8 x 8 and 4 x 4


def scaled(widths: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """Numbers of channels times a factor, in whole eights."""
    return tuple(8 * max(1, round(factor * channels / 8)) for channels in widths)


def convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution with batch norm and ReLU: (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class StochasticDepth(nn.Module):
    """Leaves a branch out for each row of x (N, …) by chance p < 1, and enlarges what stays (arXiv:1603.09382)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return x
        return x * x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.p).div_(1 - self.p)


def convolutional_features(widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """(N, 1, 64, 64) to (N, widths[-1], 4, 4): 3 x 3 convolutions with batch norm and ReLU, halved by their strides."""
    a, b, c, d, e = widths
    return nn.Sequential(
        convolution(1, a, stride=2),  # 32 x 32
        convolution(a, b, stride=2),  # 16 x 16
        convolution(b, c),
        convolution(c, c),
        convolution(c, d, stride=2),  # 8 x 8
        convolution(d, d),
        convolution(d, e, stride=2),  # 4 x 4
    )


def embedding(width_in: int, width: int) -> nn.Sequential:
    """A map or vector of width_in numbers to an embedding (N, width) of zero mean and unit spread."""
    return nn.Sequential(nn.Flatten(), nn.Linear(width_in, width, bias=False), nn.BatchNorm1d(width))
