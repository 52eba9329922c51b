"""Pictures of what is none of a model's characters, drawn by made-up writers: it shall notice."""

import cv2
import numpy as np

from characters.kinds import KATAKANA, LATIN, level_2
from characters.same_shape import twins
from handwriting.fonts import Glyphs, draw_glyph
from handwriting.page import draw_character, to_frame
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.writer import Writer, new_writer
from images.normalization import CANVAS, normalize, normalize_frames
from records.etl9g import DARKEST, IMAGE_HEIGHT, IMAGE_WIDTH
from structure.kanjivg import POINTS, has_strokes

# Latin letters with digits; blank paper with its dirt; two of the model's own characters; the grain of blank paper.
KINDS = ("katakana", "Latin", "level 2", "scribbles", "blank", "two characters", "grain")


def characters_of(kind: str, classes: str) -> list[str]:
    """The characters of a kind that KanjiVG has, without the classes and what has the shape of one. For "two
    characters" these are the classes themselves; for kinds that show no character there are none."""
    if kind not in KINDS[:3]:
        return [char for char in classes if has_strokes(char)] if kind == "two characters" else []
    pool = {"katakana": KATAKANA, "Latin": LATIN, "level 2": level_2()}[kind]
    excluded = set(classes).union(*map(twins, classes))
    return [char for char in pool if char not in excluded and has_strokes(char)]


def kinds_outside(classes: str) -> list[str]:
    """The KINDS of which there is anything outside these classes."""
    return [kind for kind in KINDS if kind not in KINDS[:3] or characters_of(kind, classes)]


def scribble(random: np.random.Generator) -> StrokeModel:
    """One to six strokes that wander about."""
    count = int(random.integers(1, 7))
    steps = random.normal(0, 1, (count, POINTS, 2))
    smooth = np.exp(-0.5 * ((np.arange(POINTS)[:, None] - np.arange(POINTS)) / random.uniform(2, 8)) ** 2)
    strokes = smooth @ steps
    strokes -= strokes.mean(axis=1, keepdims=True)
    strokes *= random.uniform(0.1, 0.45, (count, 1, 1)) / np.abs(strokes).max(axis=(1, 2), keepdims=True)
    strokes = (strokes + random.uniform(-0.25, 0.25, (count, 1, 2))).astype(np.float32)
    return StrokeModel(strokes, strokes, np.zeros((0, count), bool), np.ones(count), 0, False, np.zeros(count, bool))


def grain(random: np.random.Generator) -> np.ndarray:
    """Blank paper, grey float32 (H, W), as a camera sees it: noise of any softness, in uneven light."""
    height, width = random.integers(80, 300, 2)
    noise = random.standard_normal((height, width)).astype(np.float32)
    if random.random() < 2 / 3:
        noise = cv2.GaussianBlur(noise, (0, 0), random.uniform(0.7, 3))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    light = random.uniform(-6, 6) * x / width + random.uniform(-6, 6) * y / height
    return np.clip(random.uniform(150, 250) + random.uniform(1, 12) * (noise / noise.std() + light), 0, 255)


def _written(char: str, writer: Writer, glyphs: Glyphs | None, random: np.random.Generator) -> np.ndarray:
    """A frame with a character, or without one a scribble, which is written as a kanji."""
    if glyphs and char and glyphs.has(char):
        return to_frame(draw_glyph(char, glyphs, writer, random), writer, random)
    models = stroke_models(char) if char else [scribble(random)]
    return to_frame(draw_character(char or "\u3400", models, writer, random), writer, random)


def out_of_set_sample(
    kind: str, pool: list[str], hand: tuple[Writer, Glyphs | None], random: np.random.Generator
) -> tuple[np.ndarray, str]:
    """A normalised image uint8 (64, 64) of a kind, by a writer who may copy a font, and the character shown: one of
    characters_of(kind), "" where it is none or two."""
    if kind == "grain":
        return np.uint8(normalize(grain(random))[0] * 255 + 0.5), ""
    chars = [str(random.choice(pool)) for _ in range(1 + (kind == "two characters"))] if pool else [""]
    if kind == "blank":
        frames = [to_frame(np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8), hand[0], random)]
    else:
        frames = [_written(char, *hand, random) for char in chars]
    if len(frames) == 1:
        return normalize_frames(frames[0][None])[0], chars[0]
    beside = np.concatenate(frames, axis=int(random.integers(2)))
    return np.uint8(normalize(255 - beside * np.float32(255 / DARKEST))[0] * 255 + 0.5), ""


def out_of_set_samples(kind: str, classes: str, count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Normalised images float32 (count, 1, 64, 64) of a kind; of each the character shown, "" where it is none."""
    random, pool = np.random.default_rng([seed, KINDS.index(kind)]), characters_of(kind, classes)
    images, shown = np.zeros((count, CANVAS, CANVAS), np.uint8), []
    for image in images:
        image[:], char = out_of_set_sample(kind, pool, (new_writer(random), None), random)
        shown.append(char)
    return images[:, None].astype(np.float32) / 255, shown
