"""A trained model that learns to read one kind of pictures better: a short training on them, and on stand-in samples
that are drawn for it, so that nothing is forgotten that they lack.

Of unlabelled pictures it learns those that it is sure of, by their likeliest class (pseudo-labels), unless it sees
hardly any of that class. Batch norm keeps its statistics: those of a few pictures would spoil them.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from data.augmentation import augment
from data.fresh import FreshSets
from engine.architecture import Architecture
from engine.batches import to_input
from engine.devices import autocast, choose_device, derive_seed, fast_bf16, seed_generators
from engine.optimizers import average_weights, learning_rate_factor, make_optimizers
from inference.confidence import Confidence
from optimization_config import OptimizationConfig

SURE = 0.7  # the least probability of a pseudo-label
SEEN = 2  # sure pictures of a class, below which it is not learned from
STEPS, OWN, REPLAYED = 60, 64, 64  # own pictures and stand-in samples in a step
LEARNING_RATE, EMA_DECAY = 5e-4, 0.9


class Samples(NamedTuple):
    """Images uint8 (n, 1, 64, 64) and their classes (n,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def of(self, rows: torch.Tensor | slice) -> "Samples":
        return Samples(self.images[rows], self.labels[rows])


def fresh_samples(classes: str, held_out: str, sets: int, seed: int) -> Samples:
    """Stand-in samples by made-up writers of this seed, set by set, without the classes that are held out."""
    drawn = FreshSets(classes, held_out, OptimizationConfig(fresh=sets, epochs=1, hiragana_repeats=1, seed=seed))
    try:
        return Samples(drawn.images(0, lambda: 0), drawn.labels)
    finally:
        drawn.close()


def sure_of(logits: np.ndarray, confidence: Confidence) -> torch.Tensor:
    """Which of the pictures with these logits (n, classes) may be learned by their likeliest class, bool (n,)."""
    likeliest = logits.argmax(axis=1)
    sure = confidence.known(logits) & (confidence.probabilities(logits).max(axis=1) >= SURE)
    often = np.bincount(likeliest[sure], minlength=logits.shape[1]) >= SEEN
    return torch.from_numpy(sure & often[likeliest])


def rows_of_steps(samples: Samples, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """The rows of each step; the share of a class grows with the root of its samples."""
    weights = torch.bincount(samples.labels)[samples.labels].double() ** -0.5
    return torch.multinomial(weights, STEPS * size, replacement=True, generator=generator).split(size)


def learn(
    model: nn.Module, architecture: Architecture, config: OptimizationConfig, own: Samples, replayed: Samples, seed: int
) -> dict[str, torch.Tensor]:
    """The weights that a model has after training as its architecture is trained, averaged over the last steps."""
    config.learning_rate, device = LEARNING_RATE, choose_device(config.device)
    generator = torch.Generator().manual_seed(seed)
    rows, again = rows_of_steps(own, OWN, generator), rows_of_steps(replayed, REPLAYED, generator)
    model = copy.deepcopy(model).to(device, memory_format=torch.channels_last).train()
    for module in model.modules():
        module.training = module.training and not isinstance(module, _BatchNorm)
    optimizers, averaged = make_optimizers(model, config, fast_bf16(device)), average_weights(model, EMA_DECAY)
    for step in tqdm(range(STEPS), "adapting", leave=False, disable=None):
        both = zip(own.of(rows[step]), replayed.of(again[step]), strict=True)
        images, labels = (torch.cat(parts).to(device) for parts in both)
        seed_generators(derive_seed(seed, step), device)
        with autocast(config, device):
            loss = architecture.loss(model(augment(to_input(images), config.augmentation)), labels, config)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, STEPS, config)
            optimizer.step()
        model.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
    return {name: value.cpu() for name, value in averaged.module.state_dict().items()}


def part_of_the_way(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], share: float) -> dict:
    """Weights on the line between two (Wortsman et al., arXiv:2109.01903): the nearer to the start, the less is
    forgotten. Raises FloatingPointError for weights that are not finite."""
    if not all(value.isfinite().all() for value in end.values()):
        raise FloatingPointError("the weights became infinite or not numbers: the model was not adapted")
    return {k: torch.lerp(v, end[k], share) if v.is_floating_point() else v for k, v in start.items()}
