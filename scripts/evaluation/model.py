"""TODO doc: from evaluate"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from files.command_line import InputError
from files.plain_json import parse_json
from inference.confidence import Confidence, confidence_of
from inference.recognizer import Recognizer
from quantization.files import load_trained

MOVES = ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2))  # pixels down and right, within the margin of 6


@dataclass
class Model:
    """logits(images float32 (n, 1, 64, 64)) gives float32 (n, classes); `facts` is what the file says about itself, and
    `confidence` what it says of its logits."""

    logits: Callable[[np.ndarray], np.ndarray]
    classes: str
    facts: dict
    confidence: Confidence = field(default_factory=Confidence)


def load_model(path: Path) -> Model:
    """A checkpoint, best model, SafeTensors or ONNX file. Raises InputError or FileNotFoundError for anything else."""
    names = ("script", "source", "generator")
    if path.suffix.lower() == ".onnx":
        recognizer = Recognizer(path)
        config = parse_json(recognizer.facts.get("config") or "{}", f"{path}: config", "export it again")
        facts = {name: recognizer.facts.get(name) or None for name in names} | {"config": config}
        return Model(recognizer.logits, recognizer.classes, facts, recognizer.confidence)
    network, content = load_trained(path)
    network = network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).float().numpy()

    facts = {name: content.get(name) for name in (*names, "config")}
    return Model(logits, content["classes"], facts, confidence_of(content.get("confidence"), path))


def averaged_over_moves(model: Model) -> Model:
    """The same model, asked five times: of the image and of it moved by two pixels each way (test-time averaging). Its
    logits are the logarithm of the mean of the probabilities that the file's temperature gives."""

    def logits(images: np.ndarray) -> np.ndarray:
        views = (np.roll(images, move, axis=(2, 3)) for move in MOVES)
        shares = np.mean([model.confidence.probabilities(model.logits(view)) for view in views], axis=0)
        return np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)

    return replace(model, logits=logits, confidence=Confidence())


def logits_of(model: Model, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of images (n, 1, 64, 64). Raises FloatingPointError for what are not numbers."""
    logits = model.logits(images)
    if logits.shape != (len(images), len(model.classes)):
        raise InputError(
            f"the model gives {logits.shape[-1]} logits for its {len(model.classes)} classes: is it damaged?"
        )
    if not np.isfinite(logits).all():
        raise FloatingPointError("the model gives logits that are not finite numbers")
    return logits
