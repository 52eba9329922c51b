"""What moves the weights: AdamW and Muon, the schedule of their learning rate, and the average that is kept."""

import math
from collections.abc import Iterable
from types import UnionType

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from optimization_config import OptimizationConfig

MUON = {"muon": nn.Linear, "muon-all": nn.Linear | nn.Conv2d}  # what each choice trains


def orthogonalized(update: torch.Tensor) -> torch.Tensor:
    """The matrix (A, B) with its singular values brought near 1 by Newton and Schulz's iteration of fifth order. Its
    steps all multiply by polynomials of the rows' products with one another, so these alone are iterated."""
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    gram, all_steps = x @ x.T, None
    for left in (4, 3, 2, 1, 0):
        step = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal().add_(a)
        all_steps = step if all_steps is None else step @ all_steps
        gram = step @ gram @ step if left else gram
    return (all_steps @ x).T if tall else all_steps @ x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024): momentum, orthogonalised, in updates of the size of AdamW's (arXiv:2502.16982).

    The filters of a convolution (out, in, height, width) are the rows of a matrix.
    """

    def __init__(self, parameters: Iterable, lr: float, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                if "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
                average = self.state[parameter]["momentum_buffer"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"]).flatten(1)
                size = 0.2 * group["lr"] * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(orthogonalized(update).reshape(parameter.shape), alpha=-size)


def matrices_of(model: nn.Module, kinds: type | UnionType) -> list[nn.Parameter]:
    """The weights of layers of these kinds that mix all their inputs: none of a depthwise convolution."""
    layers = [layer for layer in model.modules() if isinstance(layer, kinds) and getattr(layer, "groups", 1) == 1]
    return [layer.weight for layer in layers if layer.weight.requires_grad]


def make_optimizers(model: nn.Module, config: OptimizationConfig) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the weight matrices of some layers and AdamW for the rest; no weight decay on vectors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = matrices_of(model, MUON[config.optimizer]) if config.optimizer in MUON else []
    taken = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = parameters[0].device.type in {"cpu", "cuda"}
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)]
    if matrices:
        optimizers.append(Muon(matrices, config.learning_rate, config.weight_decay))
    return optimizers


def learning_rate_factor(step: int, steps: int, config: OptimizationConfig) -> float:
    """Linear warm-up, then a cosine that ends with the last step."""
    rise = max(1, round(config.warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return config.final_learning_rate + (1 - config.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers, quicker while the run is young."""

    @torch.no_grad()
    def update(averaged, current, _count):  # which lies on the device: to look at it would be to wait
        count = float(made.n_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        if averaged[0].is_floating_point():  # called once for each type of tensor
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    made = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return made
