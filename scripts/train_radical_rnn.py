"""Train the radical RNN: a convolutional network whose map is read as a sequence, component by component.

    python scripts/train_radical_rnn.py --data-dir dataset

A bidirectional LSTM runs over the 4 x 4 map of features and says at every position which of the character's real
components (character_structure.py) it finds; which the character has is its auxiliary target. The class comes from
both: the map, and what the LSTM makes of it and finds. `--radical-weight 0` is the same network without that target.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from engine.architecture import Architecture, cross_entropy
from engine.layers import WIDTHS, convolutional_features, scaled
from engine.training import train
from optimization_config import OptimizationConfig, option
from rnn.radical_reader import RadicalReader
from structure.codes import component_targets
from structure.trees import table_for


@dataclass
class RadicalRNNConfig(OptimizationConfig):
    width: float = option(1.0, "factor on the number of channels", within="(0, inf)")
    hidden: int = option(128, "of the LSTM, each way", within="[1, inf)")
    embedding: int = option(160, "rank of the head", within="[1, inf)")
    radical_weight: float = option(0.05, "of the components' loss; 0 leaves it out", within="[0, inf)")


class RadicalRNN(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes).

    In training mode also the components' logits at every position (N, 16, components + 1), and which components
    every class has (classes, components).
    """

    def __init__(self, config: RadicalRNNConfig, classes: str):
        super().__init__()
        target = component_targets(classes, table_for(classes))
        self.register_buffer("target", torch.from_numpy(target), persistent=False)
        widths = scaled(WIDTHS, config.width)
        self.features = convolutional_features(widths)
        self.read = RadicalReader(widths[-1], config.hidden, target.shape[1])
        self.see = nn.Linear(16 * widths[-1], config.embedding, bias=False)
        self.follow = nn.Linear(16 * 2 * config.hidden, config.embedding, bias=False)
        self.compose = nn.Linear(target.shape[1], config.embedding, bias=False)
        self.norm = nn.BatchNorm1d(config.embedding)
        self.classify = nn.Linear(config.embedding, len(classes))

    def forward(self, images: torch.Tensor):
        features = self.features(images)
        states, named = self.read(features)
        found = named.amax(dim=1)[:, 1:].sigmoid()
        both = self.see(features.flatten(1)) + self.follow(states.flatten(1)) + self.compose(found)
        logits = self.classify(self.norm(both))
        return (logits, named, self.target) if self.training else logits


def class_and_radicals(output, labels: torch.Tensor, config: RadicalRNNConfig) -> torch.Tensor:
    """Cross entropy of the class, and of the components as independent yes-or-no questions."""
    logits, named, target = output
    loss = cross_entropy(logits, labels, config)
    if not config.radical_weight:
        return loss
    wanted, named = target[labels.clamp(min=0)] * (labels >= 0)[:, None], named.float()  # none outside the classes
    found = named.amax(dim=1)[:, 1:]
    radicals = F.binary_cross_entropy_with_logits(found, wanted.float(), reduction="sum") / len(labels)
    return loss + config.radical_weight * radicals


ARCHITECTURE = Architecture("radical_rnn", RadicalRNNConfig, RadicalRNN, class_and_radicals)

if __name__ == "__main__":
    train(ARCHITECTURE)
