"""Any model file of this toolkit as one function from images to logits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from files.command_line import InputError
from files.plain_json import parse_json
from inference.confidence import Confidence, confidence_of
from inference.recognizer import Recognizer
from quantization.files import load_trained


@dataclass
class Model:
    """compute(images float32 (n, 1, 64, 64)) gives float32 (n, classes); `facts` is what the file says about itself,
    `confidence` what it says of its logits."""

    compute: Callable[[np.ndarray], np.ndarray]
    classes: str
    facts: dict
    confidence: Confidence = field(default_factory=Confidence)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, classes) of images float32 (n, 1, 64, 64).

        Raises InputError for another number of logits than classes, FloatingPointError for logits that are not finite.
        """
        logits = self.compute(images)
        if logits.shape != (len(images), len(self.classes)):
            count = logits.shape[-1]
            raise InputError(f"the model gives {count} logits for its {len(self.classes)} classes: is it damaged?")
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model gives logits that are not finite numbers")
        return logits


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
    def compute(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).float().numpy()

    facts = {name: content.get(name) for name in (*names, "config")}
    return Model(compute, content["classes"], facts, confidence_of(content.get("confidence"), path))
