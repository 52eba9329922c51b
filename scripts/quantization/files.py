"""Model files on their way to INT8 and after: float models in, integer networks out."""

from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from data.prepared import PreparedDataset
from engine import checkpoints, model_files
from engine.architecture import Architecture
from files.command_line import InputError, first_line
from optimization_config import OptimizationConfig, restored
from quantization.network import integer_model

CALIBRATION_BATCH = 128


def float_model_of(facts: dict, path: Path) -> tuple[Architecture, OptimizationConfig]:
    """The architecture and the settings that a float model's file names."""
    architecture = model_files.architecture_of(facts["script"], path)
    if architecture.name == "qat":
        raise InputError(f"{path} is quantised already: give a float model")
    try:
        return architecture, restored(architecture.config, facts["config"])
    except ValueError as error:
        raise InputError(f"{path} names settings that make no sense ({first_line(error)})") from None


def load_float(path: Path) -> tuple[nn.Module, dict]:
    """A trained float model and what its file says of it. Raises InputError for one that is quantised already."""
    model, facts = model_files.load_float(path)
    if facts["script"] == "train_qat":
        raise InputError(f"{path} is quantised already: give a float model")
    return model, facts


def calibration_images(dataset: PreparedDataset, count: int, held_out: str = "", seed: int = 0) -> list[torch.Tensor]:
    """Batches of training images float32 (n, 1, 64, 64), as many of each class as of any other, none held out."""
    split, random = dataset.splits["train"], np.random.default_rng(seed)
    shown = np.array([char not in held_out for char in dataset.classes])
    order = random.permutation(np.flatnonzero(shown[split.labels.numpy()]))
    labels = split.labels.numpy()[order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.empty(len(order), np.int64)  # this sample is the how-manieth of its class
    turn[by_class] = np.arange(len(order)) - starts
    chosen = order[np.argsort(turn, kind="stable")[:count]]
    batches = np.array_split(split.positions[chosen], -(-len(chosen) // CALIBRATION_BATCH))
    return [dataset.images(positions).float() / 255 for positions in batches]


def save_quantized(path: Path, network: fx.GraphModule, facts: dict, how: dict) -> None:
    """Writes a converted network with what its float model's file says about itself, and how it was quantised."""
    told = {name: facts.get(name) for name in ("script", "config", "classes", "source", "generator", "metrics")}
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoints.save(path, told | {"quantization": how, "model": tensors})


def load_trained(path: Path) -> tuple[nn.Module, dict]:
    """Any trained model of this toolkit, float or INT8: the model (CPU, evaluation mode), and what its file says."""
    content = model_files.load_content(path)
    return model_files.build(content, path, integer_model), model_files.facts_of(content)


def load_quantized(path: Path) -> tuple[fx.GraphModule, dict]:
    """An INT8 file: the network that computes with its integers, and what the file says about itself.

    Raises InputError for a model file of another kind.
    """
    network, facts = load_trained(path)
    if "quantization" not in facts:
        raise InputError(
            f"{path} is a float model: make it INT8 with scripts/quantize_model.py or scripts/train_qat.py"
        )
    return network, facts
