"""The table of forms, forms.txt: other ways in which people write kana and components of kanji, and who does so."""

import functools
import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from characters.kinds import kind_of
from files.command_line import InputError
from handwriting.strokes import hook_starts, plain_strokes
from handwriting.writer import Writer
from structure.kanjivg import evenly_spaced

TABLE = Path(__file__).with_suffix(".txt")
MARKS = "゛゜"  # what the table calls the voicing marks of kana
HEADING = re.compile(r"(\S+?)(?::([a-z0-9,]+))?/(\d+) +([\d.]+)(?:-([\d.]+))?(?: +\[(.+?)\])? *(.*)")
# Each verb that changes points, and the numbers with which it changes nothing.
NEUTRAL = {
    "move": (0, 0),
    "scale": (1, 1),
    "turn": (0,),
    "level": (0,),
    "straighten": (0,),
    "bend": (0,),
    "trim": (0, 1),
    "start": (0, 0),
    "end": (0, 0),
}
MEASURED = ("draw", "move", "start", "end")  # those whose numbers are hundredths of the component's box
PLAIN_VERBS = ("join", "drop", "unhook")  # those without numbers


@dataclass(frozen=True)
class Change:
    """One line of a form: a verb, the strokes that it changes, and its numbers, or the lines that it draws."""

    verb: str
    strokes: tuple[int, ...]
    numbers: np.ndarray | tuple[tuple[np.ndarray, float], ...]


@dataclass(frozen=True)
class Form:
    """One way to write a component of `count` strokes."""

    chars: str
    positions: tuple[str, ...]  # where in a character it is written so; none for everywhere
    count: int
    shares: tuple[float, float]  # of those who print, and of those who write fastest
    habit: str  # forms with one habit exclude each other, and a writer has one number for it
    note: str
    changes: tuple[Change, ...]
    line: int  # of the table

    @functools.cached_property
    def strokes(self) -> frozenset[int]:
        return frozenset(stroke for change in self.changes for stroke in change.strokes)

    @functools.cached_property
    def measured(self) -> bool:
        return any(change.verb in MEASURED for change in self.changes)

    def fits(self, position: str | None) -> bool:
        return not self.positions or position in self.positions

    def share(self, speed: float) -> float:
        return self.shares[0] + speed * (self.shares[1] - self.shares[0])


