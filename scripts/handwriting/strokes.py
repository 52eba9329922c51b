"""Stroke models from KanjiVG: ways to write a character. Most kanji have several, such as printed and written."""

import unicodedata
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from characters.kinds import kind_of
from structure.kanjivg import BOX, POINTS, flatten_paths, has_strokes, model_files
from structure.trees import group_tree

ARC = 1.4  # radians: a stroke that turns less is a bent line
LONGEST_FLICK = 0.2  # in character sides: what is longer after a stroke's last corner belongs to the character
CORNER = 0.045  # how far, in character sides, a curve may leave the straight line before it gets a corner
_SHARES = np.linspace(0, 1, POINTS)
UNUSUAL = 0.5  # in sides of a component's box: a stroke that starts or ends so far from where it usually does
USUAL = {"𠂊": "角", "𠂉": "気", "龶": "害", "竹": "笑", "牛": "物", "龰": "起"}  # that stand not alone, or otherwise
MARKS = {"\u3099": 2, "\u309a": 1}  # strokes of the voicing marks, by their combining characters


@dataclass(frozen=True)
class StrokeModel:
    """One way to write a character, as S strokes of POINTS points evenly spaced."""

    strokes: np.ndarray  # float32 (S, POINTS, 2) in [-0.5, 0.5], x right and y down
    plain: np.ndarray  # the same strokes drawn with straight lines, point for point
    groups: np.ndarray  # the parts, bool (G, S), outer ones first
    hooks: np.ndarray  # (S,) the position in [0, 1] from which a stroke only flicks, 1 where it has no hook
    marks: int  # how many strokes at the end are a voicing mark
    written: bool  # whether it is the handwritten form
    joined: np.ndarray  # bool (S,) strokes written in one with the next
    # What it is built of, itself first: element, position in KanjiVG ("whole" for itself), the numbers of its strokes.
    components: tuple[tuple[str, str | None, tuple[int, ...]], ...] = ()


def cut_strokes(strokes: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Strokes (S, POINTS, 2) between these shares (S,) of their lengths, as POINTS points again."""
    at = (begin[:, None] + (end - begin)[:, None] * _SHARES) * (POINTS - 1)
    low = np.minimum(at.astype(np.int64), POINTS - 2)
    share = (at - low).astype(np.float32)[..., None]
    low += POINTS * np.arange(len(strokes))[:, None]
    points = strokes.reshape(-1, 2)
    before = points.take(low, axis=0)
    return before + share * (points.take(low + 1, axis=0) - before)


def hook_starts(strokes: np.ndarray) -> np.ndarray:
    """Where the closing flick of each stroke (S, POINTS, 2) begins, as a share of its length; 1 if it has none. The
    bowl of わ, the loop of ね and the right side of 口 follow a corner too, and are none."""
    step = np.diff(strokes @ [1, 1j])
    turn = np.abs(np.angle(step[:, 1:] / (step[:, :-1] + 1e-9)))
    begin = int(0.6 * turn.shape[1])
    corner = begin + np.argmax(turn[:, begin:], axis=1)
    around = np.clip(corner[:, None] + [-1, 0, 1], 0, turn.shape[1] - 1)
    sharp = np.take_along_axis(turn, around, axis=1).sum(axis=1) > 0.9
    start = (corner + 1) / (strokes.shape[1] - 1)
    short = (1 - start) * np.abs(step).sum(axis=1) <= LONGEST_FLICK
    return np.where(sharp & short, start, 1.0)


def plain_strokes(strokes: np.ndarray) -> np.ndarray:
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
    whole = ElementTree.parse(path).getroot().find("{*}g/{*}g")
    strokes = whole.findall(".//{*}path")
    points = (flatten_paths([stroke.get("d") for stroke in strokes]) / BOX - 0.5).astype(np.float32)
    index, count = np.arange(len(strokes)), len(strokes)
    groups = [group.findall(".//{*}path") for group in whole.findall(".//{*}g")]
    begins = [strokes.index(group[0]) for group in groups]
    spans = {(a, a + len(group)) for a, group in zip(begins, groups, strict=True) if len(group) < count}
    parts = [(index >= a) & (index < b) for a, b in sorted(spans, key=lambda span: span[0] - span[1])]
    char = chr(int(path.stem.split("-")[0], 16))
    marks = MARKS.get(unicodedata.normalize("NFD", char)[-1], 0)
    parts = np.array(parts, bool).reshape(len(parts), count)
    written = "Kaisho" in path.stem
    components = _components(char, whole, points, marks)
    plain, hooks = plain_strokes(points), hook_starts(points)
    return StrokeModel(points, plain, parts, hooks, marks, written, np.zeros(count, bool), components)


def _components(char: str, whole: ElementTree.Element, points: np.ndarray, marks: int) -> tuple:
    """A character itself and what it is built of: a kana without its voicing mark, and that mark. A component whose
    strokes are in another order or shape than they usually are is left out."""
    count = len(points)
    itself = char, "whole", tuple(range(count - marks))
    if kind_of(char) != "kanji":
        return (itself, ("゛゜"[marks == 1], None, tuple(range(count - marks, count)))) if marks else (itself,)
    components: dict[tuple, None] = {}
    groups = group_tree(whole)[0].groups()[1:]
    for element, position, strokes in [itself, *((g.element, g.position, g.all_strokes()) for g in groups)]:
        usual = _usual_ends(element, len(strokes)) if element else None
        if usual is not None and np.hypot(*(_ends(points[sorted(strokes)]) - usual).T).max() < UNUSUAL:
            components[element, position, tuple(sorted(strokes))] = None
    return tuple(components)


def _ends(points: np.ndarray) -> np.ndarray:
    """Where strokes (S, POINTS, 2) start and end in the box around them, (S, 2, 2) in the unit square."""
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    return (points[:, [0, -1]] - low) / np.maximum(high - low, 0.05)


@cache
def _usual_ends(element: str, count: int) -> np.ndarray | None:
    """The ends of a component's strokes as it stands alone, or in another character; None if KanjiVG lacks it."""
    char = USUAL.get(element, element)
    if len(char) > 1 or not has_strokes(char):  # some components have only a name
        return None
    whole = ElementTree.parse(model_files(char)[0]).getroot().find("{*}g/{*}g")
    top, paths = group_tree(whole)
    found = [sorted(g.all_strokes()) for g in top.groups() if g.element == element and len(g.all_strokes()) == count]
    return _ends(flatten_paths([paths[i] for i in found[0]]) / BOX) if found else None


@cache
def stroke_models(char: str) -> list[StrokeModel]:
    """Every model of a character; files that only reorder the strokes of another count once."""
    models: dict[bytes, StrokeModel] = {}
    for path in model_files(char):
        model = read_model(path)
        shape = np.sort(np.round(model.strokes.reshape(len(model.strokes), -1), 2).sum(axis=1)).tobytes()
        models.setdefault(shape, model)
    return list(models.values())
