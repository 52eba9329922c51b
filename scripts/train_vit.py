"""Train a small Vision Transformer (arXiv:2010.11929) with a convolutional stem (arXiv:2106.14881).

    python scripts/train_vit.py --data-dir dataset

Convolutions turn the 64 x 64 picture into 8 x 8 tokens; pre-norm blocks of attention and MLP follow, with stochastic
depth (arXiv:1603.09382) that grows towards the last; the head sees every token in its place. Muon trains the weight
matrices; the learning rate warms up over the first 10 % of the steps.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from engine.architecture import Architecture
from engine.layers import StochasticDepth, convolution, embedding
from engine.training import train
from images.normalization import CANVAS
from optimization_config import OptimizationConfig, default, option


@dataclass
class ViTConfig(OptimizationConfig):
    width: int = option(96, "of a token's vector", within="[1, inf)")
    depth: int = option(4, "blocks", within="[1, 100]")
    heads: int = option(2, "of the attention; must divide the width", within="[1, inf)")
    patch_size: int = option(8, "side of a token's patch", [4, 8, 16])
    embedding: int = option(128, "rank of the head", within="[1, inf)")
    drop_path: float = option(0.05, "how often the last block skips a branch", within="[0, 1)")
    optimizer: str = default("optimizer", "muon")
    weight_decay: float = default("weight_decay", 0.05)
    warmup: float = default("warmup", 0.1)

    def check(self) -> None:
        super().check()
        if self.width % self.heads:
            raise ValueError("--width must be a multiple of --heads")


def stem(config: ViTConfig) -> nn.Module:
    """Convolutions: (N, 1, 64, 64) to (N, width, side, side)."""
    halvings = config.patch_size.bit_length() - 1
    widths = [max(8, config.width >> i) for i in reversed(range(halvings))]
    layers = [convolution(a, b, stride=2) for a, b in pairwise([1, *widths])]
    layers.insert(-1, convolution(widths[-2], widths[-2]))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Attention, then an MLP, each on normalised tokens (N, tokens, width) and added to them."""

    def __init__(self, config: ViTConfig, drop_path: float):
        super().__init__()
        self.heads = config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.project = nn.Linear(config.width, config.width)
        hidden = 4 * config.width
        # nn.Identity fills the slot of a dropout, so that the last layer stays `mlp.3` in weight files.
        self.mlp = nn.Sequential(
            nn.Linear(config.width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, config.width)
        )
        self.drop = StochasticDepth(drop_path)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Self-attention: (N, tokens, width) to the same."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # Written out: PyTorch's fused attention has a backward pass on the CPU that takes five times as long.
        share = (q @ k.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(dim=3)  # (N, heads, tokens, tokens)
        x = share @ v  # (N, heads, tokens, width / heads)
        return self.project(x.transpose(1, 2).reshape(n, tokens, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop(self.attend(self.norm_1(x)))
        return x + self.drop(self.mlp(self.norm_2(x)))


class VisionTransformer(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes)."""

    def __init__(self, config: ViTConfig, classes: str):
        super().__init__()
        self.stem = stem(config)
        self.position = nn.Parameter(0.02 * torch.randn(1, (CANVAS // config.patch_size) ** 2, config.width))
        drops = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.Sequential(*(Block(config, drop) for drop in drops))
        self.norm = nn.LayerNorm(config.width)
        self.embed = embedding(self.position.shape[1] * config.width, config.embedding)
        self.classify = nn.Linear(config.embedding, len(classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2) + self.position  # (N, tokens, width)
        return self.classify(self.embed(self.norm(self.blocks(tokens))))


ARCHITECTURE = Architecture("vit", ViTConfig, VisionTransformer)

if __name__ == "__main__":
    train(ARCHITECTURE)
