"""How a made-up person departs from a stroke model: curves, forms, ends, lines, the places of strokes and parts.
Lengths are in units of the character's side, angles in radians; spreads are standard deviations at looseness 1."""

import numpy as np

from characters.kinds import kind_of
from handwriting.strokes import StrokeModel, cut_strokes
from handwriting.writer import Writer
from structure.kanjivg import POINTS

# How far something is shifted, scaled and turned. Kana are curves and vary more.
STROKE, KANA_STROKE = (0.013, 0.080, 0.055), (0.022, 0.110, 0.075)
PART, MARK = (0.022, 0.075, 0.030), (0.035, 0.28, 0.22)
FEW_STROKES, FEW_STROKES_MOST = 8, 1.45  # kanji of fewer strokes leave each more room, at most this many times as much
MARK_GAP = 0.05  # between a voicing mark that is set high and its character
BOW, WANDER, KANA_WANDER = 0.030, 0.016, 0.022
TURNING, OVERALL_TURNING = 0.30, 0.08  # how unevenly and how strongly kana curves are bent
END_CUT, OVERSHOOT = 0.035, 0.020
UPRIGHT, FOLD, CORNERS = 0.12, 0.12, (0.9, 2.1)  # how the second leg of a folded kanji stroke turns; what is a fold
QUICK, KANA_QUICK = 60.0, 0.8  # how smooth a quick hand's strokes are; kana would lose their loops
_T = np.linspace(0, 1, POINTS)
_CUBIC = np.array([[(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3] for t in np.linspace(0, 1, 9)])
_WAVES = np.stack([np.cos(np.pi * j * _T) / j for j in (1, 2, 3, 4)]).astype(np.float32)  # (4, POINTS)
_ARCH = (4 * _T * (1 - _T) - 2 / 3).astype(np.float32)
_SMOOTH = np.exp(-0.5 * ((_T[:, None] - _T) * (POINTS - 1) / 2.5) ** 2)  # (POINTS, POINTS)
_SMOOTH[[0, -1]] = np.eye(POINTS)[[0, -1]]  # the ends stay
_SMOOTH = (_SMOOTH / _SMOOTH.sum(axis=1, keepdims=True)).astype(np.float32)


def _least_jerk(smoothness: float) -> np.ndarray:
    """The matrix (POINTS, POINTS) that turns a stroke into the movement of least jerk near it: the sum of squares of
    its third differences, times `smoothness`, and of its distances from the stroke is the least. The ends stay."""
    jerk = np.diff(np.eye(POINTS), 3, axis=0)
    nearness = np.diag([1e4, *np.ones(POINTS - 2), 1e4])
    return np.linalg.solve(nearness + smoothness * jerk.T @ jerk, nearness).astype(np.float32)


_QUICK, _KANA_QUICK = _least_jerk(QUICK), _least_jerk(KANA_QUICK)


def choose_model(models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> StrokeModel:
    written, others = [m for m in models if m.written], [m for m in models if not m.written]
    pool = written if written and (not others or rng.random() < writer.written_forms) else others
    # The first model is the standard form; rarer ones share the rest.
    return pool[0] if len(pool) == 1 or rng.random() < 0.6 else pool[rng.integers(1, len(pool))]


def vary_strokes(char: str, model: StrokeModel, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """The strokes (S, POINTS, 2) of one writing of a character by a writer."""
    kana = kind_of(char) not in {"kanji", "katakana"}  # katakana are straight strokes, as kanji are
    loose = writer.looseness * np.exp(0.25 * rng.standard_normal())
    n = rng.standard_normal((len(model.strokes), 16)).astype(np.float32)
    u = rng.random((len(model.strokes), 4)).astype(np.float32)
    points = _curves(model, writer, kana, loose, n[:, :4], rng)
    points = points + writer.roundness * u[:, :1, None] * (_SMOOTH @ points - points)
    if writer.speed:
        points = points + writer.speed * (0.5 + 0.7 * u[:, 3:, None]) * (
            (_KANA_QUICK if kana else _QUICK) @ points - points
        )
    points = _cut_ends(points, model.hooks, writer.hooks, loose, n[:, 4:6], u)
    length = np.hypot(*np.diff(points, axis=1).transpose(2, 0, 1)).sum(axis=1)  # (S,)
    points = _overshoot(points, np.minimum(OVERSHOOT * loose * np.maximum(0, n[:, 6]), 0.3 * length))
    points = _bow(points, writer.bow + BOW * loose * n[:, 7])
    wander = (KANA_WANDER if kana else WANDER) * loose * np.sqrt(length)
    points = points + wander[:, None, None] * (n[:, 8:].reshape(len(points), 2, 4) @ _WAVES).transpose(0, 2, 1)
    if model.marks and rng.random() < writer.high_marks:
        body, marks = points[: -model.marks], points[-model.marks :]
        marks += (0.75 + 0.4 * rng.random()) * _to_top(body, marks)
    return _place_parts(points, model, kana, loose, rng)


def _curves(model, writer, kana, loose, n, rng) -> np.ndarray:
    """A model's strokes, plainer or rounder; loops of kana vary, second legs of kanji lean; n (S, 4) normal numbers."""
    plain = np.clip(writer.plainness + 0.25 * rng.standard_normal() + 0.15 * n[:, :1, None], -0.5, 1)
    points = model.strokes + plain * (model.plain - model.strokes)
    if kana:
        return _bend(points, TURNING * loose * (n[:, :3] @ _WAVES[1:, :-2]), OVERALL_TURNING * loose * n[:, 3:])
    return _refold(points, model.hooks - 0.05, FOLD * loose * (0.6 * writer.folds + 0.8 * n[:, 3]) - UPRIGHT)


def _bend(points: np.ndarray, noise: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """Strokes (S, P, 2) with the turning between their steps made stronger here and weaker there. The noise (S, P - 2)
    leaves the average turn as it is, `overall` (S, 1) does not; the end stays roughly in place."""
    z = points[..., 0] + 1j * points[..., 1]
    step = np.diff(z)
    turn = np.angle(step[:, 1:] * step[:, :-1].conj())
    factor = np.exp(noise * np.clip(1.5 - np.abs(turn), 0, 1))  # a reversal stays one
    weight = np.abs(turn) + 1e-3
    factor = factor / ((factor * weight).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True))
    angle = np.cumsum(turn * (factor * np.exp(overall * (np.abs(turn) < 1)) - 1), axis=1)
    step[:, 1:] *= np.exp(1j * angle)
    bent = z[:, :1] + np.concatenate([np.zeros((len(z), 1)), np.cumsum(step, axis=1)], axis=1)
    bent -= 0.75 * _T * (bent[:, -1:] - z[:, -1:])
    bent += (z - bent).mean(axis=1, keepdims=True)
    return np.stack([bent.real, bent.imag], axis=-1).astype(np.float32)


def _refold(points: np.ndarray, hooks: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Strokes (S, P, 2) with one sharp corner before `hooks` (S,), as in 力, turned from there on by `turn` (S,)."""
    step = np.diff(points[..., 0] + 1j * points[..., 1])
    before, after = step[:, :-2], step[:, 2:]
    corner = np.abs(np.angle(after * before.conj()))  # over two steps, as a corner seldom lies on a point
    sharp = (corner > CORNERS[0]) & (corner < CORNERS[1]) & (np.arange(2, POINTS - 1) / (POINTS - 1) < hooks[:, None])
    ends = (sharp[:, 1:] < sharp[:, :-1]).sum(axis=1) + sharp[:, -1]
    folded = np.flatnonzero(ends == 1)
    first = sharp[folded].argmax(axis=1) + 1
    step = step[folded] * np.where(np.arange(POINTS - 1) > first[:, None], np.exp(1j * turn[folded])[:, None], 1)
    z = np.cumsum(step, axis=1)
    points = points.copy()
    points[folded, 1:] = points[folded, :1] + np.stack([z.real, z.imag], axis=-1)
    return points


def _cut_ends(points, hooks, flicks, loose, n, u) -> np.ndarray:
    """Strokes (S, P, 2) started late or ended early, some without their flicks, as P points again. A flick starts at
    `hooks` (S,), and the share `flicks` of all is written; n (S, 2) normal, u (S, 4) uniform numbers."""
    end = np.where(u[:, 1] > flicks, hooks + (1 - hooks) * 0.4 * u[:, 2], 1)
    begin = np.maximum(0, END_CUT * loose * n[:, 0])
    end = end - np.maximum(0, END_CUT * loose * n[:, 1])
    return cut_strokes(points, begin, end)


def _overshoot(points: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Strokes (S, P, 2) drawn on beyond their ends by `reach` (S,)."""
    outward = points[:, -1] - points[:, -4]
    outward /= np.hypot(outward[:, 0], outward[:, 1])[:, None] + 1e-6
    return points + (_T**6)[None, :, None] * (outward * reach[:, None])[:, None]


def _bow(points: np.ndarray, bow: np.ndarray) -> np.ndarray:
    """Strokes (S, P, 2) bent to one side of their chords by the share `bow` (S,) of these."""
    chord = points[:, -1] - points[:, 0]
    normal = np.stack([-chord[:, 1], chord[:, 0]], axis=1)
    return points + bow[:, None, None] * normal[:, None] * _ARCH[None, :, None]


def _to_top(body: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The way (2,) of voicing marks (S, P, 2) to the top of the body, right of what that has at that height."""
    low, high = marks.min(axis=(0, 1)), marks.max(axis=(0, 1))
    top = body[..., 1].min()
    beside = body[..., 0][body[..., 1] <= top + high[1] - low[1]]
    return np.array([beside.max() + MARK_GAP, top]) - low


def _place_parts(points: np.ndarray, model: StrokeModel, kana: bool, loose: float, rng) -> np.ndarray:
    """Strokes (S, P, 2), voicing mark and parts, each shifted, scaled and turned about its middle; these add up."""
    count = len(points)
    marks = np.arange(count) >= count - model.marks
    units = np.concatenate([np.eye(count, dtype=bool), marks[None], model.groups]).astype(np.float32)  # (U, S)
    room = 1 if kana else float(np.clip((FEW_STROKES / count) ** 0.5, 1, FEW_STROKES_MOST))
    spread = np.empty((3, len(units)), np.float32)
    spread[:, :count] = room * loose * np.array(KANA_STROKE if kana else STROKE)[:, None]
    spread[:, count] = MARK
    spread[:, count + 1 :] = loose * np.array(PART)[:, None]
    g = rng.standard_normal((5, len(units))).astype(np.float32)
    scale_x, scale_y = np.exp(spread[1] * g[:2])
    cos, sin = np.cos(spread[2] * g[2]), np.sin(spread[2] * g[2])
    change = np.array([[cos * scale_x - 1, -sin * scale_y], [sin * scale_x, cos * scale_y - 1]])  # (2, 2, U)
    middle = units @ ((points.min(axis=1) + points.max(axis=1)) / 2) / np.maximum(units.sum(axis=1), 1)[:, None]
    offset = spread[0] * g[3:] - np.einsum("iju,uj->iu", change, middle)
    matrix = (change @ units).transpose(2, 1, 0)  # (S, 2, 2)
    return points + points @ matrix + (offset @ units).T[:, None]


def traces_between(model: StrokeModel, points: np.ndarray, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """The thinner traces (n, 9, 2) between the strokes (S, P, 2) of a model on the page that a writer joins: those that
    its form joins, and others the more readily the quicker the hand. Only a form joins voicing marks."""
    count = len(points) - 1
    joins, chance = model.joined[:-1].copy(), rng.random(count)
    near = np.flatnonzero(chance[: count - model.marks] < writer.haste)
    if len(near):
        gaps = np.hypot(*(points[near + 1, 0] - points[near, -1]).T) / writer.height
        joins[near] |= chance[near] < writer.haste * np.exp(-gaps / 0.35)
    return traces(points, np.flatnonzero(joins))


def traces(points: np.ndarray, joins: np.ndarray) -> np.ndarray:
    """Cubic curves (n, 9, 2) from the ends of these strokes (n,), in their directions, to the starts of the next."""
    start, end = points[joins, -1], points[joins + 1, 0]
    leaving, arriving = start - points[joins, -4], points[joins + 1, 3] - end
    return _CUBIC @ np.stack([start, start + 0.8 * leaving, end - 0.8 * arriving, end], axis=1)
