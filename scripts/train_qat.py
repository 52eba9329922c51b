"""Fine-tune a trained float model as INT8 will compute it (quantisation-aware training, arXiv:1712.05877).

    python scripts/train_qat.py --data-dir dataset

MODEL_PATH is of any architecture; the CNN is trained first where there is none. Weights and activations are rounded in
the forward pass, and the gradient passes as if they were not. Batch norm and the ranges, found on training images,
stay. It learns the float model's answers to the same augmented images (distillation, arXiv:1503.02531).

It ends with quantized_NAME_int8.pth in --model-dir, measured against the float model on the test split;
convert_int8_pytorch_to_quantized_onnx.py makes an ONNX file of it.
"""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn

from data.prepared import PreparedDataset
from engine import checkpoints, model_files, processes
from engine.architecture import Architecture, loss_of_shown
from engine.devices import explain_device_errors
from engine.model_files import architecture_of
from engine.pretrained import check_split
from engine.training import fit
from files.command_line import InputError, run
from files.folders import OutputFolders
from files.plain_json import parse_json
from optimization_config import OptimizationConfig, default, option, own_options, parse_config, recorded
from quantization.files import calibration_images, float_model_of, load_float, save_quantized
from quantization.loss import metrics_of, quantization_loss, told
from quantization.network import calibrate, convert, prepare

SHARED_WITH_CNN = (
    "data_dir",
    "split",
    "model_dir",
    "keep_last_n",
    "checkpoint_minutes",
    "batch_size",
    "hiragana_repeats",
    "augmentation",
    "seed",
    "device",
    "compile",
    "deterministic",
    "on_nonfinite",
    "epoch_samples",
)


