"""Stroke models of characters from KanjiVG (Ulrich Apel and contributors, CC BY-SA 3.0; PyPI package `kanjivg`).

A model is one way to write a character: its strokes as evenly spaced points and the parts (groups) they belong to.
Most kanji have several: the printed form, the written one (-Kaisho), and others.
"""

import importlib.metadata
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

POINTS = 33  # per stroke
BOX = 109  # side of KanjiVG's drawing square
ARC = 1.4  # radians: a stroke that turns less is a bent line
LONGEST_FLICK = 0.2  # in character sides: what is longer after a stroke's last corner belongs to the character
CORNER = 0.045  # how far, in character sides, a curve may leave the straight line before it gets a corner
VOICED = frozenset("がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽ")
HALF_VOICED = frozenset("ぱぴぷぺぽ")


@dataclass(frozen=True)
class StrokeModel:
    """strokes float32 (S, POINTS, 2) in [-0.5, 0.5], x right and y down; plain, the same strokes drawn with straight
    lines, point for point; groups bool (G, S), outer parts first;
    hooks (S,) the position in [0, 1] from which a stroke only flicks (1 where it has no hook);
    marks, how many strokes at the end are a voicing mark; written, whether it is the handwritten form.
    """

    strokes: np.ndarray
    plain: np.ndarray
    groups: np.ndarray
    hooks: np.ndarray
    marks: int
    written: bool


def kanjivg_folder() -> Path:
    """Where the package `kanjivg` keeps its SVG files."""
    try:
        folder = Path(str(importlib.metadata.distribution("kanjivg").locate_file("kanji")))
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError("the package kanjivg is missing: pip install -r requirements.txt") from None
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: pip install --force-reinstall kanjivg")
    return folder


@lru_cache
def _files_by_code_point() -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(kanjivg_folder().glob("*.svg")):
        files.setdefault(path.stem.split("-")[0], []).append(path)
    return files


def model_files(char: str) -> list[Path]:
    """The KanjiVG files of a character, the standard form first; raises KeyError for a character without one."""
    try:
        return sorted(_files_by_code_point()[f"{ord(char):05x}"], key=lambda path: (len(path.stem), path.stem))
    except KeyError:
        raise KeyError(f"KanjiVG has no strokes for {char} (U+{ord(char):04X})") from None


def _curves(path_data: str) -> list:
    """An SVG path as cubic Bézier curves, each four points (x, y)."""
    pen = RecordingPen()
    parse_path(path_data, pen)
    curves, here = [], (0.0, 0.0)
    for command, points in pen.value:
        if command == "lineTo":
            curves.append((here, here, points[0], points[0]))
        elif command == "curveTo":
            curves.append((here, *points))
        if points:
            here = points[-1]
    return curves


def flatten_paths(paths: list[str]) -> np.ndarray:
    """SVG paths, each as POINTS points evenly spaced along it: (len(paths), POINTS, 2)."""
    curves = [_curves(path) for path in paths]
    a, b, c, d = np.array([curve for path in curves for curve in path], float).transpose(1, 0, 2)[:, :, None]
    t = np.linspace(0, 1, 17)[:, None]
    dense = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d  # (curves, 17, 2)
    ends = np.cumsum([len(path) for path in curves])[:-1]
    flattened = []
    for stroke in np.split(dense, ends):
        points = stroke.reshape(-1, 2)
        length = np.zeros(len(points))
        np.cumsum(np.hypot(*np.diff(points, axis=0).T), out=length[1:])
        at = np.linspace(0, length[-1], POINTS)
        flattened.append(np.stack([np.interp(at, length, points[:, 0]), np.interp(at, length, points[:, 1])], axis=1))
    return np.array(flattened)


def _hook_starts(strokes: np.ndarray) -> np.ndarray:
    """Where the closing flick of each stroke (S, POINTS, 2) begins, as a share of its length; 1 if it has none.

    The bowl of わ, the loop of ね and the right side of 口 follow a corner too, and are none.
    """
    step = np.diff(strokes @ [1, 1j])
    turn = np.abs(np.angle(step[:, 1:] / (step[:, :-1] + 1e-9)))
    begin = int(0.6 * turn.shape[1])
    corner = begin + np.argmax(turn[:, begin:], axis=1)
    around = np.clip(corner[:, None] + [-1, 0, 1], 0, turn.shape[1] - 1)
    sharp = np.take_along_axis(turn, around, axis=1).sum(axis=1) > 0.9
    start = (corner + 1) / (strokes.shape[1] - 1)
    short = (1 - start) * np.abs(step).sum(axis=1) <= LONGEST_FLICK
    return np.where(sharp & short, start, 1.0)


def _plain(strokes: np.ndarray) -> np.ndarray:
    """Strokes (S, POINTS, 2) as straight lines: an arc becomes its chord, one that turns more a polygon through its
    corners (Douglas-Peucker). Each point stays at its share of the line between its corners."""
    step = np.diff(strokes @ [1, 1j])
    turning = np.abs(np.angle(step[:, 1:] / (step[:, :-1] + 1e-9)))[:, 2:-2].sum(axis=1)
    index = np.arange(POINTS)
    plain = np.empty_like(strokes)
    for stroke, turned, out in zip(strokes, turning, plain, strict=True):
        knots = np.array([0, POINTS - 1])
        if turned > ARC:
            kept = cv2.approxPolyDP(stroke[:, None].astype(np.float32), CORNER, False)[:, 0]
            knots = np.unique([0, POINTS - 1, *np.abs(stroke[:, None] - kept).sum(axis=2).argmin(axis=0)])
        out[:, 0], out[:, 1] = np.interp(index, knots, stroke[knots, 0]), np.interp(index, knots, stroke[knots, 1])
    return plain


def read_model(path: Path) -> StrokeModel:
    """One KanjiVG file as a stroke model."""
    root = ElementTree.parse(path).getroot().find("{*}g")
    strokes: list[str] = []
    groups: list[tuple[int, int]] = []

    def walk(node, depth):
        begin, place = len(strokes), len(groups)
        if depth:
            groups.append((begin, begin))
        for child in node:
            if child.tag.endswith("path"):
                strokes.append(child.get("d"))
            else:
                walk(child, depth + 1)
        if depth:
            groups[place] = (begin, len(strokes))

    walk(next(iter(root)), 0)
    points = (flatten_paths(strokes) / BOX - 0.5).astype(np.float32)
    count = len(strokes)
    spans = sorted({span for span in groups if span[1] - span[0] < count}, key=lambda span: span[0] - span[1])
    index = np.arange(count)
    parts = np.array([(index >= a) & (index < b) for a, b in spans], bool).reshape(len(spans), count)
    char = chr(int(path.stem.split("-")[0], 16))
    marks = (1 if char in HALF_VOICED else 2) if char in VOICED else 0
    return StrokeModel(points, _plain(points), parts, _hook_starts(points), marks, "Kaisho" in path.stem)


def stroke_models(char: str) -> list[StrokeModel]:
    """Every model of a character; files that only reorder the strokes of another count once."""
    models: list[StrokeModel] = []
    seen = set()
    for path in model_files(char):
        model = read_model(path)
        shape = np.sort(np.round(model.strokes.reshape(len(model.strokes), -1), 2).sum(axis=1)).tobytes()
        if shape not in seen:
            seen.add(shape)
            models.append(model)
    return models
