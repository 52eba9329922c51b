"""Checkpoints and trained models on disk: saved whole or not at all, loaded without running anything from the file.

A checkpoint is one dict of tensors and plain values: script, config, classes, source, versions, epoch, step, best,
metrics, model, ema, optimizers, schedulers, rng. A model file is the same without what only training needs.
"""

import math
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from pathlib import Path

import torch

from engine.optimizers import is_dense
from files.atomic import atomic_write
from files.command_line import InputError, first_line

FILE_NAME = "checkpoint_epoch_{:03d}.pt"
# What torch.load raises for files that are not its own, found by giving it thousands of damaged ones.
UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
    OverflowError,
)
# All that the pickle of a saved file names.
GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
LARGEST_PICKLE = 2_000_000  # bytes; that of a model here has 50,000
MOST_ENTRIES = 100  # of a dict of plain values
DOS_FOLDER = 0x10  # in the attributes of a record of a ZIP archive


def save(path: Path, content: dict) -> None:
    """Writes a dict of tensors and plain values, atomically; equal contents give equal bytes."""
    content = _without_identity(content)
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{path} cannot be written: {first_line(error)}") from None


def _without_identity(value):
    """The same value, each text in it one object: pickle refers back to an object that it has written before, so that
    otherwise the bytes would tell texts that were loaded from texts of the program."""
    if isinstance(value, dict):
        return {_without_identity(name): _without_identity(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_identity, value))
    return sys.intern(value) if isinstance(value, str) else value


def load(path: Path, device: str | torch.device = "cpu") -> dict:
    """A checkpoint or model file as saved. Raises FileNotFoundError, or InputError for a file that is no such thing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of a checkpoint or a trained model")
    try:
        _check_archive(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE:
        raise InputError(f"{path} is not a checkpoint of this toolkit, or is damaged") from None
    if not isinstance(content, dict) or not {"script", "config", "classes", "model"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this toolkit: it does not say which script made it")
    return checked(content, path)


def _check_archive(path: Path) -> None:
    """Raises BadZipFile or ValueError for what torch.load lets pass: records that are compressed, so that a small file
    fills the memory, do not fit their checksum, are there twice or are marked as folders, of which it reads nothing
    and leaves the memory as it was, a second pickle, and one that calls for more than tensors."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        pickles = [record for record in records if record.filename.endswith(".pkl")]
        stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
        stored = stored and all(record.header_offset >= 0 for record in records)
        stored = stored and not any(record.external_attr & DOS_FOLDER or record.is_dir() for record in records)
        whole = stored and sum(record.file_size for record in records) <= path.stat().st_size
        names = {record.filename for record in records}
        if not whole or len(pickles) != 1 or len(names) < len(records) or pickles[0].file_size > LARGEST_PICKLE:
            raise zipfile.BadZipFile
        if archive.testzip():
            raise zipfile.BadZipFile
        for code, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if code.name == "GLOBAL" and not GLOBALS.fullmatch(argument):
                raise zipfile.BadZipFile


def _is_plain(value, depth: int = 3) -> bool:
    """Whether a value is text, a number, or a small dict of such, no deeper than this."""
    if isinstance(value, dict):
        entries = len(value) <= MOST_ENTRIES and all(isinstance(name, str) for name in value)
        return depth > 0 and entries and all(_is_plain(inner, depth - 1) for inner in value.values())
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, str | float)


def checked(content: dict, path: Path) -> dict:
    """The content of a model file; raises InputError unless everything in it is of the kind that it should be."""
    classes = content["classes"]
    if not isinstance(classes, str) or not classes.isprintable() or not 0 < len(set(classes)) == len(classes):
        raise InputError(f"{path} is damaged: its classes are not so many different characters")
    kinds = {"script": str, "config": dict, "source": str, "generator": str, "metrics": dict, "quantization": dict}
    kinds |= {"epoch": int, "step": int, "best": (int, float), "training_samples": int, "versions": dict}
    kinds |= {"setbacks": int, "ema_count": int, "confidence": dict}
    for name, kind in kinds.items():
        value = content.get(name)
        fits = isinstance(value, kind) and not (kind is int and value < 0)
        fits = fits and not (isinstance(value, float) and not math.isfinite(value))  # no score would be above it
        if value is not None and not (fits and _is_plain(value)):
            raise InputError(f"{path} is damaged: its {name} is of another type, or more than plain values")
    if content["script"] is None or content["config"] is None:
        raise InputError(f"{path} is damaged: it does not say what made it")
    position = ["epoch", "step", "best", "metrics"]
    position += ["training_samples"] if "training_samples" in content else []  # which older ones lack
    if "optimizers" in content and any(content.get(name) is None for name in position):
        raise InputError(f"{path} is damaged: it does not say where its run stood")
    for name in ("model", "ema"):
        tensors = {} if name == "ema" and content.get(name) is None else content[name]
        if not isinstance(tensors, dict) or not all(isinstance(k, str) and is_dense(v) for k, v in tensors.items()):
            raise InputError(f"{path} is damaged: its {name} holds something else than dense tensors")
    return content


def existing(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    pattern = re.compile(FILE_NAME.replace("{:03d}", r"(\d{3,})").replace(".", r"\."))
    found = [(int(m[1]), path) for path in folder.glob("*.pt") if (m := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def prune(folder: Path, keep: int, last: Path | None = None) -> None:
    """Deletes all but the last `keep` checkpoints up to `last`; later ones are of epochs that are being done again."""
    found = existing(folder)
    end = found.index(last) + 1 if last in found else len(found)
    for path in found[: max(0, end - keep)] + found[end:]:
        path.unlink(missing_ok=True)


def clean(folder: Path, keep: int) -> None:
    """Deletes what a killed run left: checkpoints more than `keep`, and unfinished ones."""
    for path in folder.glob(f".{FILE_NAME.replace('{:03d}', '*')}.part"):
        path.unlink()
    prune(folder, keep)