@dataclass
class QATConfig(OptimizationConfig):
    model_path: str | None = option(None, "the float model, else the CNN's best")
    cnn_epochs: int = option(30, "for a CNN that has to be trained first", changeable=True)
    calibration_images: int = option(1024, "from which ranges are found")
    test_samples: int = option(30000, "to measure the result on", changeable=True)
    float_script: str = option("train_etl9g_model", "MODEL_PATH tells")
    float_settings: str = option("{}", "MODEL_PATH tells")
    epochs: int = default("epochs", 2)
    learning_rate: float = default("learning_rate", 1e-4)
    distillation: float = default("distillation", 1.0)  # the teacher is the float model, if no other is named
    precision: str = default("precision", "fp32")  # bf16 has too few bits to tell the steps of uint8 apart

    def check(self) -> None:
        super().check()
        for name in ("cnn_epochs", "calibration_images", "test_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


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


def float_architecture(config: QATConfig) -> tuple[Architecture, OptimizationConfig]:
    facts = {"script": config.float_script, "config": parse_json(config.float_settings, "float_settings", "")}
    return float_model_of(facts, Path(config.model_path or config.float_script))


def held_out_classes(config: QATConfig, classes: str) -> str:
    architecture, settings = float_architecture(config)
    return architecture.held_out(settings, classes)


def fake_quantized(config: QATConfig, classes: str) -> FakeQuantized:
    architecture, settings = float_architecture(config)
    network = prepare(architecture.model(settings, classes))
    return FakeQuantized(network, classes, architecture.held_out(settings, classes))


ARCHITECTURE = Architecture(
    "qat",
    QATConfig,
    fake_quantized,
    loss_of_shown,
    held_out=held_out_classes,
)


def float_model(config: QATConfig) -> Path:
    """The float model to begin from; the CNN is trained if there is none, or if that was begun and not ended."""
    if config.model_path:
        return Path(config.model_path)
    cnn, folder = architecture_of("train_etl9g_model"), Path(config.model_dir) / "checkpoints" / "qat_cnn"
    best = Path(config.model_dir) / cnn.best_file

    def to_be_trained() -> bool:
        if not best.is_file():
            return True
        if checkpoints.load(best)["config"].get("checkpoint_dir") != str(folder):
            return False  # it was trained by itself
        found = checkpoints.existing(folder)  # none yet: the best of the first epoch is written before its checkpoint
        return not found or checkpoints.load(found[-1])["epoch"] < config.cnn_epochs

    if processes.from_main(to_be_trained):
        processes.say(f"{best} is not there yet: the CNN is trained first")
        shared = {name: getattr(config, name) for name in SHARED_WITH_CNN}
        own = {"epochs": config.cnn_epochs, "checkpoint_dir": str(folder), "resume_from": "auto"}
        fit(cnn, cnn.config(**shared, **own))
        processes.wait()  # for the first one, which writes it
    return best


def describe_float(config: QATConfig, path: Path) -> tuple[nn.Module, dict]:
    """The float model and what its file says, the latter noted in the config too."""
    model, facts = load_float(path)
    check_split(path, facts, config)
    config.float_script = facts["script"]
    config.float_settings = json.dumps(own_options(float_model_of(facts, path)[1]))
    return model, facts


def begin(config: QATConfig, model: nn.Module, facts: dict, path: Path) -> Path:
    """Calibrates the float model and saves it where training can begin from it."""
    dataset = PreparedDataset(Path(config.data_dir), config.split, config.seed)
    if facts["classes"] != dataset.classes:
        raise InputError(f"{path} was trained on other classes than {config.data_dir} has")
    held_out = held_out_classes(config, dataset.classes)
    network = prepare(model)
    calibrate(network, calibration_images(dataset, config.calibration_images, held_out))
    content = {"script": Path(__file__).stem, "config": recorded(config), "classes": dataset.classes}
    start = Path(config.model_dir) / ARCHITECTURE.name / "calibrated.pth"
    state = FakeQuantized(network, dataset.classes, held_out).state_dict()
    checkpoints.save(start, content | {"model": {name: value.clone() for name, value in state.items()}})
    return start


def finish(config: QATConfig, model: nn.Module, facts: dict) -> str:
    """Makes the best model INT8, measures and writes it; returns what was found."""
    best = Path(config.model_dir) / ARCHITECTURE.best_file
    trained, about = model_files.load_float(best)
    integer = convert(trained.network)
    networks = {"float": model, "int8": integer}
    figures = quantization_loss(networks, facts, Path(config.data_dir), limit=config.test_samples)
    how = {"how": "training", "epoch": about["epoch"], "images": config.calibration_images, "measured": figures}
    output = Path(config.model_dir) / f"quantized_{float_architecture(config)[0].name}_int8.pth"
    save_quantized(output, integer, facts | {"metrics": metrics_of(figures)}, how)
    return f"{told(figures)}\n{output}: {output.stat().st_size:,} bytes"


def train_quantized(config: QATConfig) -> None:
    """From a float model to an INT8 file; what is already done of it is not done again with --resume-from."""
    folder = Path(config.checkpoint_dir or Path(config.model_dir) / "checkpoints" / ARCHITECTURE.name)
    with contextlib.ExitStack() as held:
        with processes.fail_together():
            if processes.is_main():
                held.enter_context(OutputFolders(Path(config.model_dir) / ARCHITECTURE.name, folder))
        path = float_model(config)
        with processes.fail_together():
            model, facts = describe_float(config, path)
        config.model_path = str(path)
        config.teacher = config.teacher or str(path)
        with processes.fail_together():
            if not processes.from_main(lambda: resuming(config, folder)) and not config.init_from:
                config.init_from = processes.from_main(lambda: str(begin(config, model, facts, path)))
        fit(ARCHITECTURE, config)
        if processes.is_main():
            print(finish(config, model, facts))


def resuming(config: QATConfig, folder: Path) -> bool:
    return bool(config.resume_from and (config.resume_from != "auto" or checkpoints.existing(folder)))


def main() -> None:
    config = parse_config(QATConfig, sys.modules["__main__"].__doc__ or "")
    with explain_device_errors(config), processes.group():
        train_quantized(config)


if __name__ == "__main__":
    run(main)
