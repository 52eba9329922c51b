"""Layers that act on a whole batch of which each process holds a part: batch norm, dropout, stochastic depth.

Batch norm takes mean and variance over all processes (as torch.nn.SyncBatchNorm does, which knows only GPUs); what is
random is drawn for the whole batch by every process alike, and each takes its own rows of it.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.layers import StochasticDepth


class _Normalize(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, where mean and variance (channels,) are those of `size` values of x, the
    other processes' included; the gradient knows that they depend on x."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, size, epsilon):
        ctx.save_for_backward(x, weight, mean, variance, size)
        ctx.epsilon = epsilon
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, epsilon)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, mean, variance, size = ctx.saved_tensors
        scale = (variance + ctx.epsilon).rsqrt()
        # As if mean and variance were constants, in one pass; then what flows through them.
        to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, mean, scale, False, ctx.epsilon, [True, True, True]
        )
        sums = torch.stack([to_weight, to_bias])
        dist.all_reduce(sums)
        slope = weight * scale.square() * sums[0] / size
        offset = weight * scale * sums[1] / size - slope * mean
        shape = [1, -1] + [1] * (x.ndim - 2)
        to_x = to_x - torch.addcmul(offset.view(shape), x, slope.view(shape)).to(to_x.dtype)
        return to_x, to_weight, to_bias, None, None, None, None


class WholeBatchNorm(_BatchNorm):
    """Batch norm over the parts of all processes."""

    def _check_input_dim(self, x: torch.Tensor) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
            own = x.numel() / x.shape[1]
            # Summed in double precision: a difference of squares has no digits to spare.
            mean, variance = mean.double(), variance.double()
            sums = torch.cat([own * mean, own * (variance + mean.square()), mean.new_tensor([own])])
            dist.all_reduce(sums)
            size = sums[-1]
            mean, square = (sums[:-1] / size).chunk(2)
            variance = square - mean.square()
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((variance * (size / (size - 1))).float(), self.momentum)
        return _Normalize.apply(x, self.weight, self.bias, mean.float(), variance.float(), size.float(), self.eps)


class WholeDropout(nn.Dropout):
    """Dropout whose mask is this process's part of the one that a single process would draw."""

    rows: range  # of the whole batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        mask = F.dropout(x.new_ones(self.rows.stop, *x.shape[1:]), self.p)
        return x * mask[self.rows.start :: self.rows.step]


class WholeStochasticDepth(StochasticDepth):
    """Stochastic depth of rows, of which this process draws its part."""

    rows: range  # of the whole batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        return x * self.mask(x, self.rows.stop)[self.rows.start :: self.rows.step]


KINDS = {
    nn.BatchNorm1d: WholeBatchNorm,
    nn.BatchNorm2d: WholeBatchNorm,
    nn.Dropout: WholeDropout,
    StochasticDepth: WholeStochasticDepth,
}


def see_whole_batches(model: nn.Module, rows: range) -> None:
    """Makes a model's layers act on whole batches of `rows.stop` samples, of which these rows will be given to it."""
    for module in model.modules():
        if kind := KINDS.get(type(module)):
            module.__class__ = kind  # weights, names and hooks stay
            module.rows = rows
