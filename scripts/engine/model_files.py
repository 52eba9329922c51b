"""Trained models from files: the architecture that a file names, built with its weights."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from engine.architecture import Architecture
from engine.checkpoints import UNREADABLE, checked, load
from files.command_line import InputError, first_line
from files.plain_json import parse_json
from optimization_config import restored

SCRIPTS = Path(__file__).resolve().parents[1]
LARGEST_MODEL = 8  # times its file: INT8 weights stand for float ones of four times their size


def architecture_of(script: str, path: object = "this call") -> Architecture:
    """The ARCHITECTURE of the training script that a file names; only scripts/train_*.py are imported."""
    if not re.fullmatch(r"train_[a-z0-9_]+", str(script)) or not (SCRIPTS / f"{script}.py").is_file():
        raise InputError(f"{path} names the training script {script!r}, which is not one of this toolkit's")
    spec = importlib.util.find_spec(script)
    if not spec or not spec.origin or not (SCRIPTS / f"{script}.py").samefile(spec.origin):
        raise InputError(f"another {script}.py than this toolkit's comes first here: {spec and spec.origin}")
    return importlib.import_module(script).ARCHITECTURE


def build(content: dict, path: Path, quantized: Callable[[nn.Module], nn.Module] | None = None) -> nn.Module:
    """The model that a file describes, with its weights (the averaged ones where there are any), in evaluation mode.

    `quantized` makes integer networks of float ones (quantization.network.integer_model); without it, INT8 is refused.
    """
    architecture = architecture_of(content["script"], path)
    if "quantization" in content and not quantized:
        raise InputError(f"{path} is quantised already: give a float model")
    try:
        config = restored(architecture.config, content["config"])
        with torch.device("meta"):  # however large the file says that the model is, this takes no memory
            shapes = architecture.model(config, content["classes"]).state_dict().values()
        if sum(t.numel() * t.itemsize for t in shapes) > LARGEST_MODEL * (path.stat().st_size + 100_000):
            raise ValueError("the file is too small for it")
        model = architecture.model(config, content["classes"])
        if "quantization" in content:
            model = quantized(model)
        model.load_state_dict(content.get("ema") or content["model"])
    except (TypeError, RuntimeError, AttributeError, ValueError, LookupError, ArithmeticError) as error:
        raise InputError(f"{path}: the weights do not fit the model they name ({first_line(error)})") from None
    return model.eval()


def load_content(path: Path) -> dict:
    """What a .pth, .pt or .safetensors file of this toolkit holds."""
    return load_safetensors(path) if path.suffix == ".safetensors" else load(path)


def load_network(path: Path, quantized: Callable | None = None) -> tuple[nn.Module, dict]:
    """A trained model (CPU, evaluation mode), and what its file says. `quantized` is that of `build`."""
    content = load_content(path)
    facts = {k: v for k, v in content.items() if k not in {"model", "ema", "optimizers", "schedulers", "rng"}}
    return build(content, path, quantized), facts


def load_safetensors(path: Path) -> dict:
    """A SafeTensors file written by convert_to_safetensors.py as the dict that `load` gives."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of a trained model")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).items()
            facts = {k: parse_json(v, f"{path}: {k}", "", object) for k, v in header if k != "format"}
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, *UNREADABLE):
        raise InputError(f"{path} is not a SafeTensors file of this toolkit, or is damaged") from None
    if not {"script", "config", "classes"} <= facts.keys():
        raise InputError(f"{path} does not say which script made it: write it with scripts/convert_to_safetensors.py")
    return checked(facts | {"model": tensors}, path)
