"""A stroke model in the forms in which a writer writes its components: the verbs of the table of forms."""

import dataclasses

import numpy as np

from handwriting.forms import MEASURED, NEUTRAL, Change, Form, chosen_forms
from handwriting.strokes import StrokeModel, cut_strokes
from handwriting.writer import Writer
from structure.kanjivg import POINTS

DEGREE = (0.65, 0.5)  # how far a change goes: at least, and how much further at most
_T = np.linspace(0, 1, POINTS, dtype=np.float32)[:, None]
_ARCH = 4 * _T * (1 - _T)


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
    stays so."""
    lines = np.stack([model.strokes, model.plain])  # (2, S, POINTS, 2)
    hooks, joined = model.hooks.copy(), model.joined.copy()
    drawn: dict[int, list] = {}  # by the stroke in whose place it is drawn: lines (2, POINTS, 2), each with its hook
    for form, strokes in chosen:
        if drawn and not drawn.keys().isdisjoint(strokes[number] for number in form.strokes):
            continue
        box = _box(model.strokes[list(strokes)]) if form.measured else None
        for change in form.changes:
            numbers = [strokes[number] for number in change.strokes]
            if change.verb == "draw":
                placed = [(box[0] + line * box[1], hook) for line, hook in change.numbers]
                drawn |= {number: placed[i : i + 1] for i, number in enumerate(numbers)}
                drawn[numbers[-1]] = placed[len(numbers) - 1 :]
            elif change.verb == "drop":
                drawn |= {number: [] for number in numbers}
            elif change.verb == "join":
                joined[numbers] = True
            else:
                lines[:, numbers], hooks[numbers] = _changed(lines[:, numbers], hooks[numbers], change, degree, box)
    if drawn:
        return _with_drawn(model, lines, hooks, joined, drawn)
    return dataclasses.replace(model, strokes=lines[0], plain=lines[1], hooks=hooks, joined=joined)


def _with_drawn(model: StrokeModel, lines, hooks, joined, drawn: dict[int, list]) -> StrokeModel:
    """A model with these lines (2, S, POINTS, 2), hooks (S,) and joins (S,), and with newly drawn ones in the places
    of theirs."""
    rows = [drawn.get(i, [(lines[:, i], hook)]) for i, hook in enumerate(hooks)]
    source = np.array([i for i, row in enumerate(rows) for _ in row])
    lines = np.array([line for row in rows for line, _ in row], np.float32)
    last = np.append(source[1:] != source[:-1], True)  # of those in one place; it joins the stroke that follows
    return dataclasses.replace(
        model,
        strokes=lines[:, 0],
        plain=lines[:, 1],
        groups=model.groups[:, source],
        hooks=np.array([hook for row in rows for _, hook in row]),
        marks=int((source >= len(rows) - model.marks).sum()),
        joined=joined[source] & last,
    )


def _changed(lines: np.ndarray, hooks: np.ndarray, change: Change, degree: float, box) -> tuple:
    """Lines (2, n, POINTS, 2), the strokes and their plain forms, changed to this degree, and their hooks (n,)."""
    if change.verb == "unhook":
        return _cut(lines, 0 * hooks, hooks), np.ones(len(hooks))
    neutral = NEUTRAL[change.verb]
    numbers = neutral + degree * (change.numbers - neutral)
    if change.verb == "trim":
        begin, end = numbers.clip(0, 1)
        hooks = ((hooks - begin) / (end - begin)).clip(0, 1)
        return _cut(lines, 0 * hooks + begin, 0 * hooks + end), hooks
    if change.verb in MEASURED:
        numbers = numbers * box[1] / 100
    if len(neutral) == 1:
        numbers = numbers[0]
    return _VERBS[change.verb](lines, numbers), hooks


def _cut(lines: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    return np.stack([cut_strokes(np.ascontiguousarray(strokes), begin, end) for strokes in lines])


def _box(strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper left corner and the size of the box around strokes (n, P, 2)."""
    points = strokes.reshape(-1, 2)
    low = points.min(axis=0)
    return low, points.max(axis=0) - low


def _about_middle(lines: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """All lines moved by a matrix about the middle of the box around them."""
    low, size = _box(lines[0])
    return low + size / 2 + (lines - (low + size / 2)) @ matrix


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _chords(lines: np.ndarray) -> np.ndarray:
    return lines[0, :, -1] - lines[0, :, 0]


def _level(lines: np.ndarray, share: float) -> np.ndarray:
    slopes = [np.arctan2(dy, abs(dx)) * (1 if dx > 0 else -1) for dx, dy in _chords(lines)]
    turned = [_about_middle(lines[:, [i]], _rotation(-min(share, 1) * slope)) for i, slope in enumerate(slopes)]
    return np.concatenate(turned, axis=1)


def _straighten(lines: np.ndarray, share: float) -> np.ndarray:
    straight = lines[:, :, :1] + _T * (lines[:, :, -1:] - lines[:, :, :1])
    return lines + min(share, 1) * (straight - lines)


_VERBS = {
    "move": lambda lines, by: lines + by,
    "scale": lambda lines, factors: _about_middle(lines, np.diag(factors)),
    "turn": lambda lines, degrees: _about_middle(lines, _rotation(np.radians(degrees))),
    "level": _level,
    "straighten": _straighten,
    "bend": lambda lines, share: lines + share * _ARCH * (_chords(lines)[:, ::-1] * (-1, 1))[:, None],
    "start": lambda lines, by: lines + (1 - _T) * by,
    "end": lambda lines, by: lines + _T * by,
}
