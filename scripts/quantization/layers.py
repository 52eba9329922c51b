"""Layers whose weights and biases are modules: trained while they are rounded, then made of integers."""

import torch
import torch.nn.functional as F
from torch import nn

from quantization.integers import LARGEST_BIAS, fake_quantize_rows, from_integers, row_scales, to_integers


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


class Integers(nn.Module):
    """A weight as int8 (rows, …), or a bias as int32 (rows,), and the scale (rows,) of each row.

    The scale of a bias is that of the sum it is added to: input scale times weight scale.
    """

    def __init__(self, integers: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)

    def forward(self) -> torch.Tensor:
        return from_integers(self.integers, self.scale)


class Rows(nn.Module):
    """Rounds a matrix that is itself computed to int8, by the scale (rows,) of a file once there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", None)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            return fake_quantize_rows(matrix)
        return from_integers(to_integers(matrix, self.scale), self.scale)


class Layer(nn.Module):
    """A layer whose weight (rows, …) and bias (rows,) are modules."""

    def __init__(self, layer: nn.Conv2d | nn.Linear):
        super().__init__()
        self.weight = Weight(layer.weight)
        self.bias = Trainable(torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias)


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
    """x (N, width) times each row of a matrix (classes, width) that is itself computed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()

    def forward(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.rows(matrix))


class LSTM(nn.Module):
    """An LSTM of one layer, batch first, with rounded weights and float steps: (N, steps, in) to (N, steps, out)."""

    def __init__(self, layer: nn.LSTM):
        super().__init__()
        if layer.num_layers != 1 or not layer.batch_first or not layer.bias or layer.proj_size:
            raise ValueError("only an LSTM of one layer, batch first, with biases and without projection is known")
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


def convert_layer(layer: Layer, input_scale: torch.Tensor) -> None:
    """Makes a layer's weight int8 and its bias int32, with scales so large that the bias has room."""
    bias = layer.bias.value
    scale = torch.maximum(row_scales(layer.weight.value), bias.abs() / (input_scale * LARGEST_BIAS))
    layer.weight = Integers(to_integers(layer.weight.value, scale), scale)
    bias_scale = input_scale * scale
    layer.bias = Integers((bias.double() / bias_scale.double()).round().to(torch.int32), bias_scale)
