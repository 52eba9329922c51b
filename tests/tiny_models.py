"""The four architectures, so narrow that a test has no time to wait, as files of trained models."""

import dataclasses
import importlib
from pathlib import Path

import torch
from torch import nn

from engine import checkpoints
from quantization.files import save_quantized
from quantization.network import calibrate, convert, prepare

CLASSES = "あいう亜腕"
TINY = {
    "train_etl9g_model": {"width": 0.25, "embedding": 16},
    "train_hiercode": {"width": 0.25, "dimensions": 32},
    # An LSTM large enough that the exporter does not multiply its integers out by itself.
    "train_radical_rnn": {"width": 0.25, "hidden": 40, "embedding": 16},
    "train_vit": {"width": 32, "depth": 2, "embedding": 16},
}


def tiny_model(script: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """A model with random weights and running statistics, in evaluation mode, and what its file says of it."""
    architecture = importlib.import_module(script).ARCHITECTURE
    config = architecture.config(**TINY[script])
    torch.manual_seed(seed)
    model = architecture.model(config, CLASSES).train()
    for _ in range(3):
        model(torch.rand(16, 1, 64, 64))
    facts = {"script": script, "config": dataclasses.asdict(config), "classes": CLASSES, "source": "test shapes"}
    return model.eval(), facts | {"metrics": {}}


def some_images(count: int = 32, seed: int = 1) -> torch.Tensor:
    """Smooth blots: float32 (count, 1, 64, 64)."""
    noise = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(seed))
    return (6 * (nn.functional.avg_pool2d(noise, 9, 1, 4) - 0.42)).clamp(0, 1)


def save_float(script: str, path: Path) -> Path:
    model, facts = tiny_model(script)
    checkpoints.save(path, facts | {"model": model.state_dict()})
    return path


def save_int8(script: str, path: Path) -> Path:
    model, facts = tiny_model(script)
    network = prepare(model)
    calibrate(network, [some_images()])
    save_quantized(path, convert(network), facts | {"quantization": {"how": "calibration"}})
    return path
