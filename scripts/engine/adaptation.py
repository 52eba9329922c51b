"""A short training that makes a model read one kind of picture better. Each step also shows stand-in samples, in which
it keeps reading what it read before (Li and Hoiem, arXiv:1606.09282), so that it forgets nothing. Batch norm keeps
its statistics: those of a few pictures would be wrong for all others."""

import contextlib
import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from data.augmentation import augment
from data.fresh import FreshSets
from engine.architecture import Architecture, distillation
from engine.batches import to_input
from engine.devices import autocast, choose_device, derive_seed, seed_generators
from engine.optimizers import average_weights, learning_rate_factor, make_optimizers
from optimization_config import OptimizationConfig

SURE = 0.9  # the least probability of a class to be learned, a mean over varied copies
COPIES, VARIED = 6, 0.3  # and their strength of augmentation
SEEN = 2  # sure pictures of a class, below which it is not learned from
STEPS, OWN, REPLAYED = 60, 64, 64  # own pictures and stand-in samples in a step
LEARNING_RATE, EMA_DECAY = 5e-4, 0.9


class Samples(NamedTuple):
    images: torch.Tensor  # uint8 (n, 1, 64, 64)
    labels: torch.Tensor  # (n,)

    def of(self, rows: torch.Tensor | slice) -> "Samples":
        return Samples(self.images[rows], self.labels[rows])


def fresh_samples(classes: str, sets: int, seed: int) -> Samples:
    """Stand-in samples by made-up writers of this seed, set by set."""
    config = OptimizationConfig(fresh=sets, epochs=1, hiragana_repeats=1, seed=seed)
    with contextlib.closing(FreshSets(classes, config)) as drawn:
        return Samples(drawn.images(0, lambda: 0), drawn.labels)


def varied(images: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Slightly varied copies of images uint8 (n, 1, 64, 64)."""
    for number in range(COPIES):
        seed_generators(derive_seed(seed, STEPS + number), images.device)
        yield (augment(to_input(images), VARIED) * 255 + 0.5).byte()


def sure_of(images: torch.Tensor, shares: np.ndarray, known: np.ndarray) -> Samples:
    """Those of n images that may be learned by their likeliest class, by its probabilities (n, classes), and by whether
    they are any of the classes at all, bool (n,)."""
    labels = shares.argmax(axis=1)
    sure = known & (shares.max(axis=1) >= SURE)
    often = np.bincount(labels[sure], minlength=shares.shape[1]) >= SEEN
    return Samples(images, torch.from_numpy(labels)).of(torch.from_numpy(sure & often[labels]))


def rows_of_steps(samples: Samples, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """The rows of each step; the share of a class grows with the root of its samples."""
    weights = torch.bincount(samples.labels)[samples.labels].double() ** -0.5
    return torch.multinomial(weights, STEPS * size, replacement=True, generator=generator).split(size)


def learn(
    model: nn.Module, architecture: Architecture, config: OptimizationConfig, own: Samples, replayed: Samples, seed: int
) -> dict[str, torch.Tensor]:
    """The weights that a model has after training as its architecture is trained, averaged over the last steps."""
    config.learning_rate, device = LEARNING_RATE, choose_device(config.device)
    generator, parts = torch.Generator().manual_seed(seed), ((own, OWN), (replayed, REPLAYED))
    steps = list(zip(*(rows_of_steps(samples, size, generator) for samples, size in parts), strict=True))
    before, model = (copy.deepcopy(model).to(device, memory_format=torch.channels_last) for _ in range(2))
    before.eval()
    model.train()
    for module in model.modules():
        module.training = module.training and not isinstance(module, _BatchNorm)
    optimizers, averaged = make_optimizers(model, config), average_weights(model, EMA_DECAY)
    for step, (rows, again) in enumerate(tqdm(steps, "adapting", leave=False, disable=None)):
        shown = zip(own.of(rows), replayed.of(again), strict=True)
        images, labels = (torch.cat(both).to(device) for both in shown)
        seed_generators(derive_seed(seed, step), device)
        images = augment(to_input(images), config.augmentation)
        with autocast(config, device):
            output = model(images)
            with torch.no_grad():
                as_before = before(images[OWN:])
            logits = output[0] if isinstance(output, tuple) else output
            loss = architecture.loss(output, labels, config) + distillation(logits[OWN:], as_before).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * learning_rate_factor(step, STEPS, config)
            optimizer.step()
        model.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
    learned = {name: value.cpu() for name, value in averaged.module.state_dict().items()}
    if not all(value.isfinite().all() for value in learned.values()):
        raise FloatingPointError("the weights became infinite or not numbers: the model was not adapted")
    return learned
