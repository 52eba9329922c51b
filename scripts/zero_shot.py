"""Measure HierCode on the classes it was trained without, on unseen writers: are codes enough to recognise them?

    python scripts/zero_shot.py --model models/hiercode_model_best.pth --data-dir dataset

The model must have been trained with --hold-out-classes. Printed is the top-1 of the held-out classes' test images,
among the held-out classes alone and among all; the same with the held-out classes' codes shuffled, which shows that the
codes do the work; and the top-1 of the classes that were shown.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from atomic_file import write_text
from checkpoints import load_trained
from command_line import InputError, run
from etl9g_dataset import PreparedDataset
from structure_codes import held_out
from training import to_input

BATCH = 256


def logits_of(model, dataset: PreparedDataset, positions: np.ndarray) -> torch.Tensor:
    """Logits (n, classes) of these images of the dataset."""
    parts = np.array_split(positions, max(1, len(positions) // BATCH))
    return torch.cat([model(to_input(dataset.images(part))) for part in parts])


def share(logits: torch.Tensor, labels: torch.Tensor, among: torch.Tensor) -> float:
    """Top-1 in % of logits (n, classes) with these labels (n,), when only the classes `among` may be chosen."""
    return 100 * float((among[logits[:, among].argmax(dim=1)] == labels).float().mean())


def shuffle_codes(model, among: torch.Tensor, seed: int = 0) -> None:
    """Deals the codes of the classes `among` out to each other, so that none keeps its own."""
    order = torch.randperm(len(among), generator=torch.Generator().manual_seed(seed))
    members = model.prototypes.members
    members[among[order]] = members[among[order.roll(1)]].clone()


@torch.inference_mode()
def measure(model, facts: dict, dataset: PreparedDataset, limit: int | None) -> dict:
    """The figures, in %. Raises InputError for a model that was shown every class."""
    characters = held_out(facts["config"].get("hold_out_classes", 0), facts["classes"])
    if not characters:
        raise InputError("the model was trained on every class: train it with train_hiercode.py --hold-out-classes 500")
    if facts["classes"] != dataset.classes:
        raise InputError("the model has other classes than the dataset")
    unseen = torch.tensor([facts["classes"].index(c) for c in characters])
    test = dataset.splits["test"]
    is_unseen = torch.isin(test.labels, unseen)
    sizes = {"unseen": int(is_unseen.sum()), "seen": int((~is_unseen).sum())}
    picked = {}
    for name, mask in (("unseen", is_unseen), ("seen", ~is_unseen)):
        rows = np.flatnonzero(mask.numpy())
        if limit and limit < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
        picked[name] = rows, test.labels[rows]
    everything = torch.arange(len(facts["classes"]))
    rows, labels = picked["unseen"]
    logits = logits_of(model, dataset, test.positions[rows])
    figures = {
        "held_out_classes": len(characters),
        "test_images_of_them": sizes["unseen"],
        "measured_on": len(rows),
        "top1_among_held_out": share(logits, labels, unseen),
        "top1_among_all": share(logits, labels, everything),
        "chance": 100 / len(characters),
    }
    seen_rows, seen_labels = picked["seen"]
    figures["top1_of_shown_among_all"] = share(
        logits_of(model, dataset, test.positions[seen_rows]), seen_labels, everything
    )
    shuffle_codes(model, unseen)
    figures["top1_among_held_out_with_shuffled_codes"] = share(
        logits_of(model, dataset, test.positions[rows]), labels, unseen
    )
    return figures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hiercode_model_best.pth"), help="a trained HierCode")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--limit", type=int, help="at most so many images of either kind, picked at random")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    model, facts = load_trained(arguments.model)
    if facts["script"] != "train_hiercode":
        raise InputError(
            f"{arguments.model} was made by {facts['script']}.py: only HierCode reads classes by their codes"
        )
    config = facts["config"]
    dataset = PreparedDataset(arguments.data_dir, config.get("split", "writer"), config.get("seed", 0))
    figures = measure(model, facts, dataset, arguments.limit)
    for name, value in figures.items():
        told = f"{value:8.2f} %" if isinstance(value, float) else f"{value:8,}"
        print(f"{name.replace('_', ' '):<42}{told}")
    if arguments.json:
        write_text(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
