"""The interface between engine and models: the Architecture dataclass, and losses that several models share."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from optimization_config import OptimizationConfig


def cross_entropy(output, labels: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """The loss of a model whose output is its logits (N, classes). A label below 0 stands for none of the classes, and
    adds nothing."""
    total = F.cross_entropy(output.float(), labels, label_smoothing=config.label_smoothing, reduction="sum")
    return total / len(labels)


def distillation(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """The cross entropy (N,) of logits (N, classes) with a teacher's probabilities (arXiv:1503.02531)."""
    return F.cross_entropy(logits.float(), teacher_logits.float().softmax(1), reduction="none")


def corrected(teacher_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A teacher's logits (N, classes) in which its first choice and the label (N,) have exchanged theirs, so that
    nothing wrong is taught (Wen et al. 2019, arXiv:1911.07471). A label below 0 changes nothing."""
    first = teacher_logits.argmax(1, keepdim=True)
    labels = torch.where(labels[:, None] < 0, first, labels[:, None])
    exchanged = teacher_logits.gather(1, torch.cat([first, labels], 1))
    return teacher_logits.scatter(1, torch.cat([labels, first], 1), exchanged)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """All that the engine has to know of a model.

    model(config, classes) builds it. In evaluation mode it returns logits (N, classes), in training mode also a tuple
    that begins with them. loss(output, labels, config) makes of that a mean over the samples, to which labels below 0,
    of what is none of the classes, add nothing. A module of the model may say how it is quantised: quantized(weight),
    which quantization.network.replace_layers calls. A model may have freeze(), which computes once what depends on its
    weights alone: a teacher's change no more.
    """

    name: str
    config: type[OptimizationConfig]
    model: Callable[[OptimizationConfig, str], nn.Module]
    loss: Callable = cross_entropy
    best_name: str = ""

    @property
    def best_file(self) -> str:
        return self.best_name or f"{self.name}_model_best.pth"
