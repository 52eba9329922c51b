"""Any model file of this toolkit as one function from images to logits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data.samples import Samples
from images.normalization import normalize
from inference.confidence import Confidence, confidence_of
from inference.recognizer import Recognizer
from quantization.files import load_trained


@dataclass
class Model:
    """logits(images float32 (n, 1, 64, 64)) gives float32 (n, classes), all finite, and so does picture_logits of grey
    pictures where the file has the normalisation inside; `facts` and `confidence` come from the file."""

    logits: Callable[[np.ndarray], np.ndarray]
    classes: str
    facts: dict
    confidence: Confidence = field(default_factory=Confidence)
    picture_logits: Callable[[list[np.ndarray]], np.ndarray] | None = None

    def read(self, samples: Samples, rows: np.ndarray) -> np.ndarray:
        """The logits float32 (len(rows), classes) of samples, as pictures where the model takes those."""
        if self.picture_logits:
            return self.picture_logits(samples.pictures(rows))
        return self.logits(samples.images(rows))

    def of_picture(self, grey: np.ndarray) -> np.ndarray:
        """The logits float32 (1, classes) of one picture, grey values 0 to 255 (H, W); 0 for one without ink."""
        if self.picture_logits:
            return self.picture_logits([grey])
        image = normalize(grey)[None]
        return self.logits(image) * image.any()


def load_model(path: Path) -> Model:
    """A checkpoint, best model, SafeTensors or ONNX file. Raises InputError or FileNotFoundError for anything else."""
    names = ("script", "source", "generator")
    if path.suffix.lower() == ".onnx":
        recognizer = Recognizer(path)
        facts = {name: recognizer.facts.get(name) or None for name in names} | {"config": recognizer.config}
        if not recognizer.takes_pictures:
            return Model(recognizer.logits, recognizer.classes, facts, recognizer.confidence)

        def dark_on_white(images: np.ndarray) -> np.ndarray:
            return recognizer.picture_logits(list(np.round(255 * (1 - images[:, 0]))))

        return Model(dark_on_white, recognizer.classes, facts, recognizer.confidence, recognizer.picture_logits)
    return of_network(*load_trained(path), path)


def of_network(network: nn.Module, content: dict, path: Path) -> Model:
    """A network in evaluation mode on the CPU, with what its file says of it."""
    network = network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        values = network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).float().numpy()
        if not np.isfinite(values).all():
            raise FloatingPointError(f"{path} gives logits that are not finite numbers")
        return values

    facts = {name: content.get(name) for name in ("script", "source", "generator", "config")}
    return Model(logits, content["classes"], facts, confidence_of(content.get("confidence"), path))
