"""Fine-tune a trained float model as INT8 will compute it (quantisation-aware training, arXiv:1712.05877).

    python scripts/train_qat.py --data-dir dataset

MODEL_PATH is of any architecture; the CNN is trained first where there is none. Weights and activations are rounded in
the forward pass, and the gradient passes as if they were not; batch norm and the ranges stay. It learns the float
model's answers to the same augmented images (distillation, arXiv:1503.02531). It ends with quantized_NAME_int8.pth in
--model-dir, measured on the test split, of which convert_int8_pytorch_to_quantized_onnx.py makes an ONNX file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from dataclasses import dataclass

import torch
from torch import nn

from engine import processes
from engine.architecture import Architecture
from engine.devices import explain_device_errors
from files.command_line import run
from files.plain_json import parse_json
from optimization_config import OptimizationConfig, default, internal, option, parse_config
from quantization.files import float_architecture
from quantization.making import CNN, fine_tune
from quantization.network import prepare


@dataclass
class QATConfig(OptimizationConfig):
    model_path: str | None = option(None, "the float model, else the CNN's best")
    cnn_epochs: int = option(30, "for a CNN that has to be trained first", within="[1, inf)", changeable=True)
    calibration_images: int = option(1024, "to measure ranges on", within="[1, inf)")
    test_samples: int = option(30000, "to measure the result on", within="[1, inf)", changeable=True)
    float_script: str = internal(CNN)  # of MODEL_PATH, as its settings, in JSON
    float_settings: str = option("{}", None, changeable=True)  # weights of another shape are refused in any case
    epochs: int = default("epochs", 2)
    learning_rate: float = default("learning_rate", 1e-4)
    distillation: float = default("distillation", 1.0)  # the teacher is the float model, if no other is named
    precision: str = default("precision", "fp32")  # bf16 has too few bits to distinguish the steps of uint8


class FakeQuantized(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes), rounded on the way."""

    def __init__(self, config: QATConfig, classes: str):
        super().__init__()
        trained = {"script": config.float_script, "config": parse_json(config.float_settings, "config", "")}
        architecture, settings = float_architecture(trained)
        self.network = prepare(architecture.model(settings, classes))

    def train(self, mode: bool = True) -> "FakeQuantized":
        self.training = mode  # alone: batch norm and dropout stay as in evaluation
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


ARCHITECTURE = Architecture("qat", QATConfig, FakeQuantized)


def main() -> None:
    config = parse_config(QATConfig, __doc__)
    with explain_device_errors(config), processes.group():
        if report := fine_tune(ARCHITECTURE, config):
            print(report)


if __name__ == "__main__":
    run(main)
