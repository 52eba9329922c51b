"""How well HierCode reads classes of which it was shown no image: are their codes enough?"""

from pathlib import Path

import numpy as np
import torch

from data.drawn import APART
from data.prepared import PreparedDataset
from engine.batches import to_input
from files.command_line import InputError
from handwriting.standin import SHEET, draw_samples
from quantization.files import load_trained
from structure.codes import held_out

ADDED = 2 * APART  # numbers of sets that neither training nor a dataset draws


def share(logits: torch.Tensor, labels: torch.Tensor, among: torch.Tensor) -> float:
    """Top-1 in % of logits (n, classes) with these labels (n,), when only the classes `among` may be chosen."""
    return 100 * float((among[logits[:, among].argmax(dim=1)] == labels).float().mean())


@torch.inference_mode()
def measure_added(model, classes: str, added: str, writers: int) -> dict:
    """Top-1 in % of the classes `added`, each written by so many made-up writers, among these and among all classes."""
    sheets = [added[begin : begin + SHEET] for begin in range(0, len(added), SHEET)]
    label_of, logits, labels = {char: label for label, char in enumerate(classes)}, [], []
    for number in range(writers):
        for sheet, characters in enumerate(sheets):
            images = torch.from_numpy(draw_samples(0, ADDED + number, sheet, characters))[:, None]
            logits.append(model(to_input(images)))
            labels += [label_of[char] for char in characters]
    logits, labels = torch.cat(logits), torch.tensor(labels)
    among = torch.tensor([label_of[char] for char in added])
    every = torch.arange(len(classes))
    return {"among_added": share(logits, labels, among), "among_all": share(logits, labels, every)}


def shuffle_codes(model, among: torch.Tensor) -> None:
    """Deals the codes of the classes `among` out to each other, so that none keeps its own."""
    order = torch.randperm(len(among), generator=torch.Generator().manual_seed(0))
    members = model.prototypes.members
    members[among[order]] = members[among[order.roll(1)]].clone()


@torch.inference_mode()
def measure(path: Path, data_dir: Path, limit: int | None = None) -> dict:
    """The figures, in %, on at most `limit` test images of either kind. Raises InputError if every class was shown."""
    model, facts = load_trained(path)
    classes, config = facts["classes"], facts["config"]
    if facts["script"] != "train_hiercode":
        raise InputError(f"{path} was made by {facts['script']}.py: only HierCode reads classes by their codes")
    characters = held_out(config.get("hold_out_classes", 0), classes)
    if not characters:
        raise InputError(f"{path} was trained on every class: train it with train_hiercode.py --hold-out-classes 500")
    dataset = PreparedDataset(data_dir, config.get("split", "writer"), config.get("seed", 0))
    if classes != dataset.classes:
        raise InputError(f"{path} has other classes than {data_dir}")
    test = dataset.splits["test"]
    unseen, every = torch.tensor([classes.index(c) for c in characters]), torch.arange(len(classes))
    is_unseen = torch.isin(test.labels, unseen).numpy()

    def read(of_these: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        rows = np.flatnonzero(of_these)
        rows = np.sort(np.random.default_rng(0).choice(rows, min(limit or len(rows), len(rows)), replace=False))
        parts = np.array_split(test.positions[rows], max(1, len(rows) // 256))
        return torch.cat([model(to_input(dataset.images(part))) for part in parts]), test.labels[rows]

    logits, labels = read(is_unseen)
    figures = {
        "held_out_classes": len(characters),
        "measured_on": len(labels),
        "top1_among_held_out": share(logits, labels, unseen),
        "top1_among_all": share(logits, labels, every),
        "chance": 100 / len(characters),
        "top1_of_shown_among_all": share(*read(~is_unseen), every),
    }
    shuffle_codes(model, unseen)
    return figures | {"top1_among_held_out_with_shuffled_codes": share(*read(is_unseen), unseen)}
