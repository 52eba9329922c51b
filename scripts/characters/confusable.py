"""Which classes a model confuses, and which shapes stand for two characters: confusable.json beside a model."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import name

import numpy as np

from characters.same_shape import twins
from files.atomic import write_text
from files.command_line import InputError
from files.plain_json import read_json

FILE_NAME = "confusable.json"
LEAST_COUNT, LEAST_RATE = 2, 0.02  # a mix-up that happened less often is chance
LEAST_PROBABILITY = 0.01  # a candidate below that is worth no note


@dataclass
class Confusable:
    """What a model cannot tell apart."""

    mixed_up: dict[str, dict[str, float]] = field(default_factory=dict)  # [true][read]: the share of true's samples
    same_shape: dict[str, str] = field(default_factory=dict)  # of a class: the others of its shape

    def looks_like(self, top: list[tuple[str, float]]) -> list[str]:
        """What else the likeliest of these candidates, (character, probability), may be."""
        if not top:
            return []
        best = top[0][0]
        others = [char for char, probability in top[1:] if probability >= LEAST_PROBABILITY]
        known = [c for c in others if best in self.mixed_up.get(c, ()) or c in self.mixed_up.get(best, ())]
        return list(dict.fromkeys([*self.same_shape.get(best, ""), *known]))


def mixed_up(classes: str, labels: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    """What `Confusable` calls so, of n samples: true and predicted classes (n,), integers."""
    samples = np.bincount(labels)
    table: dict[str, dict[str, float]] = {}
    for (true, read), count in sorted(Counter(zip(labels.tolist(), predicted.tolist(), strict=True)).items()):
        rate = count / samples[true]
        if true != read and count >= LEAST_COUNT and rate >= LEAST_RATE:
            table.setdefault(classes[true], {})[classes[read]] = round(float(rate), 3)
    return table


def save(path: Path, classes: str, pairs: dict[str, dict[str, float]], measured_on: str) -> None:
    """Writes JSON: what is confused, measured on these samples, and the classes that share their shape with others, of
    which small ones are worth a note only where they are classes."""
    others = {char: [c for c in twins(char) if c in classes or "SMALL" not in name(c)] for char in classes}
    same_shape = {char: "".join(found) for char, found in others.items() if found}
    content = {"measured_on": measured_on, "mixed_up": pairs, "same_shape": same_shape}
    write_text(path, json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def load(path: Path) -> Confusable:
    """A file that `save` wrote; an empty table where there is none. Raises InputError for any other file."""
    if not path.is_file():
        return Confusable()
    remedy = "write it again with scripts/evaluate.py --confusable, or remove it"
    content = read_json(path, remedy)
    tables = content.get("mixed_up"), content.get("same_shape")
    for table, kind in zip(tables, (dict, str), strict=True):
        if not isinstance(table, dict) or not all(isinstance(entry, kind) for entry in table.values()):
            raise InputError(f"{path} is damaged: {remedy}")
    return Confusable(*tables)
