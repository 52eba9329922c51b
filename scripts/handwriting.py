"""How a made-up person writes a character: stroke models (kanjivg_strokes.py) in, an ETL9G frame out.

Two sources of variety lie on top of each other, as in life. A `Writer` has habits (slant, proportions, pen, how
loosely, how quickly); every single character then comes out differently: parts move as wholes, strokes shift, turn,
bow and wander, ends are cut or overshoot, corners round off, quick hands join strokes.
Lengths are in units of the character's side, angles in radians.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from etl9g_format import DARKEST, IMAGE_HEIGHT, IMAGE_WIDTH
from kanjivg_strokes import POINTS, StrokeModel

GENERATOR_VERSION = 10
OVERSAMPLING = 2  # strokes are drawn this much larger, then averaged down
POINT_STEP_KANJI = 2  # kanji strokes are drawn through every second point

# How much things vary at looseness 1 (standard deviations; kana are curves and wander more).
PART_SHIFT, PART_SCALE, PART_TURN = 0.022, 0.075, 0.030
STROKE_SHIFT, STROKE_SCALE, STROKE_TURN = 0.013, 0.080, 0.055
KANA_STROKE_SHIFT, KANA_STROKE_SCALE, KANA_STROKE_TURN = 0.022, 0.110, 0.075
BOW, WANDER, KANA_WANDER = 0.030, 0.016, 0.022
TURNING, OVERALL_TURNING = 0.30, 0.08  # how unevenly and how strongly kana curves are bent
END_CUT, OVERSHOOT = 0.035, 0.020
PAGE_WARP = 0.040
BALANCE, KANA_BALANCE = 0.12, 0.25  # how far the middle of a character moves to one of its sides
UPRIGHT, FOLD, CORNERS = 0.12, 0.12, (0.9, 2.1)  # how the second leg of a folded kanji stroke turns; what is a fold
FEW_STROKES, FEW_STROKES_MOST = 8, 1.45  # kanji of fewer strokes leave each more room, up to so many times as much
# So many writers hold no pencil but something between these widths; scanned, an edge is so soft (px).
OTHER_PENS, FINEST, BROADEST, SOFTNESS = 0.4, 0.9, 5.5, 0.85
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


@dataclass(frozen=True)
class Writer:
    """One person's habits; draw one with `new_writer`."""

    looseness: float
    slant: float  # x per y
    rise: float  # y per x: horizontal strokes that climb to the right
    width: float
    height: float
    kana_size: float
    centre: tuple[float, float]  # of the ink in the frame, px
    pen: float  # stroke width, px
    softness: float  # standard deviation of the blur of a stroke's edge, px; above 0
    pressure: float  # grey of a full stroke, of 15
    grain: float
    roundness: float  # 0 keeps corners, 1 rounds them off
    plainness: float  # 1 draws straight lines for curves, below 0 exaggerates the curves
    hooks: float  # how much of a flick is written
    haste: float  # how readily a stroke joins the next
    high_marks: float  # how often a voicing mark is set level with the top of the strokes instead of lower
    joined_forms: float  # how often kana are joined that people write either way
    written_forms: float  # how often a kanji is written in its -Kaisho form
    bow: float
    folds: float  # how far the second legs of folded strokes stand off from the model, above 0 inwards


def _pen(rng: np.random.Generator) -> tuple[float, float]:
    """Width and softness of a pen: a pencil that was scanned, or from a hairline on a screen to a felt tip."""
    if rng.random() < OTHER_PENS:
        return float(FINEST * (BROADEST / FINEST) ** rng.random()), SOFTNESS * (0.1 + 0.9 * rng.random())
    return float(np.clip(3.1 * np.exp(0.16 * rng.standard_normal()), 1.8, 5)), SOFTNESS


def new_writer(rng: np.random.Generator) -> Writer:
    """A writer; the spread of size, place and grey is that of the database's scans, that of pens wider."""
    normal, uniform = rng.standard_normal, rng.random
    size = 91.5 * np.exp(0.07 * normal())
    pen, softness = _pen(rng)
    return Writer(
        looseness=float(np.exp(0.40 * normal())),
        slant=0.09 * normal(),
        rise=0.03 + 0.055 * normal(),
        width=size * 0.84 * np.exp(0.09 * normal()),
        height=size,
        kana_size=0.76 * np.exp(0.10 * normal()),
        centre=(60 + 1.5 * normal(), 66 + 2 * normal()),
        pen=pen,
        softness=softness,
        pressure=float(np.clip(8.8 + 1.4 * normal(), 5, 13)),
        grain=0.10 + 0.25 * uniform(),
        roundness=uniform() ** 1.5,
        plainness=1.15 * uniform() - 0.25,
        hooks=uniform(),
        haste=0.30 * uniform() ** 3,
        high_marks=uniform(),
        joined_forms=uniform(),
        written_forms=0.35 + 0.6 * uniform(),
        bow=0.02 * normal(),
        folds=normal(),
    )


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


