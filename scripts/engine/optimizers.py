"""What moves the weights: AdamW and Muon, the schedule of their learning rate, and the average that is kept."""

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from optimization_config import OptimizationConfig


def orthogonalized(update: torch.Tensor, coefficients: tuple, steps: int, eps: float) -> torch.Tensor:
    """The matrix (A, B) with its singular values brought near 1, by Newton and Schulz's iteration of fifth order."""
    a, b, c = coefficients
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Muon):
    """Muon (Jordan et al. 2024) with updates of the size of AdamW's (arXiv:2502.16982), in the parameters' precision:
    PyTorch's own multiplies in bf16, which a processor without bf16 instructions emulates slowly."""

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                if "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
                average = self.state[parameter]["momentum_buffer"]
                average.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(average, group["momentum"])
                update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * group["lr"] * max(parameter.shape) ** 0.5)


def make_optimizers(model: nn.Module, config: OptimizationConfig, fast_bf16: bool) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the weight matrices and AdamW for the rest; no weight decay on vectors. PyTorch's Muon is for
    devices that multiply bf16 quickly (`fast_bf16`)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2] if config.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = parameters[0].device.type in {"cpu", "cuda"}
    muon = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)]
    if matrices:
        optimizers.append((torch.optim.Muon if fast_bf16 else Muon)(matrices, **muon))
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
