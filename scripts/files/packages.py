"""Packages that a requirements file asks for, beside those that are installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from pathlib import Path

OTHER_BUILDS = {  # distributions that bring the same module as the one required
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
}


def required(path: Path) -> dict[str, str]:
    """Of a requirements file {name: ">=2.11", "==1.2", or "" where any version will do}."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this toolkit is not whole, get it again")
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = (re.match(r"(\w[\w.-]*)\s*((?:==|>=)\s*[\d.]+)?", line) for line in lines)
    return {match[1]: (match[2] or "").replace(" ", "") for match in matches if match}


def installed(name: str) -> tuple[str, str]:
    """The version of a package and the distribution that brings it; "" twice where there is none."""
    for distribution in (name, *OTHER_BUILDS.get(name, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution), distribution
    return "", ""


def fits(version: str, bound: str) -> bool:
    """Whether a version is one that a bound of `required` allows; 2.11, 2.11.0 and 2.11.0+cu128 are the same."""
    own, least = _release(version), _release(bound[2:])
    return own == least if bound.startswith("==") else own >= least


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with, without zeros at the end: (2, 11) of "2.11.0+cu128"."""
    numbers = [int(number) for number in re.split(r"[^\d.]", version, maxsplit=1)[0].split(".") if number]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
