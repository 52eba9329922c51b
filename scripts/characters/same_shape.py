"""Groups of characters that have the same shape, as a table (same_shape.txt), and what it means for classes."""

from functools import lru_cache
from pathlib import Path

import numpy as np


@lru_cache
def groups() -> dict[str, str]:
    """The groups, each as a text of its characters, with the reason. Raises ValueError where one stands in two."""
    table: dict[str, str] = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            characters, _, reason = line.partition(": ")
            table[characters] = reason
    together = "".join(table)
    if len(set(together)) < len(together):
        raise ValueError(f"{max(together, key=together.count)} stands in two groups of same_shape.txt")
    return table


@lru_cache
def twins(char: str) -> str:
    """The other characters of the same shape, "" for most."""
    return next((group.replace(char, "") for group in groups() if char in group), "")


def group_numbers(classes: str) -> np.ndarray:
    """For each class, int64 (classes,), the lowest label among the classes of its shape, its own for most."""
    label_of = {char: label for label, char in enumerate(classes)}
    numbers = np.arange(len(classes))
    for group in groups():
        labels = [label_of[char] for char in group if char in label_of]
        numbers[labels] = min(labels, default=0)
    return numbers
