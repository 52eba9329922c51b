"""Training-time variety for a whole batch at once, on its device: warp, stroke width, blur, erasing, noise."""

import torch
import torch.nn.functional as F

from images.normalization import SOLID

ROTATION = 0.13  # radians, standard deviation
SHEAR = 0.12
STRETCH = 0.10  # of the logarithm of each axis's scale
SIZE = 0.04
SHIFT = 0.035  # of half the side
ELASTIC = 0.07  # displacement of the grid's knots, of half the side
KNOTS = 6  # of the elastic grid, each way
PERSPECTIVE = 0.06
BLURRED = 0.25  # share of the images that are softened, by up to BLUR_STEPS passes of [1 2 1] / 4 each way
BLUR_STEPS = 4  # a pass blurs like a Gaussian of variance 1/2: four like one of 1.4 pixels
ERASED = 0.15  # share of the images with a patch rubbed out
NOISE = 0.12  # at most, of the range from paper to ink
NOISE_FIELDS = 16  # drawn per batch; an image takes one of them at its own level


def bicubic(side: int, device: torch.device) -> torch.Tensor:
    """The weights (side, KNOTS) of bicubic interpolation: each pixel's of the knots, the first and last at the ends."""
    knots = torch.eye(KNOTS, device=device)[:, None, :, None]
    return F.interpolate(knots, (side, 1), mode="bicubic", align_corners=True)[:, 0, :, 0].T


def warp(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Images (N, 1, H, W) under a random affine, perspective and elastic warp each, in one resampling."""
    n, _, height, width = images.shape

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn((n, *shape), device=images.device)

    angle, shear, size = strength * ROTATION * normal(), strength * SHEAR * normal(), strength * SIZE * normal()
    stretch = strength * STRETCH * normal(2)
    scale_x, scale_y = torch.exp(stretch[:, 0] + size), torch.exp(stretch[:, 1] + size)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = strength * SHIFT * normal(2, 1)
    matrix = [cos * scale_x, (shear * cos - sin) * scale_y, sin * scale_x, (shear * sin + cos) * scale_y]
    centres = F.affine_grid(torch.eye(2, 3, device=images.device)[None], [1, 1, height, width], align_corners=False)
    # The coordinates lie in two planes, x and y: in pairs, as affine_grid makes them for a batch, this is far slower.
    planes = torch.stack(matrix, dim=1).view(n, 2, 2) @ centres.view(-1, 2).T + shift
    bend = strength * ELASTIC * normal(2, KNOTS, KNOTS)
    bend = bicubic(height, images.device) @ bend @ bicubic(width, images.device).T
    tilt = strength * PERSPECTIVE * normal(1, 2)
    planes = torch.addcmul(bend.flatten(2), planes, 1 + tilt @ planes)
    grid = planes.view(n, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _spread(images: torch.Tensor, choose) -> torch.Tensor:
    """`choose` (maximum or minimum) of every pixel and its eight neighbours; what lies outside does not count."""
    rows = images.clone()
    rows[:, :, 1:] = choose(rows[:, :, 1:], images[:, :, :-1])
    rows[:, :, :-1] = choose(rows[:, :, :-1], images[:, :, 1:])
    both = rows.clone()
    both[..., 1:] = choose(both[..., 1:], rows[..., :-1])
    both[..., :-1] = choose(both[..., :-1], rows[..., 1:])
    return both


def thicken_or_thin(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Strokes of each image (N, 1, H, W) drawn up to a pixel thicker on either side, or thinner down to a hair."""
    amount = (strength * (2.2 * torch.rand((len(images), 1, 1, 1), device=images.device) - 1.5)).clamp(-1, 1)
    thick = _spread(images, torch.maximum)
    # Ink that a darker neighbour covers may go, the ridge of a stroke may not.
    thin = torch.maximum((1.5 * images - 0.5 * thick - 0.2).clamp(min=0), _spread(images, torch.minimum))
    return torch.where(amount > 0, torch.lerp(images, thick, amount.clamp(min=0)), torch.lerp(images, thin, -amount))


def soften(images: torch.Tensor, strength: float) -> torch.Tensor:
    """The images (N, 1, H, W), some of them blurred, as out of focus or enlarged from a small picture.

    A batch is in random order, so its first images are as good as any others.
    """
    count = round(BLURRED * min(strength, 1) * len(images))
    for step in range(BLUR_STEPS):
        part = images[: count * (BLUR_STEPS - step) // BLUR_STEPS]
        high = F.pad(part, (0, 0, 1, 1))
        high = high[:, :, :-2] + 2 * high[:, :, 1:-1] + high[:, :, 2:]
        both = F.pad(high, (1, 1))
        images = torch.cat([(both[..., :-2] + 2 * both[..., 1:-1] + both[..., 2:]) / 16, images[len(part) :]])
    return images


def stretch(images: torch.Tensor) -> torch.Tensor:
    """What the input contract does last: darkness scaled so that its self-weighted mean is SOLID, clipped to [0, 1]."""
    mean = images.square().sum(dim=(1, 2, 3), keepdim=True) / images.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    return (images * (SOLID / mean.clamp(min=1e-6))).clamp(max=1)


def erase(images: torch.Tensor, strength: float) -> torch.Tensor:
    """A random rectangle of some images (N, 1, H, W) becomes paper."""
    height, width = images.shape[2:]
    u = torch.rand((len(images), 5), device=images.device)
    half = 0.04 + 0.08 * u[:, 2:4]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = (x - u[:, :1]).abs() < half[:, :1]
    inside_y = (y - u[:, 1:2]).abs() < half[:, 1:]
    hit = (u[:, 4] < ERASED * strength)[:, None, None]
    return images * ~(hit & inside_y[:, :, None] & inside_x[:, None, :])[:, None]


def augment(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Images float (N, 1, H, W) in [0, 1], varied; strength 0 returns them unchanged."""
    if strength == 0:
        return images
    n, device = len(images), images.device
    images = stretch(soften(thicken_or_thin(warp(images, strength), strength), strength))
    contrast = 1 + strength * 0.3 * (torch.rand((n, 1, 1, 1), device=device) - 0.6)
    level = strength * NOISE * torch.rand((n, 1, 1, 1), device=device)
    fields = torch.randn(NOISE_FIELDS, *images.shape[1:], device=device)
    noise = fields[torch.randint(NOISE_FIELDS, (n,), device=device)]
    return torch.addcmul(erase(images, strength) * contrast, level, noise).clamp_(0, 1)
