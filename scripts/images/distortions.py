"""How evaluate.py distorts images float32 (N, 1, 64, 64), ink 1, with the randomness of a generator."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

BLUR = 1.5  # standard deviation, pixels


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


def rotate(images: torch.Tensor, random: torch.Generator, degrees: float) -> torch.Tensor:
    """Each image turned by this angle about its middle, to the left or to the right by chance; paper comes in."""
    angles = math.radians(degrees) * torch.where(torch.rand(len(images), generator=random) < 0.5, 1.0, -1.0)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros(len(images))
    places = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3)
    return F.grid_sample(images, F.affine_grid(places, images.shape, align_corners=False), align_corners=False)


DISTORTIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "thin": thin,
    "thick": lambda images, _random: F.max_pool2d(images, 3, 1, 1),
    "blur": blur,
    "noise": lambda images, random: (images + 0.1 * torch.randn(images.shape, generator=random)).clamp(0, 1),
    "low contrast": lambda images, _random: 0.4 * images,
} | {f"rotation {degrees}°": partial(rotate, degrees=degrees) for degrees in (10, 20, 30)}
