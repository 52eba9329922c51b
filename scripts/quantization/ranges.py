"""Activations as uint8: what range each has, and how it is rounded."""

import numpy as np
import torch
from torch import nn

from quantization.integers import LARGEST_ACTIVATION, SMALLEST_SCALE

BINS = 2048  # of the histogram of an activation
NARROWEST = 0.3  # share of the whole range that is tried


class Observer:
    """The histogram of an activation: first its extremes, then, after `settle`, the counts between them."""

    def __init__(self) -> None:
        self.low, self.high, self.counts = 0.0, 0.0, None

    def add(self, x: torch.Tensor) -> None:
        if self.counts is None:
            low, high = x.detach().aminmax()
            self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        elif self.high > self.low:
            self.counts += torch.histc(x.detach().float().cpu(), BINS, self.low, self.high).double().numpy()

    def settle(self) -> None:
        self.counts = np.zeros(BINS)

    def best_range(self) -> tuple[float, float]:
        """The range around 0 within which 256 steps have the least squared error."""
        if not self.high > self.low:
            return 0.0, 1.0
        edges = np.linspace(self.low, self.high, BINS + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        highs = self.high * np.linspace(NARROWEST, 1, 36) if self.high else [0.0]
        lows = self.low * np.linspace(NARROWEST, 1, 36) if self.low else [0.0]
        tried = [(low, high) for low in lows for high in highs]
        return min(tried, key=lambda ends: self._error(centres, *ends))

    def _error(self, centres: np.ndarray, low: float, high: float) -> float:
        step = (high - low) / LARGEST_ACTIVATION
        zero = np.round(-low / step)
        rounded = (np.clip(np.round(centres / step) + zero, 0, LARGEST_ACTIVATION) - zero) * step
        return float(((rounded - centres) ** 2 * self.counts).sum())


class Activation(nn.Module):
    """Rounds a tensor to the 256 steps of its range: 0 … 1 of images, else -8 … 8 until `calibrate` sets another."""

    def __init__(self, of_images: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))
        self.observer: Observer | None = None
        self.of_images = of_images
        self.set_range(*((0.0, 1.0) if of_images else (-8.0, 8.0)))

    def set_range(self, low: float, high: float) -> None:
        """Makes this the range, moved a little so that 0 is exactly one of the steps."""
        scale = max((high - low) / LARGEST_ACTIVATION, SMALLEST_SCALE)
        self.scale.fill_(scale)
        self.zero_point.fill_(round(-low / scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.observer is not None:
            self.observer.add(x)
            return x
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, LARGEST_ACTIVATION)


class Uint8Activation(nn.Module):
    """Rounds a tensor as QuantizeLinear does: divided, to the nearest even, clipped to 0 … 255."""

    def __init__(self, scale: torch.Tensor, zero_point: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point.to(torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zero = self.zero_point.float()
        return (((x / self.scale).round() + zero).clamp(0, LARGEST_ACTIVATION) - zero) * self.scale
