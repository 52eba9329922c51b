"""How a made-up person writes a character: stroke models (kanjivg_strokes.py) in, an ETL9G frame out.

Two sources of variety lie on top of each other, as in life. A `Writer` has habits (slant, proportions, pen, how
loosely, how quickly); every single character then comes out differently: parts move as wholes, strokes shift, turn,
bow and wander, ends are cut or overshoot, corners round off, quick hands join strokes.
Lengths are in units of the character's side, angles in radians.
"""

import numpy as np

from characters.kinds import kind_of
from handwriting.strokes import StrokeModel
from handwriting.writer import Writer
from structure.kanjivg import POINTS

# How much things vary at looseness 1 (standard deviations; kana are curves and wander more).
PART_SHIFT, PART_SCALE, PART_TURN = 0.022, 0.075, 0.030
STROKE_SHIFT, STROKE_SCALE, STROKE_TURN = 0.013, 0.080, 0.055
KANA_STROKE_SHIFT, KANA_STROKE_SCALE, KANA_STROKE_TURN = 0.022, 0.110, 0.075
BOW, WANDER, KANA_WANDER = 0.030, 0.016, 0.022
TURNING, OVERALL_TURNING = 0.30, 0.08  # how unevenly and how strongly kana curves are bent
END_CUT, OVERSHOOT = 0.035, 0.020
UPRIGHT, FOLD, CORNERS = 0.12, 0.12, (0.9, 2.1)  # how the second leg of a folded kanji stroke turns; what is a fold
FEW_STROKES, FEW_STROKES_MOST = 8, 1.45  # kanji of fewer strokes leave each more room, up to so many times as much
MARK_SHIFT, MARK_SCALE, MARK_TURN, MARK_GAP = 0.035, 0.28, 0.22, 0.05
# Strokes (counted from 0) that many people write in one with the next.
JOINED_FORMS = {
    **dict.fromkeys("いうえかけげにはほらりれねわゆ", (0,)),
    **dict.fromkeys("さざや", (1,)),
    **dict.fromkeys("きぎたな", (2,)),
    **dict.fromkeys("ふぶぷ", (0, 1)),
}
COMMON_JOINS = frozenset("きぎさざふぶぷゆり")
# The stroke that many people end early, and the share of its length that may be missing.
SHORT_TAILS = {"も": (0, 0.35), "て": (0, 0.12), "で": (0, 0.12), "い": (1, 0.65)}
# The hump after a stroke's foot that many people write flat: where the foot is, and how much of the height may be lost.
LOW_HUMPS = {"え": (1, 0.56, 0.90), "ん": (0, 0.44, 0.60)}
# What lies right of their first stroke many people write wider, by up to this share.
WIDE_BOWS, WIDEST_BOW = frozenset("ねれわ"), 0.45
# One-stroke kana that many people start with a separate dot: where the dot ends and where the rest begins.
SEPARATE_FORMS = {"そ": (0.07, 0.16), "ぞ": (0.07, 0.16)}
_T = np.linspace(0, 1, POINTS)
_WAVES = np.stack([np.cos(np.pi * j * _T) / j for j in (1, 2, 3, 4)]).astype(np.float32)  # (4, POINTS)
_ARCH = (4 * _T * (1 - _T) - 2 / 3).astype(np.float32)


def _smoothing(width: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((_T[:, None] - _T) * (POINTS - 1) / width) ** 2)
    pinned = np.minimum(np.arange(POINTS), np.arange(POINTS)[::-1])[:, None] < 1
    weights = np.where(pinned, np.eye(POINTS), weights)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


_SMOOTH = _smoothing(2.5)


