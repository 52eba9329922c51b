"""Smaller images in the first epochs of a training: each takes less work."""

import torch
import torch.nn.functional as F
from torch import nn

from files.command_line import InputError
from optimization_config import OptimizationConfig

MAP = 4  # side of what convolutional_features makes of 64 x 64 pixels


def accept_smaller(model: nn.Module, name: str) -> None:
    """Lets a model read smaller images too, in training: the map of its convolutions is enlarged to the usual one.
    Raises InputError for a model that has none."""
    if not isinstance(features := getattr(model, "features", None), nn.Sequential):
        raise InputError(f"{name} reads images of one size alone: leave --low-resolution-epochs out")
    features.register_forward_hook(_enlarged)


def _enlarged(_module: nn.Module, _inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return output if output.shape[-1] == MAP else F.interpolate(output, MAP, mode="bilinear")


def shrunk(images: torch.Tensor, epoch: int, config: OptimizationConfig) -> torch.Tensor:
    """The images of a batch (N, 1, 64, 64) as an epoch, counted from 0, shows them."""
    if epoch >= config.low_resolution_epochs:
        return images
    smaller = F.interpolate(images, config.low_resolution, mode="area")
    return smaller.contiguous(memory_format=torch.channels_last)
