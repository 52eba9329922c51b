"""The ways in which evaluate.py distorts images, to measure how much worse they are then read.

Each takes images float32 (N, 1, 64, 64), ink 1 on paper 0, and a random generator, and returns such images; the same
state of the generator gives the same images.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

BLUR = 1.5  # standard deviation, pixels
NOISE = 0.1  # standard deviation
CONTRAST = 0.4  # what is left of it


def thicken(images: torch.Tensor, _random: torch.Generator) -> torch.Tensor:
    """Strokes a pixel thicker on either side."""
    return F.max_pool2d(images, 3, 1, 1)


def thin(images: torch.Tensor, _random: torch.Generator) -> torch.Tensor:
    """Strokes up to a pixel thinner on either side, down to their ridge, which stays."""
    ridge = 1.5 * images - 0.5 * F.max_pool2d(images, 3, 1, 1) - 0.2
    return torch.maximum(ridge.clamp(min=0), -F.max_pool2d(-images, 3, 1, 1))


def blur(images: torch.Tensor, _random: torch.Generator) -> torch.Tensor:
    reach = round(3 * BLUR)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / BLUR) ** 2)
    weights /= weights.sum()
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def add_noise(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    return (images + NOISE * torch.randn(images.shape, generator=random)).clamp(0, 1)


def fade(images: torch.Tensor, _random: torch.Generator) -> torch.Tensor:
    return CONTRAST * images


def rotate(images: torch.Tensor, random: torch.Generator, degrees: float) -> torch.Tensor:
    """Each image turned by this angle about its middle, to the left or to the right by chance; paper comes in."""
    angle = math.radians(degrees)
    angles = torch.where(torch.rand(len(images), generator=random) < 0.5, angle, -angle)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros(len(images))
    places = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(places, images.shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


DISTORTIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "thin": thin,
    "thick": thicken,
    "blur": blur,
    "noise": add_noise,
    "low contrast": fade,
    "rotation 10°": partial(rotate, degrees=10),
    "rotation 20°": partial(rotate, degrees=20),
    "rotation 30°": partial(rotate, degrees=30),
}
