"""TODO doc: from zero_shot"""

import numpy as np
import torch

from data.prepared import PreparedDataset
from engine.batches import to_input
from files.command_line import InputError
from structure.codes import held_out

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