def _bend(points: np.ndarray, noise: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """Strokes (S, P, 2) with the turning between their steps made stronger here and weaker there: loops open and close.

    The average turn stays, and the end stays roughly in place.
    """
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
    """Strokes (S, P, 2) with one sharp corner before `hooks` (S,), turned from there on by `turn` (S,).

    So the second legs of 力 and 方 stand upright or lean.
    """
    step = np.diff(points[..., 0] + 1j * points[..., 1])
    before, after = step[:, :-2], step[:, 2:]
    corner = np.abs(np.angle(after * before.conj()))  # over two steps, as a corner seldom lies on a point
    sharp = (corner > CORNERS[0]) & (corner < CORNERS[1]) & (np.arange(2, POINTS - 1) / (POINTS - 1) < hooks[:, None])
    ends = (sharp[:, 1:] < sharp[:, :-1]).sum(axis=1) + sharp[:, -1]
    first = np.where(ends == 1, sharp.argmax(axis=1) + 1, POINTS)[:, None]
    step *= np.where(np.arange(POINTS - 1) > first, np.exp(1j * turn)[:, None], 1)
    z = np.concatenate([np.zeros((len(step), 1)), np.cumsum(step, axis=1)], axis=1)
    return points[:, :1] + np.stack([z.real, z.imag], axis=-1).astype(np.float32)


def choose_model(models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> StrokeModel:
    written = [m for m in models if m.written]
    others = [m for m in models if not m.written]
    pool = written if written and (not others or rng.random() < writer.written_forms) else others
    # The first model is the standard form; rarer ones share the rest.
    return pool[0] if len(pool) == 1 or rng.random() < 0.6 else pool[rng.integers(1, len(pool))]


def vary_strokes(char: str, model: StrokeModel, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """The strokes (S, POINTS, 2) of one writing, each varied by itself and then with its parts."""
    count, kana = len(model.strokes), kind_of(char) != "kanji"
    loose = writer.looseness * np.exp(0.25 * rng.standard_normal())
    n = rng.standard_normal((count, 16)).astype(np.float32)
    u = rng.random((count, 4)).astype(np.float32)

    # Curves drawn flatter, with corners instead of turns, or rounder than the model.
    plain = np.clip(writer.plainness + 0.25 * rng.standard_normal() + 0.15 * n[:, :1, None], -0.5, 1)
    points = model.strokes + plain * (model.plain - model.strokes)
    if not kana:
        points = _refold(points, model.hooks - 0.05, FOLD * loose * (0.6 * writer.folds + 0.8 * n[:, 3]) - UPRIGHT)
    else:
        points = _bend(points, TURNING * loose * (n[:, :3] @ _WAVES[1:, :-2]), OVERALL_TURNING * loose * n[:, 3:4])
    points = points + writer.roundness * u[:, :1, None] * (_SMOOTH @ points - points)
    if char in LOW_HUMPS:
        humped, foot, most = LOW_HUMPS[char]
        after = points[humped, round(foot * (POINTS - 1)) :, 1]
        after += most * rng.random() * np.maximum(0, after[0] - after)
    if char in WIDE_BOWS:
        points[..., 0] += WIDEST_BOW * rng.random() * np.maximum(0, points[..., 0] - points[0, :, 0].mean())

    # Ends: flicks left out, strokes begun late or ended early, or drawn beyond.
    cut_flick = u[:, 1] > writer.hooks
    end = np.where(cut_flick, model.hooks + (1 - model.hooks) * 0.4 * u[:, 2], 1)
    begin = np.maximum(0, END_CUT * loose * n[:, 4])
    end = end - np.maximum(0, END_CUT * loose * n[:, 5])
    if char in SHORT_TAILS:
        curved, most = SHORT_TAILS[char]
        end[curved] -= most * u[curved, 3]
    at = (begin[:, None] + (end - begin)[:, None] * _T) * (POINTS - 1)
    low = np.minimum(at.astype(np.int64), POINTS - 2)
    share = (at - low)[..., None].astype(np.float32)
    rows = np.arange(count)[:, None]
    points = (1 - share) * points[rows, low] + share * points[rows, low + 1]
    length = np.hypot(*np.diff(points, axis=1).transpose(2, 0, 1)).sum(axis=1)
    outward = points[:, -1] - points[:, -4]
    outward /= np.hypot(outward[:, 0], outward[:, 1])[:, None] + 1e-6
    reach = np.minimum(OVERSHOOT * loose * np.maximum(0, n[:, 6]), 0.3 * length)
    points = points + (_T**6)[None, :, None] * (outward * reach[:, None])[:, None]

    # Within the stroke: bow and wander, by the root of its length.
    chord = points[:, -1] - points[:, 0]
    normal = np.stack([-chord[:, 1], chord[:, 0]], axis=1)
    points = points + (writer.bow + BOW * loose * n[:, 7])[:, None, None] * normal[:, None] * _ARCH[None, :, None]
    amount = (KANA_WANDER if kana else WANDER) * loose * np.sqrt(length)
    wander = n[:, 8:16].reshape(count, 2, 4) @ _WAVES
    points = points + amount[:, None, None] * wander.transpose(0, 2, 1)

    # Strokes, voicing mark and parts, each shifted, scaled and turned about its middle; what lies in several adds up.
    marks = np.arange(count) >= count - model.marks
    if model.marks and rng.random() < writer.high_marks:
        points[marks] += (0.75 + 0.4 * rng.random()) * _to_top(points[~marks], points[marks])
    room = 1 if kana else float(np.clip((FEW_STROKES / count) ** 0.5, 1, FEW_STROKES_MOST))
    units = np.concatenate([np.eye(count, dtype=bool), marks[None], model.groups]).astype(np.float32)  # (U, S)
    stroke = (
        (KANA_STROKE_SHIFT, KANA_STROKE_SCALE, KANA_STROKE_TURN) if kana else (STROKE_SHIFT, STROKE_SCALE, STROKE_TURN)
    )
    spread = np.empty((3, len(units)), np.float32)
    spread[:, :count] = room * loose * np.array(stroke)[:, None]
    spread[:, count] = MARK_SHIFT, MARK_SCALE, MARK_TURN
    spread[:, count + 1 :] = loose * np.array([PART_SHIFT, PART_SCALE, PART_TURN])[:, None]
    g = rng.standard_normal((5, len(units))).astype(np.float32)
    scale_x, scale_y = np.exp(spread[1] * g[:2])
    cos, sin = np.cos(spread[2] * g[2]), np.sin(spread[2] * g[2])
    change = np.array([[cos * scale_x - 1, -sin * scale_y], [sin * scale_x, cos * scale_y - 1]])  # (2, 2, U)
    middle = units @ ((points.min(axis=1) + points.max(axis=1)) / 2) / np.maximum(units.sum(axis=1), 1)[:, None]
    offset = spread[0] * g[3:] - np.einsum("iju,uj->iu", change, middle)
    matrix = (change @ units).transpose(2, 1, 0)  # (S, 2, 2)
    return points + points @ matrix + (offset @ units).T[:, None]


def _to_top(body: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The way (2,) of voicing marks (S, P, 2) to the top of their strokes, right of what those have at that height.

    Right of all of them the marks of じ would look like the second stroke of い.
    """
    low, high = marks.min(axis=(0, 1)), marks.max(axis=(0, 1))
    top = body[..., 1].min()
    beside = body[..., 0][body[..., 1] <= top + high[1] - low[1]]
    return np.array([beside.max() + MARK_GAP, top]) - low


def split_or_join(char, points, marks, writer, rng) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The strokes as they touch the paper, and the thinner traces between strokes that a quick hand joins."""
    strokes = list(points)
    if char in SEPARATE_FORMS and rng.random() < 0.5:
        dot_end, rest_begin = (round(t * (POINTS - 1)) for t in SEPARATE_FORMS[char])
        dot = strokes[0][: dot_end + 1]
        fall = np.array([0.3, 1.0]) * np.hypot(*(dot[-1] - dot[0])) * (0.6 + 0.9 * rng.random())
        dot = dot[0] + np.linspace(0, 1, 5)[:, None] * fall
        strokes = [dot, strokes[0][rest_begin:], *strokes[1:]]
    traces = []
    usual = JOINED_FORMS.get(char, ())
    chance = rng.random(len(strokes))
    for i in range(len(strokes) - 1 - marks):
        if chance[i] >= writer.haste and i not in usual:
            continue
        a, b = strokes[i][-1], strokes[i + 1][0]
        gap = np.hypot(*(b - a)) / writer.height
        likely = writer.haste * np.exp(-gap / 0.35)
        if i in usual:
            likely = max(likely, (0.75 if char in COMMON_JOINS else 0.25) * writer.joined_forms)
        if chance[i] < likely:
            out = strokes[i][-1] - strokes[i][-4]
            into = strokes[i + 1][3] - strokes[i + 1][0]
            t = np.linspace(0, 1, 9)[:, None]
            control_a, control_b = a + 0.8 * out, b - 0.8 * into
            traces.append(
                (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * control_a + 3 * t * t * (1 - t) * control_b + t**3 * b
            )
    return strokes, traces
