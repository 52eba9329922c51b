"""The versions of packages: which are installed, and which are needed."""

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"
INSTALL = "pip install -r requirements.txt"
READING = {"onnxruntime": "1.19", "numpy": "1.23", "Pillow": "10.1"}  # all that recognize.py needs, as README says


class OldPackage(ImportError):
    """A package is older than what it is used for needs; the message says how to fix that."""


def release(version: str) -> list[int]:
    """The numbers that a version starts with, as four: [2, 11, 0, 0] of "2.11.0+cu128"."""
    numbers = re.match(r"[\d.]*", version)[0].split(".")
    return [int(number or 0) for number in [*numbers, "", "", ""][:4]]


def requirements(path: Path) -> list[tuple[str, str, str]]:
    """Of each line of a file of requirements: name, ">=" or "==", version; both empty where any version will do."""
    lines = path.read_text(encoding="utf-8")
    return re.findall(r"^(\w[\w.-]*)\s*(?:(==|>=)\s*([\d.]+))?", lines, re.MULTILINE)


def check(name: str, version: str) -> None:
    """Raises OldPackage where this version of a package is too old to read pictures with."""
    if release(version) < release(READING[name]):
        raise OldPackage(f"{name} {version} is too old, this needs {READING[name]} or newer: pip install -U {name}")


def outdated() -> list[str]:
    """What is installed and older than the requirements ask for, each with its remedy."""
    import importlib.metadata  # takes a tenth of a second, and is seldom needed

    old = []
    for name, relation, bound in requirements(REQUIREMENTS):
        for found in importlib.metadata.distributions(name=name):
            if release(found.version) < release(bound):
                old.append(f'{name} {found.version} is older than {bound}: pip install "{name}{relation}{bound}"')
    return old


def missing(error: ModuleNotFoundError) -> str:
    return f"the package {error.name} is missing: {INSTALL}"
