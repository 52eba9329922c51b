"""KanjiVG's files (Ulrich Apel and contributors, CC BY-SA 3.0; PyPI package `kanjivg`), and their paths as points."""

import importlib.metadata
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

POINTS = 33  # per stroke
BOX = 109  # side of KanjiVG's drawing square


@lru_cache
def _files_by_code_point() -> dict[str, list[Path]]:
    folder = Path(str(importlib.metadata.distribution("kanjivg").locate_file("kanji")))
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.svg"), key=lambda path: (len(path.stem), path.stem)):
        files.setdefault(path.stem.split("-")[0], []).append(path)
    return files


def has_strokes(char: str) -> bool:
    return f"{ord(char):05x}" in _files_by_code_point()


def model_files(char: str) -> list[Path]:
    """The KanjiVG files of a character, the standard form first; raises KeyError for a character without one."""
    if not has_strokes(char):
        raise KeyError(f"KanjiVG has no strokes for {char} (U+{ord(char):04X})")
    return _files_by_code_point()[f"{ord(char):05x}"]


def _curves(path_data: str) -> list:
    """A path as cubic Bézier curves, each four points (x, y); KanjiVG has no other kind of line."""
    pen = RecordingPen()
    parse_path(path_data, pen)
    steps = [points for _, points in pen.value if points]
    return [(before[-1], *points) for before, points in pairwise(steps)]


def flatten_paths(paths: list[str]) -> np.ndarray:
    """SVG paths, each as POINTS points evenly spaced along it: (len(paths), POINTS, 2)."""
    curves = [_curves(path) for path in paths]
    a, b, c, d = np.array([curve for path in curves for curve in path], float).transpose(1, 0, 2)[:, :, None]
    t = np.linspace(0, 1, 17)[:, None]
    dense = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t**3 * d  # (curves, 17, 2)
    # All paths are one line here, which is interpolated once; the step from each path to the next has the length 1.
    line, ends = dense.reshape(-1, 2), len(t) * np.cumsum([len(path) for path in curves])
    steps = np.hypot(*np.diff(line, axis=0).T)
    steps[ends[:-1] - 1] = 1
    length = np.append(0, steps.cumsum())
    begin = length[np.append(0, ends[:-1])]
    at = begin[:, None] + np.linspace(0, 1, POINTS) * (length[ends - 1] - begin)[:, None]
    return np.stack([np.interp(at, length, way) for way in line.T], axis=2)


def evenly_spaced(line: np.ndarray, begin: float = 0, end: float = 1) -> np.ndarray:
    """A line (n, 2) between two shares of its length as POINTS points, evenly spaced along it."""
    x, y = line.T
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    at = np.linspace(begin * length[-1], end * length[-1], POINTS)
    return np.stack([np.interp(at, length, x), np.interp(at, length, y)], axis=1)


def kanjivg_version() -> str:
    return importlib.metadata.version("kanjivg")
