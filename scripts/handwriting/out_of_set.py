"""Pictures of what is none of a model's characters, drawn by made-up writers, to measure whether it notices."""

import numpy as np

from characters.kinds import KATAKANA, LATIN, level_2
from characters.same_shape import twins
from handwriting.page import to_frame, write_character
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.writer import new_writer
from images.normalization import normalize_frames
from records.etl9g import IMAGE_HEIGHT, IMAGE_WIDTH
from structure.kanjivg import POINTS, has_strokes

KINDS = ("katakana", "Latin", "level 2", "scribbles", "blank")  # Latin letters with digits; blank paper with its dirt


def characters_of(kind: str, classes: str) -> list[str]:
    """The characters of a kind that KanjiVG has, without the classes and what has the shape of one."""
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


def out_of_set_samples(kind: str, classes: str, count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Normalised images float32 (count, 1, 64, 64) of a kind; of each the character shown, "" where it is none."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    frames, shown = np.zeros((count, IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8), []
    pool = characters_of(kind, classes) if kind in KINDS[:3] else []
    for frame in frames:
        writer = new_writer(random)
        char = str(random.choice(pool)) if pool else ""
        if kind == "blank":
            frame[:] = to_frame(np.zeros(frame.shape, np.uint8), writer, random)
        else:
            models = stroke_models(char) if char else [scribble(random)]
            frame[:] = write_character(char or "\u3400", models, writer, random)  # a scribble is written as a kanji
        shown.append(char)
    return normalize_frames(frames)[:, None].astype(np.float32) / 255, shown