def _choose(models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> StrokeModel:
    written = [m for m in models if m.written]
    others = [m for m in models if not m.written]
    pool = written if written and (not others or rng.random() < writer.written_forms) else others
    # The first model is the standard form; rarer ones share the rest.
    return pool[0] if len(pool) == 1 or rng.random() < 0.6 else pool[rng.integers(1, len(pool))]


def _vary_strokes(char: str, model: StrokeModel, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """The strokes (S, POINTS, 2) of one writing, each varied by itself and then with its parts."""
    count, kana = len(model.strokes), char < "\u3100"
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


def place_on_page(points: np.ndarray, writer: Writer, kana: bool, rng: np.random.Generator) -> np.ndarray:
    """From character units to pixels of the frame: the page's smooth warp, the writer's slant, proportions, place."""
    n = rng.standard_normal(18)
    x, y = points[..., 0], points[..., 1]
    xx, yy = x * x, y * y
    terms = np.stack([xx, yy, x * y, 2 * xx * x, 2 * yy * y])  # (5, S, P)
    warp = (2 * PAGE_WARP * writer.looseness * n[:10].reshape(2, 5)).astype(points.dtype)
    warp[[0, 1], [0, 1]] += (KANA_BALANCE if kana else BALANCE) * n[16:18]
    bend_x, bend_y = np.tensordot(warp, terms, 1)
    x, y = x + bend_x, y + bend_y
    slant, rise = writer.slant + 0.04 * n[10], writer.rise + 0.03 * n[11]
    x, y = x - float(slant) * y, y - float(rise) * x
    size = (writer.kana_size if kana else 1) * np.exp((0.10 if kana else 0.05) * n[12:14])
    x = x * float(writer.width * size[0] * (1.12 if kana else 1))
    y = y * float(writer.height * size[1])
    box = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    half = np.array([x.max() - x.min(), y.max() - y.min()]) / 2
    centre = np.array(writer.centre) + np.array([3.2, 3.6]) * n[14:16]
    limit = np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / 2 - 5
    shrink = min(1, float((limit / np.maximum(half, 1)).min()))
    centre = np.clip(centre, half * shrink + 4, np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) - half * shrink - 4)
    return np.stack([(x - box[0]) * shrink + centre[0], (y - box[1]) * shrink + centre[1]], axis=-1)


def _split_or_join(char, points, marks, writer, rng) -> tuple[list[np.ndarray], list[np.ndarray]]:
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


def _draw(strokes, traces, writer, step, rng) -> np.ndarray:
    """Ink uint8 (127, 128), 255 where the pen went."""
    canvas = np.zeros((IMAGE_HEIGHT * OVERSAMPLING, IMAGE_WIDTH * OVERSAMPLING), np.uint8)
    fraction = 4
    pen = writer.pen * np.exp(0.05 * rng.standard_normal()) * OVERSAMPLING
    widths = np.maximum(1, np.round(pen * np.exp(0.08 * rng.standard_normal(len(strokes))))).astype(int)
    scale = OVERSAMPLING * 2**fraction
    for width in set(widths.tolist()):
        lines = [
            (stroke[::step] * scale).astype(np.int32)
            for stroke, own in zip(strokes, widths, strict=True)
            if own == width
        ]
        cv2.polylines(canvas, lines, False, 255, width, cv2.LINE_8, fraction)
    if traces:
        thin = max(1, round(pen * (0.45 + 0.5 * rng.random())))
        cv2.polylines(canvas, [(t * scale).astype(np.int32) for t in traces], False, 255, thin, cv2.LINE_8, fraction)
    ink = cv2.resize(canvas, (IMAGE_WIDTH, IMAGE_HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(ink, (3, 3), writer.softness)


_GRAIN = cv2.GaussianBlur(np.random.default_rng(9).standard_normal((512, 512)).astype(np.float32), (3, 3), 0.7)
_GRAIN /= _GRAIN.std()


def _dirt(grey: np.ndarray, rng: np.random.Generator) -> None:
    """Now and then a line of the printed frame, a sliver of a neighbour or scan dirt along the edges, in place."""
    for chance, kind in zip(rng.random(3), ("frame", "neighbour", "dirt"), strict=True):
        if chance > 0.03:
            continue
        a, b = sorted(rng.integers(0, 127, 2))
        level = float(rng.integers(3, 8))
        if kind == "frame":
            edge = rng.integers(4)
            line = slice(1, 1 + rng.integers(1, 3)) if edge % 2 else slice(-1 - rng.integers(1, 3), -1)
            if edge < 2:
                grey[line, a:b] = np.maximum(grey[line, a:b], level)
            else:
                grey[a:b, line] = np.maximum(grey[a:b, line], level)
        elif kind == "neighbour":
            middle, half = rng.integers(30, 100), rng.integers(3, 14)
            line = slice(0, rng.integers(2, 5)) if rng.random() < 0.5 else slice(-rng.integers(2, 5), None)
            grey[middle - half : middle + half, line] = level
        else:
            line = slice(0, rng.integers(2, 5)) if rng.random() < 0.5 else slice(-rng.integers(2, 5), None)
            grey[line, a : a + rng.integers(2, 12)] = level


def to_frame(ink: np.ndarray, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """Ink uint8 (127, 128) as a scanned pencil: grey levels 0 to 15, grainy, soft at the edges."""
    y, x = rng.integers(0, 512 - IMAGE_WIDTH, 2)
    level = writer.pressure * np.exp(0.08 * rng.standard_normal())
    grain = 1 + writer.grain * _GRAIN[y : y + IMAGE_HEIGHT, x : x + IMAGE_WIDTH]
    grey = ink * grain * np.float32(level / 255)
    _dirt(grey, rng)
    return np.clip(grey + 0.25, 0, DARKEST).astype(np.uint8)


def write_character(char: str, models: list[StrokeModel], writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """One character by one writer as a frame uint8 (127, 128), 0 = paper, 15 = darkest."""
    kana = char < "\u3100"
    model = _choose(models, writer, rng)
    points = place_on_page(_vary_strokes(char, model, writer, rng), writer, kana, rng)
    strokes, traces = _split_or_join(char, points, model.marks, writer, rng)
    return to_frame(_draw(strokes, traces, writer, 1 if kana else POINT_STEP_KANJI, rng), writer, rng)
