"""Fine-tune a trained float model as INT8 will compute it (quantisation-aware training, arXiv:1712.05877).

    python scripts/train_qat.py --data-dir dataset

MODEL_PATH is of any architecture; the CNN is trained first where there is none. Weights and activations are rounded in
the forward pass, and the gradient passes as if they were not. Batch norm and the ranges, measured on training
images, stay. It learns the float model's answers to the same augmented images (distillation, arXiv:1503.02531).

It ends with quantized_NAME_int8.pth in --model-dir, measured against the float model on the test split;
convert_int8_pytorch_to_quantized_onnx.py makes an ONNX file of it.
"""

from dataclasses import dataclass

import torch
from torch import fx, nn

from engine import processes
from engine.architecture import Architecture, loss_of_shown
from engine.devices import explain_device_errors
from files.command_line import run
from optimization_config import OptimizationConfig, default, internal, option, parse_config
from quantization.fine_tuning import CNN, architecture_trained, fine_tune
from quantization.network import prepare


@dataclass
class QATConfig(OptimizationConfig):
    model_path: str | None = option(None, "the float model, else the CNN's best")
    cnn_epochs: int = option(30, "for a CNN that has to be trained first", within="[1, inf)", changeable=True)
    calibration_images: int = option(1024, "to measure ranges on", within="[1, inf)")
    test_samples: int = option(30000, "to measure the result on", within="[1, inf)", changeable=True)
    float_script: str = internal(CNN)  # of MODEL_PATH, as its settings, in JSON
    float_settings: str = internal("{}")
    epochs: int = default("epochs", 2)
    learning_rate: float = default("learning_rate", 1e-4)
    distillation: float = default("distillation", 1.0)  # the teacher is the float model, if no other is named
    precision: str = default("precision", "fp32")  # bf16 has too few bits to distinguish the steps of uint8


class FakeQuantized(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes), rounded on the way.

    In training mode the logits are those of the classes shown (N, shown), with the column of each class (classes,).
    """

    def __init__(self, network: fx.GraphModule, classes: str, held_out: str):
        super().__init__()
        self.network = network
        shown = torch.tensor([char not in held_out for char in classes])
        self.register_buffer("shown", shown, persistent=False)

    def train(self, mode: bool = True) -> "FakeQuantized":
        """Batch norm and dropout stay as in evaluation."""
        self.training = mode
        return self

    def forward(self, images: torch.Tensor):
        logits = self.network(images)
        return (logits[:, self.shown], self.shown.cumsum(0) - 1) if self.training else logits


def fake_quantized(config: QATConfig, classes: str) -> FakeQuantized:
    architecture, settings = architecture_trained(config)
    return FakeQuantized(prepare(architecture.model(settings, classes)), classes, held_out_classes(config, classes))


def held_out_classes(config: QATConfig, classes: str) -> str:
    architecture, settings = architecture_trained(config)
    return architecture.held_out(settings, classes)


ARCHITECTURE = Architecture("qat", QATConfig, fake_quantized, loss_of_shown, held_out=held_out_classes)


def main() -> None:
    config = parse_config(QATConfig, __doc__)
    with explain_device_errors(config), processes.group():
        if report := fine_tune(ARCHITECTURE, config):
            print(report)


if __name__ == "__main__":
    run(main)