def smooth_line(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """A curve through points (n, 2), n > 1, that has a corner where `corners` (n,) says so: parabolas blended by the
    lengths of their chords, so that it swings out no further than a hand would."""
    step = np.diff(points, axis=0)
    length = np.maximum(np.hypot(*step.T), 1e-6)[:, None]
    way = step / length
    before, after = np.concatenate([way[:1], way]), np.concatenate([way, way[-1:]])
    long_before, long_after = np.concatenate([length[:1], length]), np.concatenate([length, length[-1:]])
    middle = (before * long_after + after * long_before) / (long_before + long_after)
    leaving, arriving = np.where(corners[:, None], after, middle), np.where(corners[:, None], before, middle)
    t = np.linspace(0, 1, 13)[:, None, None]
    h = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, 3 * t**2 - 2 * t**3, t**3 - t**2
    a, b = points[:-1], points[1:]
    curves = h[0] * a + h[1] * leaving[:-1] * length + h[2] * b + h[3] * arriving[1:] * length  # (13, n - 1, 2)
    return np.concatenate([points[:1], curves[1:].transpose(1, 0, 2).reshape(-1, 2)])


def _drawn_line(text: str) -> tuple[np.ndarray, float]:
    """Points as "10,20 30,40! 50,60" in hundredths of a box, "!" for a corner, as a curve and as it is drawn plainly,
    (2, POINTS, 2) in the unit square, and where its flick begins."""
    words = text.split()
    if len(words) < 2 or any(word.count(",") != 1 for word in words):
        raise InputError("a line takes two points or more, such as 0,50 100,45")
    points = np.array([[float(number) for number in word.rstrip("!").split(",")] for word in words])
    line = evenly_spaced(smooth_line(points / 100, np.array([word.endswith("!") for word in words])))[None]
    return np.concatenate([line, plain_strokes(line)]).astype(np.float32), float(hook_starts(line)[0])


def _change(text: str, count: int) -> Change:
    """A line such as "move 0-1 10 5". Raises InputError, or ValueError for what is no number."""
    verb, where, rest = [*text.split(None, 2), "", ""][:3]
    if verb not in ("draw", *PLAIN_VERBS, *NEUTRAL):
        raise InputError(f"unknown verb {verb}")
    first, _, last = where.partition("-")
    strokes = tuple(range(int(first), int(last or first) + 1))
    if not strokes or strokes[-1] >= count:
        raise InputError(f"there is no stroke {where}: they are counted from 0 to {count - 1}")
    if verb == "draw":
        return Change(verb, strokes, tuple(map(_drawn_line, rest.split("/"))))
    numbers = np.array([float(word) for word in rest.split()])
    if len(numbers) != len(NEUTRAL.get(verb, ())):
        raise InputError(f"{verb} takes {len(NEUTRAL.get(verb, ()))} numbers")
    return Change(verb, strokes, numbers)


def _heading(text: str, line: int, others: list[Form]) -> Form:
    """A line such as "口/3 .1-.5 [boxes] in two strokes" as a form without changes, `others` standing above it. Raises
    InputError, or ValueError for what is no number."""
    if not (parts := HEADING.fullmatch(text)):
        raise InputError("a form starts with CHARACTERS/STROKES SHARE")
    chars, positions, count, low, high, habit, note = parts.groups()
    if unknown := [char for char in chars if char not in MARKS and kind_of(char) == "other"]:
        raise InputError(f"unknown character {unknown[0]}")
    shares = float(low), float(high or low)
    if max(shares) > 1:
        raise InputError(f"a share lies between 0 and 1, not at {max(shares)}")
    places = tuple(re.findall("[a-z0-9]+", positions or ""))
    form = Form(chars, places, int(count), shares, habit or chars, note, (), line)
    for char in chars:
        same = [f.shares for f in (*others, form) if (f.habit, f.count) == (form.habit, form.count) and char in f.chars]
        if max(map(sum, zip(*same, strict=True))) > 1.001:
            raise InputError(f"the shares of the habit {form.habit} add up to more than 1")
    return form


def read_forms(path: Path = TABLE) -> list[Form]:
    """The forms of a table. Raises InputError for a line that cannot be read, naming it."""
    forms: list[Form] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].rstrip()
        try:
            if text.startswith(" ") and forms:
                forms[-1] = replace(forms[-1], changes=(*forms[-1].changes, _change(text, forms[-1].count)))
            elif text:
                forms.append(_heading(text, number, forms))
        except ValueError as error:
            mistake = error if isinstance(error, InputError) else "cannot be read"
            raise InputError(f"{path}, line {number}: {mistake}: {text.strip()}") from None
    return forms


@functools.cache
def habits_of(char: str, count: int) -> tuple[tuple[str, tuple[Form, ...]], ...]:
    """The habits that concern a character or component of so many strokes, each with its forms."""
    found: dict[str, list[Form]] = {}
    for form in forms_of_table():
        if char in form.chars and form.count == count:
            found.setdefault(form.habit, []).append(form)
    return tuple((habit, tuple(forms)) for habit, forms in found.items())


@functools.cache
def forms_of_table() -> tuple[Form, ...]:
    return tuple(read_forms())


@functools.lru_cache(100_000)
def habit_number(writer: int, habit: str) -> float:
    """A writer's number between 0 and 1 for a habit: always the same, and no other habit's."""
    return int.from_bytes(blake2b(f"{writer}/{habit}".encode(), digest_size=4).digest(), "big") / 2**32


def chosen_forms(char: str, position: str | None, count: int, writer: Writer) -> list[Form]:
    """How a writer writes a component: at most one form of each habit."""
    chosen = []
    for habit, forms in habits_of(char, count):
        number = habit_number(writer.habits, habit)
        for form in forms:
            if form.fits(position):
                number -= form.share(writer.speed)
                if number < 0:
                    chosen.append(form)
                    break
    return chosen
