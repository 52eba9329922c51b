"""Checkpoints and trained models on disk: saved whole or not at all, loaded without running anything from the file.

A checkpoint is one dict of tensors and plain values: script, config, classes, source, versions, epoch, step, best,
metrics, model, ema, optimizers, schedulers, rng. A model file is the same without what only training needs.
"""

import importlib.util
import math
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from atomic_file import atomic_write
from command_line import InputError, first_line
from optimization_config import restored
from plain_json import parse_json

FILE_NAME = "checkpoint_epoch_{:03d}.pt"
# What torch.load raises for files that are not its own, found by giving it thousands of damaged ones.
_UNREADABLE = (
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
LARGEST_PICKLE, LARGEST_HEADER = 2_000_000, 4_000_000  # bytes; those of a model here have 50,000
LARGEST_MODEL = 8  # times its file: INT8 weights stand for float ones of four times their size
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
    except _UNREADABLE:
        raise InputError(f"{path} is not a checkpoint of this toolkit, or is damaged") from None
    if not isinstance(content, dict) or not {"script", "config", "classes", "model"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this toolkit: it does not say which script made it")
    return _checked(content, path)


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


def _is_dense(tensor) -> bool:
    """Whether a value is a tensor that holds its numbers one after the other."""
    return isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.device.type != "meta"


def _checked(content: dict, path: Path) -> dict:
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
        if not isinstance(tensors, dict) or not all(isinstance(k, str) and _is_dense(v) for k, v in tensors.items()):
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


def architecture_of(script: str, path: Path):
    """The ARCHITECTURE of the training script that a file names; only train_*.py beside this one are imported."""
    own = Path(__file__).parent / f"{script}.py"
    if not re.fullmatch(r"train_[a-z0-9_]+", str(script)) or not own.is_file():
        raise InputError(f"{path} names the training script {script!r}, which is not one of this toolkit's")
    found = sys.modules.get(script) or importlib.util.find_spec(script)
    place = getattr(found, "origin", None) or getattr(found, "__file__", None)
    if not place or not own.samefile(place):
        raise InputError(f"another {script}.py than this toolkit's comes first here: {place}")
    return importlib.import_module(script).ARCHITECTURE


def build(content: dict, path: Path) -> nn.Module:
    """The model that a file describes, with its weights (the averaged ones where there are any), in evaluation mode."""
    architecture = architecture_of(content["script"], path)
    try:
        config = restored(architecture.config, content["config"])
        with torch.device("meta"):  # however large the file says that the model is, this takes no memory
            shapes = architecture.model(config, content["classes"]).state_dict().values()
        if sum(t.numel() * t.itemsize for t in shapes) > LARGEST_MODEL * (path.stat().st_size + 100_000):
            raise ValueError("the file is too small for it")
        model = architecture.model(config, content["classes"])
        if "quantization" in content:
            model = importlib.import_module("quantization").integer_model(model)
        model.load_state_dict(content.get("ema") or content["model"])
    except (TypeError, RuntimeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: the weights do not fit the model they name ({reason})") from None
    return model.eval()


def load_trained(path: Path) -> tuple[nn.Module, dict]:
    """Any trained model of this toolkit, .pth, .pt or .safetensors: the model (CPU, evaluation mode), and what the file
    says about it (script, config, classes, source, metrics)."""
    content = load_safetensors(path) if path.suffix == ".safetensors" else load(path)
    model = build(content, path)
    return model, {k: v for k, v in content.items() if k not in {"model", "ema", "optimizers", "schedulers", "rng"}}


def load_safetensors(path: Path) -> dict:
    """A SafeTensors file written by convert_to_safetensors.py as the dict that `load` gives."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of a trained model")
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LARGEST_HEADER:
                raise ValueError("its header is too large")
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            facts = {k: parse_json(v, f"{path}: {k}", "", object) for k, v in told.items() if k != "format"}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, *_UNREADABLE):
        raise InputError(f"{path} is not a SafeTensors file of this toolkit, or is damaged") from None
    if not {"script", "config", "classes"} <= facts.keys():
        raise InputError(f"{path} does not say which script made it: write it with scripts/convert_to_safetensors.py")
    return _checked(facts | {"model": tensors}, path)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Puts the moments of a checkpoint into an optimizer, whose settings stay its own.

    Raises ValueError or a like error where they are not those of its parameters.
    """
    optimizer.load_state_dict({"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]})
    names = {"AdamW": {"step", "exp_avg", "exp_avg_sq"}, "Muon": {"momentum_buffer"}}[type(optimizer).__name__]
    for parameter, moments in optimizer.state.items():
        dense = all(_is_dense(m) and m.shape in {parameter.shape, torch.Size()} for m in moments.values())
        if not dense or moments.keys() != names:
            raise ValueError("the optimizer's moments are not those of its parameters")


def start_from(model: nn.Module, classes: str, path: Path) -> tuple[list[str], dict]:
    """Copies the weights of a trained model into `model` by name and shape (`--init-from`); returns what stays new, and
    what the file says of itself.

    Where the classes differ, tensors with a row for every class stay new even if the shapes agree.
    """
    content = load_safetensors(path) if path.suffix == ".safetensors" else load(path)
    weights, own = content.get("ema") or content["model"], model.state_dict()
    other_classes = content["classes"] != classes
    per_class = {name for name, value in weights.items() if other_classes and len(content["classes"]) in value.shape}
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape and k not in per_class}
    if not fitting:
        raise InputError(f"{path} ({content['script']}) shares no weights with this model: is it another architecture?")
    try:
        model.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit this model: {str(error).splitlines()[-1].strip()}") from None
    return sorted(own.keys() - fitting.keys()), content
