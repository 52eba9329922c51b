"""Trained models that a run starts from (--init-from) or learns from (--teacher), and what has to fit."""

from pathlib import Path

import torch
from torch import nn

from data.prepared import PreparedDataset
from engine.model_files import load_content, load_network
from files.command_line import InputError
from images.normalization import CANVAS
from inference.recognizer import Recognizer
from optimization_config import OptimizationConfig


def check_split(path: Path, facts: dict, config: OptimizationConfig, dataset: PreparedDataset | None = None) -> None:
    """Raises InputError for a model trained on another split of the same data: it has seen samples that now test it."""
    if dataset and (facts.get("source"), facts.get("generator")) != (dataset.source, dataset.metadata.get("generator")):
        return
    split, seed = facts["config"].get("split", "writer"), facts["config"].get("seed", 0)
    if split != config.split or (split == "random" and seed != config.seed):
        raise InputError(f"{path} was trained with --split {split} --seed {seed}: give the same ones, or it saw tests")


def copy_weights(model: nn.Module, classes: str, content: dict, path: Path) -> list[str]:
    """Copies weights into `model` by name and shape; returns the names of the tensors that are not all copied.

    Where the classes differ, tensors with a row for every class stay, even if the shapes agree; but where they begin
    with the trained model's, of parameters with more rows than its own the first ones are copied. Raises InputError if
    no tensor fits.
    """
    weights, own = content.get("ema") or content["model"], model.state_dict()
    other_classes = content["classes"] != classes
    per_class = {name for name, value in weights.items() if other_classes and len(content["classes"]) in value.shape}
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape and k not in per_class}
    if not fitting:
        raise InputError(f"{path} ({content['script']}) shares no weights with this model: is it another architecture?")
    model.load_state_dict(fitting, strict=False)
    if other_classes and classes.startswith(content["classes"]):
        for name, parameter in model.named_parameters():
            first = weights.get(name)
            if name not in fitting and first is not None and first.shape[1:] == parameter.shape[1:]:
                parameter.data[: len(first)] = first[: len(parameter)]
    return sorted(own.keys() - fitting.keys())


def start_from(model: nn.Module, config: OptimizationConfig, dataset: PreparedDataset) -> str:
    """Starts `model` from the weights that --init-from names; returns the line that says so."""
    path = Path(config.init_from)
    content = load_content(path)
    fresh = copy_weights(model, dataset.classes, content, path)
    check_split(path, content, config, dataset)
    return f"weights of {path}; new: {', '.join(fresh) or 'nothing'}"


class OnnxTeacher(nn.Module):
    """An exported model as a teacher, on onnxruntime: on a CPU an INT8 file answers several times as fast."""

    def __init__(self, path: Path):
        super().__init__()
        self.recognizer = Recognizer(path, torch.get_num_threads())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float32 (N, classes) of images float32 (N, 1, 64, 64), on the images' device."""
        return torch.from_numpy(self.recognizer.logits(images.float().cpu().numpy())).to(images.device)


def load_teacher(config: OptimizationConfig, dataset: PreparedDataset, device: torch.device) -> nn.Module:
    """The model that --teacher names, on the device. Raises InputError for one that cannot teach this run."""
    path = Path(config.teacher)
    if path.suffix.lower() == ".onnx":
        model = OnnxTeacher(path).eval()
        model(torch.zeros(1, 1, CANVAS, CANVAS))  # refuses a file that takes pictures
        facts = model.recognizer.facts | {"classes": model.recognizer.classes, "config": model.recognizer.config}
    else:
        model, facts = load_network(path)
    if facts["classes"] != dataset.classes:
        raise InputError(f"{path} was trained on other classes than {config.data_dir} has")
    check_split(path, facts, config, dataset)
    if hasattr(model, "freeze"):
        model.freeze()
    return model.to(device, memory_format=torch.channels_last)
