"""Checkpoints and trained models on disk: saved whole or not at all, loaded without running anything from the file.

A checkpoint is one dict of tensors and plain values: script, config, classes, source, versions, epoch, step, best,
metrics, model, ema, optimizers, schedulers, rng. A model file is the same without what only training needs.
"""

import dataclasses
import importlib
import json
import pickle
import re
import struct
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from atomic_file import atomic_write
from command_line import InputError

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
)


def save(path: Path, content: dict) -> None:
    """Writes a dict of tensors and plain values, atomically; equal contents give equal bytes."""
    content = _without_identity(content)
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from None


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
        content = torch.load(path, map_location=device, weights_only=True)
    except _UNREADABLE:
        raise InputError(f"{path} is not a checkpoint of this toolkit, or is damaged") from None
    if not isinstance(content, dict) or not {"script", "config", "classes", "model"} <= content.keys():
        raise InputError(f"{path} is not a checkpoint of this toolkit: it does not say which script made it")
    return content


def existing(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    pattern = re.compile(FILE_NAME.replace("{:03d}", r"(\d{3,})").replace(".", r"\."))
    found = [(int(m[1]), path) for path in folder.glob("*.pt") if (m := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def prune(folder: Path, keep: int, last: Path | None = None) -> None:
    """Deletes all but the last `keep` checkpoints up to `last`; later ones are of epochs that are being done again."""
    found = existing(folder)
    end = found.index(last) + 1 if last else len(found)
    for path in found[: max(0, end - keep)] + found[end:]:
        path.unlink()


def clean(folder: Path, keep: int) -> None:
    """Deletes what a killed run left: checkpoints more than `keep`, and unfinished ones."""
    for path in folder.glob(f".{FILE_NAME.replace('{:03d}', '*')}.part"):
        path.unlink()
    prune(folder, keep)


def architecture_of(script: str, path: Path):
    """The ARCHITECTURE of the training script that a file names; only train_*.py beside this one are imported."""
    if not re.fullmatch(r"train_[a-z0-9_]+", str(script)) or not Path(__file__).with_name(f"{script}.py").is_file():
        raise InputError(f"{path} names the training script {script!r}, which is not one of this toolkit's")
    return importlib.import_module(script).ARCHITECTURE


def build(content: dict, path: Path) -> nn.Module:
    """The model that a file describes, with its weights (the averaged ones where there are any), in evaluation mode."""
    architecture = architecture_of(content["script"], path)
    known = {field.name for field in dataclasses.fields(architecture.config)}
    try:
        config = architecture.config(**{k: v for k, v in content["config"].items() if k in known})
        model = architecture.model(config, content["classes"])
        if "quantization" in content:
            model = importlib.import_module("quantization").integer_model(model)
        model.load_state_dict(content.get("ema") or content["model"])
    except (TypeError, RuntimeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: the weights do not fit the model they name ({str(error).splitlines()[0]})") from None
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
        with safe_open(path, framework="pt") as file:
            facts = {k: json.loads(v) for k, v in (file.metadata() or {}).items() if k != "format"}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError):
        raise InputError(f"{path} is not a SafeTensors file of this toolkit, or is damaged") from None
    if not {"script", "config", "classes"} <= facts.keys():
        raise InputError(f"{path} does not say which script made it: write it with scripts/convert_to_safetensors.py")
    return facts | {"model": tensors}


def start_from(model: nn.Module, classes: str, path: Path) -> list[str]:
    """Copies the weights of a trained model into `model` by name and shape (`--init-from`); returns what stays new.

    Where the classes differ, tensors with a row for every class stay new even if the shapes agree.
    """
    content = load_safetensors(path) if path.suffix == ".safetensors" else load(path)
    weights, own = content.get("ema") or content["model"], model.state_dict()
    other_classes = content["classes"] != classes
    per_class = {name for name, value in weights.items() if other_classes and len(content["classes"]) in value.shape}
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape and k not in per_class}
    if not fitting:
        raise InputError(f"{path} ({content['script']}) shares no weights with this model: is it another architecture?")
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())
