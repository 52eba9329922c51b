"""How well HierCode reads classes of which it was shown no image: are their codes enough?"""

import torch

from data.drawn import APART
from engine.batches import to_input
from handwriting.standin import SHEET, draw_samples

ADDED = 2 * APART  # numbers of sets that neither training nor a dataset draws


def share(logits: torch.Tensor, labels: torch.Tensor, among: torch.Tensor) -> float:
    """Top-1 in % of logits (n, classes) with these labels (n,), when only the classes `among` may be chosen."""
    return 100 * float((among[logits[:, among].argmax(dim=1)] == labels).float().mean())


@torch.inference_mode()
def measure_added(model, classes: str, added: str, writers: int) -> dict[str, float]:
    """Top-1 in % of the classes `added`, each written by so many made-up writers: among these and among all classes."""
    sheets = [added[begin : begin + SHEET] for begin in range(0, len(added), SHEET)]
    drawn = [draw_samples(0, ADDED + n, sheet, on) for n in range(writers) for sheet, on in enumerate(sheets)]
    images = [torch.from_numpy(of_sheet)[:, None] for of_sheet in drawn]
    among, every = torch.tensor([classes.index(char) for char in added]), torch.arange(len(classes))
    labels, logits = among.repeat(writers), torch.cat([model(to_input(of_sheet)) for of_sheet in images])
    return {"among_added": share(logits, labels, among), "among_all": share(logits, labels, every)}
