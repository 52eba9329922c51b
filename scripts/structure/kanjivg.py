"""TODO doc: from kanjivg_strokes, character_structure"""

import importlib.metadata
from functools import lru_cache
from pathlib import Path

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

POINTS = 33  # per stroke
BOX = 109  # side of KanjiVG's drawing square


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


def kanjivg_version() -> str:
    return importlib.metadata.version("kanjivg")
