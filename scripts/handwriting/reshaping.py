"""A stroke model in the forms in which a writer writes its components: the verbs of the table of forms."""

import dataclasses

import numpy as np

from handwriting.forms import NEUTRAL, Change, Form, chosen_forms
from handwriting.strokes import StrokeModel, hook_starts, plain_strokes
from handwriting.writer import Writer
from structure.kanjivg import POINTS, evenly_spaced

DEGREE = (0.65, 0.5)  # how far a change goes: at least, and how much further at most
_T = np.linspace(0, 1, POINTS)[:, None]


def in_forms_of(writer: Writer, model: StrokeModel, rng: np.random.Generator) -> StrokeModel:
    """A model with the forms that a writer uses for it and for its components, each a little different each time."""
    chosen = [
        (form, strokes)
        for char, position, strokes in model.components
        for form in chosen_forms(char, position, len(strokes), writer)
    ]
    return reshaped(model, chosen, DEGREE[0] + DEGREE[1] * rng.random()) if chosen else model


def reshaped(model: StrokeModel, chosen: list[tuple[Form, tuple[int, ...]]], degree: float = 1) -> StrokeModel:
    """A model with its components, named by their strokes, in these forms. What an outer component's form has drawn
    anew stays so."""
    lines: list[list[np.ndarray]] = [[stroke] for stroke in model.strokes]
    joined, changed, redrawn = model.joined.copy(), set(), set()
    for form, strokes in chosen:
        concerned = {strokes[number] for change in form.changes for number in change.strokes}
        if concerned & redrawn:
            continue
        own = model.strokes[list(strokes)].reshape(-1, 2)
        low, size = own.min(axis=0), np.ptp(own, axis=0)
        for change in form.changes:
            numbers = [strokes[number] for number in change.strokes]
            if change.verb == "join":
                joined[numbers] = True
                continue
            changed.update(numbers)
            if change.verb in ("draw", "drop"):
                redrawn.update(numbers)
                drawn = [evenly_spaced(low + line * size).astype(np.float32) for line in change.numbers]
                for place, number in enumerate(numbers):
                    last = place == len(numbers) - 1
                    lines[number] = drawn[place:] if last else drawn[place : place + 1]
            else:
                points = np.array([lines[number][0] for number in numbers])
                for number, line in zip(numbers, _VERBS[change.verb](points, *_amount(change, degree, size)), strict=True):
                    lines[number] = [line.astype(np.float32)]
    return _with_lines(model, lines, joined, changed)


def _amount(change: Change, degree: float, size: np.ndarray) -> np.ndarray:
    """The numbers of a change to this degree, places as parts of the character instead of hundredths of the box."""
    neutral = np.array(NEUTRAL.get(change.verb, ()))
    numbers = neutral + degree * (change.numbers - neutral)
    return numbers * size / 100 if change.verb in ("move", "start", "end") else numbers


def _with_lines(model: StrokeModel, lines: list[list[np.ndarray]], joined: np.ndarray, changed: set[int]) -> StrokeModel:
    """A model with other lines, some or none, in the place of each of its strokes."""
    source = np.array([number for number, own in enumerate(lines) for _ in own])
    strokes = np.array([line for own in lines for line in own])
    plain, hooks = model.plain[source], model.hooks[source]
    if changed:
        new = np.isin(source, list(changed))
        plain[new], hooks[new] = plain_strokes(strokes[new]), hook_starts(strokes[new])
    last = np.append(source[1:] != source[:-1], True)  # of the lines in a stroke's place; it joins the next stroke's
    return dataclasses.replace(
        model,
        strokes=strokes,
        plain=plain,
        groups=model.groups[:, source],
        hooks=hooks,
        marks=int((source >= len(lines) - model.marks).sum()),
        joined=joined[source] & last,
    )


def _middle(points: np.ndarray) -> np.ndarray:
    flat = points.reshape(-1, 2)
    return (flat.min(axis=0) + flat.max(axis=0)) / 2


def _turned(points: np.ndarray, angle: float, middle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return middle + (points - middle) @ np.array([[cos, sin], [-sin, cos]])


def _level(points: np.ndarray, share: float) -> np.ndarray:
    """Each stroke turned about its middle until its ends are level, or a share of the way."""
    chords = points[:, -1] - points[:, 0]
    angles = -share * np.arctan2(chords[:, 1], np.abs(chords[:, 0])) * np.where(chords[:, 0] < 0, -1, 1)
    return np.array([_turned(p, angle, _middle(p)) for p, angle in zip(points, angles, strict=True)])


def _bend(points: np.ndarray, share: float) -> np.ndarray:
    chords = (points[:, -1] - points[:, 0]) @ np.array([[0, 1], [-1, 0]])
    return points + share * (4 * _T * (1 - _T))[None] * chords[:, None]


def _straighten(points: np.ndarray, share: float) -> np.ndarray:
    chords = points[:, :1] + _T * (points[:, -1:] - points[:, :1])
    return points + min(share, 1) * (chords - points)


def _trim(points: np.ndarray, begin: float, end: float) -> np.ndarray:
    return np.array([evenly_spaced(line, max(begin, 0), min(end, 1)) for line in points])


def _unhook(points: np.ndarray) -> np.ndarray:
    ends = hook_starts(points)
    return np.array([evenly_spaced(line, 0, end) for line, end in zip(points, ends, strict=True)])


_VERBS = {
    "move": lambda points, x, y: points + (x, y),
    "scale": lambda points, x, y: _middle(points) + (points - _middle(points)) * (x, y),
    "turn": lambda points, degrees: _turned(points, np.radians(degrees), _middle(points)),
    "level": _level,
    "straighten": _straighten,
    "bend": _bend,
    "trim": _trim,
    "unhook": _unhook,
    "start": lambda points, x, y: points + (1 - _T) * (x, y),
    "end": lambda points, x, y: points + _T * (x, y),
}
