"""Pictures such as people have them, uint8 (H, W, C), to prove on that two ways of reading a picture agree: any shape,
either polarity, faint to strong, shaded, noisy, blurred, in frames, on ruled paper, beside a neighbour and the like;
grey, RGB, and RGBA with paper or without."""

from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from handwriting.strokes import read_model
from images.reading import over_paper
from images.surroundings import SURROUNDINGS
from structure.kanjivg import has_strokes, model_files

CHANNELS = (1, 3, 4)
SURROUNDED = 0.4  # the share of them with something around the character
HARDEST = 0.35  # shares of noise and shade in what ink and paper differ by


def drawn(strokes: np.ndarray, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Ink float32 (height, width), 0 to 1: the strokes (S, P, 2), in [-0.5, 0.5], turned, sheared, put somewhere."""
    change, share = np.eye(2) + random.normal(0, 0.07, (2, 2)), random.uniform(0.45, 0.95)
    size = np.array([width, height])
    points = strokes @ change * (share * size) + size * (0.5 + random.uniform(-0.5, 0.5, 2) * (0.95 - share))
    pen = max(1, round(min(height, width) * share * random.uniform(0.01, 0.09)))
    canvas = np.zeros((height, width), np.uint8)
    cv2.polylines(canvas, list(np.round(points * 16).astype(np.int32)), False, 255, pen, cv2.LINE_AA, 4)
    if random.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), random.uniform(0.3, max(0.4, 0.4 * pen)))
    return canvas.astype(np.float32) / 255


def coloured(ink: np.ndarray, channels: int, random: np.random.Generator) -> np.ndarray:
    """Ink (H, W) as a picture uint8 (H, W, 1 or 3): dark on light or light on dark, shaded, noisy."""
    contrast = random.uniform(40, 255)
    dark = random.uniform(0, 255 - contrast)
    colours = np.clip(dark + np.array([[contrast], [0]]) + random.normal(0, 8, (2, channels)), 0, 255)
    paper, pen = colours if random.random() < 0.6 else colours[::-1]
    picture = paper + ink[:, :, None] * (pen - paper)
    y, x = random.uniform(-0.5, 0.5, 2) * contrast * HARDEST * (random.random() < 0.5)
    shade = np.linspace(-y, y, len(ink))[:, None] + np.linspace(-x, x, ink.shape[1])
    noise = random.normal(0, 1, picture.shape) * random.uniform(0, contrast * HARDEST / 3) * (random.random() < 0.6)
    return np.clip(picture + shade[:, :, None] + noise + 0.5, 0, 255).astype(np.uint8)


def surrounded(ink: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Ink (H, W), 0 to 1, with something around it, or by another pen."""
    drawing, name = np.uint8(255 - 255 * ink), random.choice(list(SURROUNDINGS))
    return 1 - SURROUNDINGS[name](drawing, random, drawing[::-1]).astype(np.float32) / 255


def varied_picture(strokes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One picture uint8 (H, W, C) of a character, its longer side 12 to 700 pixels."""
    longer = round(np.exp(random.uniform(np.log(12), np.log(700))))
    shorter = max(1, round(longer * (random.uniform(0.6, 1) if random.random() < 0.85 else random.uniform(0.03, 0.6))))
    height, width = (longer, shorter) if random.random() < 0.5 else (shorter, longer)
    ink, channels = drawn(strokes, height, width, random), int(random.choice(CHANNELS))
    if min(ink.shape) > 20 and random.random() < SURROUNDED:
        ink = surrounded(ink, random)
    picture = coloured(ink, min(channels, 3), random)
    if channels < 4:
        return picture
    if random.random() < 0.5:  # a drawing without paper
        picture[:] = random.integers(0, 256, 3)
    opacity = ink if random.random() < 0.5 else np.ones_like(ink)
    return np.dstack([picture, np.round(255 * opacity).astype(np.uint8)])


def borderline_pictures() -> list[np.ndarray]:
    """Pictures without ink, of a single pixel, or of little more than a line: uint8 (H, W, C)."""
    random = np.random.default_rng(0)
    pictures = [np.full((*size, c), v, np.uint8) for c in CHANNELS for v in (0, 255) for size in ((1, 1), (90, 60))]
    for height, width in ((1, 2), (1, 400), (300, 1), (2, 2), (3, 70), (1000, 8), (257, 256)):
        line = np.full((height, width, 1), 255, np.uint8)
        line[height // 3, width // 4 : width // 4 + max(1, width // 2)] = 0
        pictures += [line, random.integers(0, 256, (height, width, 3)).astype(np.uint8)]
    return pictures


def varied_pictures(characters: str, count: int) -> Iterator[np.ndarray]:
    """`count` pictures uint8 (H, W, C), always the same: the borderline ones, then characters."""
    random, borderline = np.random.default_rng(0), borderline_pictures()
    yield from borderline[:count]
    picked = random.choice(list(characters), min(len(characters), count), replace=False)
    strokes = [read_model(model_files(char)[0]).strokes for char in list(filter(has_strokes, picked)) or "永"]
    for number in range(count - len(borderline)):
        yield varied_picture(strokes[number % len(strokes)], random)


def grey_of(picture: np.ndarray) -> np.ndarray:
    """Grey uint8 (H, W) of a picture uint8 (H, W, 1, 3 or 4), by Pillow, as recognize.py reads a file of it."""
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    return np.asarray((over_paper(image) if image.mode == "RGBA" else image).convert("L"))
