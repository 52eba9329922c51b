"""Weights as int8 and back: the ranges of the integers, and the scale of each row."""

import torch

# Processors without VNNI add two products of a weight and an activation in 16 bits and saturate, silently: two times 64
# times 255 is below 2^15.
LARGEST_WEIGHT = 64
LARGEST_ACTIVATION = 255
LARGEST_BIAS = 2**30
SMALLEST_SCALE = 1e-9


def row_scales(weight: torch.Tensor) -> torch.Tensor:
    """The scale (rows,) of each row of a weight (rows, …): its largest value becomes 64."""
    return (weight.detach().flatten(1).abs().amax(dim=1) / LARGEST_WEIGHT).clamp(min=SMALLEST_SCALE)


def to_integers(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 (rows, …) of a weight and the scale (rows,) of its rows."""
    scale = scale.view(-1, *[1] * (weight.ndim - 1))
    return (weight.detach() / scale).round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT).to(torch.int8)


def from_integers(integers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight that these integers and scales of rows stand for."""
    return integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))


def fake_quantize_rows(weight: torch.Tensor) -> torch.Tensor:
    """A weight rounded as int8 would round it; the gradient passes as if it were not."""
    scale = row_scales(weight)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT)
