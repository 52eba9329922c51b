"""Train a plain convolutional network on ETL9G or its stand-in.

    python scripts/train_etl9g_model.py --data-dir dataset

3 x 3 convolutions, batch norm and ReLU and nothing else, so that every layer quantises to INT8. The head is low-rank:
the 64 x 64 picture ends in a 4 x 4 map, which one matrix takes to `embedding` numbers and a second to the classes; for
ETL9G that is a twelfth of a full matrix's parameters.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from dataclasses import dataclass

import torch
from torch import nn

from engine.architecture import Architecture
from engine.layers import WIDTHS, convolutional_features, embedding, scaled
from engine.training import train
from optimization_config import OptimizationConfig, option


@dataclass
class CNNConfig(OptimizationConfig):
    width: float = option(1.0, "factor on the number of channels", within="(0.125, inf)")
    embedding: int = option(128, "rank of the head", within="[1, inf)")
    dropout: float = option(0.0, "before the classes", within="[0, 1)")


class CNN(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes)."""

    def __init__(self, config: CNNConfig, classes: str):
        super().__init__()
        widths = scaled(WIDTHS, config.width)
        self.features = convolutional_features(widths)
        self.embed = embedding(16 * widths[-1], config.embedding)
        self.classify = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.embedding, len(classes)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.embed(self.features(images)))


ARCHITECTURE = Architecture("cnn", CNNConfig, CNN, best_name="best_kanji_model.pth")

if __name__ == "__main__":
    train(ARCHITECTURE)
