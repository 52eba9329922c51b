"""Reads a map of features as a sequence and names the components it finds on the way."""

import torch
from torch import nn


class RadicalReader(nn.Module):
    """A bidirectional LSTM over the positions of a map (N, channels, H, W), row by row.

    Returns the states (N, H W, 2 hidden) and, for every position, logits (N, H W, components + 1), first "nothing".
    """

    def __init__(self, channels: int, hidden: int, components: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.name = nn.Linear(2 * hidden, components + 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.lstm(features.flatten(2).transpose(1, 2))
        return states, self.name(states)
