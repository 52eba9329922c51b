"""INT8 by calibration: the ranges of a trained model's activations are measured on training images."""

from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from data.prepared import PreparedDataset
from files.command_line import InputError
from files.folders import beside, check_not
from quantization.files import float_architecture, load_float, save_measured
from quantization.network import calibrate, prepare

BATCH = 128
CONFIDENCE_LOST = "\nthe float model's confidence does not hold for it: export it, then run calibrate_confidence.py"


def calibration_images(dataset: PreparedDataset, count: int, held_out: str = "", seed: int = 0) -> list[torch.Tensor]:
    """Batches of training images float32 (n, 1, 64, 64), as many of each class as of any other, none held out."""
    split, random = dataset.splits["train"], np.random.default_rng(seed)
    shown = np.array([char not in held_out for char in dataset.classes])
    order = random.permutation(np.flatnonzero(shown[split.labels.numpy()]))
    labels = split.labels.numpy()[order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    index_in_class = np.empty(len(order), np.int64)
    index_in_class[by_class] = np.arange(len(order)) - starts
    chosen = order[np.argsort(index_in_class, kind="stable")[:count]]
    batches = np.array_split(split.positions[chosen], -(-len(chosen) // BATCH))
    return [dataset.images(positions).float() / 255 for positions in batches]


def calibrated(model: nn.Module, dataset: PreparedDataset, count: int, held_out: str) -> tuple[fx.GraphModule, int]:
    """A copy of a float network that rounds as INT8 will, and on how many images its ranges were measured: `count`, or
    all training images if there are fewer."""
    network, batches = prepare(model), calibration_images(dataset, count, held_out)
    calibrate(network, batches)
    return network, sum(map(len, batches))


def quantize(
    model_path: Path,
    output: Path | None,
    data_dir: Path,
    count: int,
    images_dir: Path | None = None,
    limit: int | None = None,
) -> str:
    """Makes a trained float checkpoint INT8 by calibration on `count` images, measures it and writes it.

    Measures on the test split, and on the folder `images_dir` if there is one, `limit` samples of each at most. Returns
    what was measured as lines. Raises InputError for a model or an output that cannot be.
    """
    if output:
        check_not(output, model_path)
        if output.suffix not in {".pth", ".pt"}:
            raise InputError(
                f"{output}: an INT8 file of PyTorch is named *.pth; convert_to_safetensors.py makes others"
            )
    model, facts = load_float(model_path)
    architecture, settings = float_architecture(facts, model_path)
    config = facts["config"]
    dataset = PreparedDataset(data_dir, config.get("split", "writer"), config.get("seed", 0))
    if unknown := set(facts["classes"]) - set(dataset.classes):
        raise InputError(f"{data_dir} has no {min(unknown)}, which is a class of {model_path}")
    network, count = calibrated(model, dataset, count, architecture.held_out(settings, facts["classes"]))
    output = output or beside(model_path, f"quantized_{architecture.name}_int8.pth")
    how = {"how": "calibration", "images": count}
    report = save_measured(output, network, model, facts, how, data_dir, images_dir, limit)
    return f"{report}, calibrated on {count:,} images" + (CONFIDENCE_LOST if facts.get("confidence") else "")
