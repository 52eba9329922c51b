"""What quantisation costs: how often a float network and its INT8 network are right on the same samples, and on those
of lookalikes, the 100 pairs of characters that the float network most often takes for one another. These are chosen on
the validation split, for on samples chosen by its own mistakes it would look worse than it is."""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from data.samples import Samples
from files.command_line import InputError

PAIRS = 100


@torch.inference_mode()
def predictions(network: nn.Module, classes: str, samples: Samples, rows: np.ndarray) -> np.ndarray:
    """The likeliest character (n,) of each of these samples."""
    parts = tqdm(np.array_split(rows, -(-len(rows) // 256)), leave=False, disable=None)
    labels = [network(torch.from_numpy(samples.images(part))).argmax(dim=1).numpy() for part in parts]
    return np.array(list(classes))[np.concatenate(labels)]


def select_rows(samples: Samples, classes: str, limit: int | None) -> np.ndarray:
    """The rows of samples of these classes, or `limit` of them, picked at random but always the same."""
    rows = np.flatnonzero(np.isin(samples.characters, list(classes)))
    if not len(rows):
        raise InputError(f"{samples.facts['description']}: none is of the model's {len(classes):,} classes")
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    return rows


def lookalikes(network: nn.Module, classes: str, samples: Samples, limit: int | None = None) -> str:
    """The characters of the PAIRS unordered pairs that a network confuses most often in these samples."""
    rows = select_rows(samples, classes, limit)
    true, read = samples.characters[rows], predictions(network, classes, samples, rows)
    pairs, counts = np.unique(np.sort(np.stack([true, read])[:, true != read], axis=0), axis=1, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:PAIRS]
    return "".join(np.unique(pairs[:, most]))


def measure(networks: dict[str, nn.Module], classes: str, samples: Samples, alike: str, limit: int | None) -> dict:
    """Top-1 in % of each network on these samples, and on the lookalikes among them."""
    rows = select_rows(samples, classes, limit)
    true = samples.characters[rows]
    is_alike = np.isin(true, list(alike))
    figures = {"samples": len(rows), "lookalike_samples": int(is_alike.sum())}
    for name, network in networks.items():
        right = predictions(network, classes, samples, rows) == true
        figures[f"{name}_top1"] = 100 * float(right.mean())
        if is_alike.any():
            figures[f"{name}_lookalike_top1"] = 100 * float(right[is_alike].mean())
    return figures


def accuracy_table(figures: dict[str, dict]) -> str:
    """What was measured in each place as lines: float, INT8 and the change."""
    lines = [f"{'':<24}{'samples':>9}{'float':>10}{'INT8':>10}{'change':>9}"]
    for place, measured in figures.items():
        for kind, title in (("", place), ("lookalike_", f"{place}, lookalikes")):
            if f"float_{kind}top1" in measured:
                before, after = measured[f"float_{kind}top1"], measured[f"int8_{kind}top1"]
                numbers = f"{measured[f'{kind}samples']:>9,}{before:>8.2f} %{after:>8.2f} %{after - before:>+9.2f}"
                lines.append(f"{title:<24}{numbers}")
    return "\n".join(lines)
