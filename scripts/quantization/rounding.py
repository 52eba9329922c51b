"""Where INT8 rounds: weights, with a scale for each row; activations, with a range for each; the layers of both."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# Processors without VNNI add two products of a weight and an activation in 16 bits and saturate, silently: two times 64
# times 255 is below 2^15.
LARGEST_WEIGHT = 64
LARGEST_ACTIVATION = 255
LARGEST_BIAS = 2**30
SMALLEST_SCALE = 1e-9
BINS = 2048  # of the histogram of an activation
SHARES = np.linspace(0.3, 1, 36)  # of the whole range, up and down, that are tried


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

        def squared_error(ends: tuple[float, float]) -> float:
            step = (ends[1] - ends[0]) / LARGEST_ACTIVATION
            zero = np.round(-ends[0] / step)
            rounded = (np.clip(np.round(centres / step) + zero, 0, LARGEST_ACTIVATION) - zero) * step
            return float(((rounded - centres) ** 2 * self.counts).sum())

        return min(itertools.product(self.low * SHARES, self.high * SHARES), key=squared_error)


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

    def integers(self) -> "Uint8Activation":
        return Uint8Activation(self.scale, self.zero_point)


class Uint8Activation(nn.Module):
    """Rounds a tensor as QuantizeLinear does: divided, to the nearest even, clipped to 0 … 255."""

    def __init__(self, scale: torch.Tensor, zero_point: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point.to(torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zero = self.zero_point.float()
        return (((x / self.scale).round() + zero).clamp(0, LARGEST_ACTIVATION) - zero) * self.scale


class Trainable(nn.Module):
    """A trainable tensor as it is: a bias (rows,), whose steps in int32 are too fine to be trained."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value = nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))

    def forward(self) -> torch.Tensor:
        return self.value


class Weight(Trainable):
    """A trainable weight (rows, …), rounded as int8 will round it."""

    def forward(self) -> torch.Tensor:
        return fake_quantize_rows(self.value)

    def integers(self, least: torch.Tensor | float = 0.0) -> "Integers":
        """The same as integers, with scales (rows,) of `least` at least."""
        scale = row_scales(self.value).clamp(min=least)
        return Integers(to_integers(self.value, scale), scale)


class Integers(nn.Module):
    """A weight as int8 (rows, …), or a bias as int32 (rows,), and the scale (rows,) of each row; that of a bias is its
    input's scale times its weight's."""

    def __init__(self, integers: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)

    def forward(self) -> torch.Tensor:
        return from_integers(self.integers, self.scale)


class Layer(nn.Module):
    """A layer whose weight (rows, …) and bias (rows,) are modules."""

    def __init__(self, layer: nn.Conv2d | nn.Linear):
        super().__init__()
        self.weight = Weight(layer.weight)
        self.bias = Trainable(torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias)

    def convert(self, input_scale: torch.Tensor) -> None:
        """Makes the weight int8 and the bias int32, with scales so large that the bias has room."""
        bias = self.bias.value
        self.weight = self.weight.integers(bias.abs() / (input_scale * LARGEST_BIAS))
        scale = input_scale * self.weight.scale
        self.bias = Integers((bias.double() / scale.double()).round().to(torch.int32), scale)


class Convolution(Layer):
    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer)
        self.settings = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight(), self.bias(), *self.settings)


class Matrix(Layer):
    """A linear layer: x (…, in) times its weight (out, in)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight(), self.bias())


class Comparison(nn.Module):
    """x (N, width) times each row of a matrix (classes, width) that is itself computed, and rounded to int8. Its scale
    (rows,) is None before `convert` makes it an empty tensor, which the first matrix fills for good."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Module()  # for the name that the scale has in files
        self.rows.register_buffer("scale", None)

    def forward(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        if self.rows.scale is None:
            return F.linear(x, fake_quantize_rows(matrix))
        if not len(self.rows.scale):
            self.rows.scale = row_scales(matrix)
        return F.linear(x, from_integers(to_integers(matrix, self.rows.scale), self.rows.scale))


class LSTM(nn.Module):
    """An LSTM of one layer, batch first, with rounded weights and float steps: (N, steps, in) to (N, steps, out)."""

    def __init__(self, layer: nn.LSTM):
        super().__init__()
        self.hidden_size, self.bidirectional = layer.hidden_size, layer.bidirectional
        self.ways = nn.ModuleList()
        for way in ("", "_reverse")[: 1 + layer.bidirectional]:
            weights = (Weight(getattr(layer, f"weight_{kind}_l0{way}")) for kind in ("ih", "hh"))
            biases = (Trainable(getattr(layer, f"bias_{kind}_l0{way}")) for kind in ("ih", "hh"))
            self.ways.append(nn.ModuleList([*weights, *biases]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        start = x.new_zeros(len(self.ways), len(x), self.hidden_size)
        flat = [part() for way in self.ways for part in way]
        learns = torch.is_grad_enabled()  # cuDNN goes back only through what it computed as training
        states, *last = torch.lstm(x, (start, start), flat, True, 1, 0.0, learns, self.bidirectional, True)
        return states, tuple(last)
