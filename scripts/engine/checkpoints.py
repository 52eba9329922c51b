"""Checkpoints and trained models on disk: saved whole or not at all, loaded without running anything from the file.

A checkpoint is one dict of tensors and plain values: script, config, classes, source, versions, epoch, step, best,
metrics, model, ema, optimizers, schedulers, rng. A model file is the same without what only training needs.
"""

import math
import pickle
import re
import sys
import zipfile
from pathlib import Path

import torch

from files.atomic import atomic_write
from files.command_line import InputError, first_line

FILE_NAME = "checkpoint_epoch_{:03d}.pt"
# What torch.load raises for files that are not its own.
UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError)
UNREADABLE += (AssertionError, ArithmeticError, zipfile.BadZipFile)
TEXTS, TABLES = ("script", "source", "generator", "run"), ("config", "metrics", "quantization", "confidence")
NUMBERS = ("epoch", "step", "best", "training_samples")
KINDS = dict.fromkeys(TEXTS, str) | dict.fromkeys(TABLES, dict) | dict.fromkeys(NUMBERS, int | float)


def save(path: Path, content: dict) -> None:
    """Writes a dict of tensors and plain values, atomically; equal contents give equal bytes."""
    content = _with_interned_text(content)
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{path} cannot be written: {first_line(error)}") from None


def _with_interned_text(value):
    """The same value, equal texts in it one object: pickle writes a text that it has met before as a reference, so the
    bytes would otherwise depend on where each text came from."""
    if isinstance(value, dict):
        return {_with_interned_text(name): _with_interned_text(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_interned_text, value))
    return sys.intern(value) if isinstance(value, str) else value


def load(path: Path, device: str | torch.device = "cpu") -> dict:
    """A checkpoint or model file as saved. Raises FileNotFoundError, or InputError for a file that is no such thing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of a checkpoint or a trained model")
    try:
        with zipfile.ZipFile(path) as archive:  # torch neither compresses nor compares checksums
            if sum(record.file_size for record in archive.infolist()) > path.stat().st_size or archive.testzip():
                raise zipfile.BadZipFile
        content = torch.load(path, map_location=device, weights_only=True)
    except (*UNREADABLE, NotImplementedError):
        raise InputError(f"{path} is not a checkpoint of this toolkit, or is damaged") from None
    if not isinstance(content, dict) or not {"script", "config", "classes", "model"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this toolkit: it does not say which script made it")
    return checked(content, path)


def checked(content: dict, path: Path) -> dict:
    """The content of a model file; raises InputError for one without classes, settings, figures or tensors."""
    classes = content["classes"]
    if not isinstance(classes, str) or not classes.isprintable() or not 0 < len(set(classes)) == len(classes):
        raise InputError(f"{path} is damaged: its classes are not a text of different characters")
    for name, kind in KINDS.items():
        value = content.get(name)
        infinite = isinstance(value, float) and not math.isfinite(value)  # no score would be above it
        if infinite or not isinstance(value, kind | None if name in content else object):
            raise InputError(f"{path} is damaged: its {name} is of another type")
    needed = ["script", "config", *(["epoch", "step", "best", "metrics"] if "optimizers" in content else [])]
    if missing := [name for name in needed if content.get(name) is None]:
        raise InputError(f"{path} is damaged: it does not say its {missing[0]}")
    for name in ("model", "ema"):
        tensors = content.get(name) or {}
        if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise InputError(f"{path} is damaged: its {name} holds something else than tensors")
    return content


def existing(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    pattern = re.compile(FILE_NAME.replace("{:03d}", r"(\d{3,})").replace(".", r"\."))
    numbered = [(int(m[1]), path) for path in folder.glob("*.pt") if (m := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def prune(folder: Path, keep: int, last: Path | None = None) -> None:
    """Deletes all but the last `keep` checkpoints up to `last`; later ones are of epochs that are being done again."""
    paths = existing(folder)
    end = paths.index(last) + 1 if last in paths else len(paths)
    for path in paths[: max(0, end - keep)] + paths[end:]:
        path.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Deletes unfinished checkpoints, which a killed run left."""
    for path in folder.glob(f".{FILE_NAME.replace('{:03d}', '*')}.part"):
        path.unlink()
