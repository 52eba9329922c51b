"""What quantisation costs: how often a float model and its INT8 model are right on the same samples.

Lookalikes are the samples of characters that the float model confuses: those of the 100 pairs of characters that it
most often takes for one another on the validation split. They are chosen there and counted elsewhere, because on
samples chosen by its own mistakes the float model would look worse than it is.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from data.samples import Samples, dataset_samples, image_samples
from files.command_line import InputError

PAIRS = 100
BATCH = 256


@torch.inference_mode()
def predictions(network: nn.Module, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """The likeliest class (n,) of each of these samples."""
    parts = np.array_split(rows, -(-len(rows) // BATCH))
    quiet = not sys.stderr.isatty()
    images = (torch.from_numpy(samples.images(part)) for part in tqdm(parts, leave=False, disable=quiet))
    return np.concatenate([network(batch).argmax(dim=1).numpy() for batch in images])


def select_rows(samples: Samples, classes: str, limit: int | None) -> np.ndarray:
    """The rows of samples of these classes, or `limit` of them, picked at random but always the same."""
    rows = np.flatnonzero(np.isin(samples.characters, list(classes)))
    if not len(rows):
        raise InputError(f"{samples.facts['description']}: none is of the model's {len(classes):,} classes")
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    return rows


def lookalikes(network: nn.Module, classes: str, samples: Samples, limit: int | None = None) -> str:
    """The characters of the PAIRS unordered pairs that a model confuses most often in these samples."""
    rows = select_rows(samples, classes, limit)
    names = np.array(list(classes))
    taken = names[predictions(network, samples, rows)]
    true = samples.characters[rows]
    pairs, counts = np.unique(np.sort(np.stack([true, taken])[:, true != taken], axis=0), axis=1, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:PAIRS]
    return "".join(sorted(set(pairs[:, most].ravel().tolist())))


def measure(networks: dict[str, nn.Module], classes: str, samples: Samples, alike: str, limit: int | None) -> dict:
    """Top-1 in % of each network on these samples, and on the lookalikes among them."""
    rows = select_rows(samples, classes, limit)
    true = samples.characters[rows]
    is_alike = np.isin(true, list(alike))
    figures: dict = {"samples": len(rows), "lookalike_samples": int(is_alike.sum())}
    names = np.array(list(classes))
    for name, network in networks.items():
        right = names[predictions(network, samples, rows)] == true
        figures[f"{name}_top1"] = 100 * float(right.mean())
        if is_alike.any():
            figures[f"{name}_lookalike_top1"] = 100 * float(right[is_alike].mean())
    return figures


def quantization_loss(
    networks: dict[str, nn.Module],
    facts: dict,
    data_dir: Path,
    images_dir: Path | None = None,
    limit: int | None = None,
) -> dict[str, dict]:
    """The figures of networks "float" and "int8" on the test split, and on a folder of images if there is one."""
    classes, config = facts["classes"], facts["config"]
    alike = lookalikes(networks["float"], classes, dataset_samples(data_dir, "validation", config), limit)
    places = {"test": dataset_samples(data_dir, "test", config)}
    if images_dir is not None:
        places["images"] = image_samples(images_dir)
    return {place: measure(networks, classes, samples, alike, limit) for place, samples in places.items()}


def accuracy_table(figures: dict[str, dict]) -> str:
    """The figures as lines: float, INT8 and the change."""
    lines = [f"{'':<24}{'samples':>9}{'float':>10}{'INT8':>10}{'change':>9}"]
    for place, of_place in figures.items():
        for kind, count, title in (("", "samples", place), ("lookalike_", "lookalike_samples", f"{place}, lookalikes")):
            if f"float_{kind}top1" in of_place:
                before, after = of_place[f"float_{kind}top1"], of_place[f"int8_{kind}top1"]
                lines.append(f"{title:<24}{of_place[count]:>9,}{before:>8.2f} %{after:>8.2f} %{after - before:>+9.2f}")
    return "\n".join(lines)


def metrics_of(figures: dict[str, dict]) -> dict:
    """The accuracy of the INT8 model alone, as its file names it."""
    return {
        f"{place}_{name.removeprefix('int8_')}": value
        for place, of_place in figures.items()
        for name, value in of_place.items()
        if not name.startswith("float_")
    }
