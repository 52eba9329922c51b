"""What a training reports: a line for each epoch, on the terminal and in metrics.jsonl; curves."""

import json
import math
from pathlib import Path

from files.atomic import atomic_write, write_text


def epoch_of(line: str) -> float:
    """The epoch of a line of metrics.jsonl; infinity for a line that is damaged."""
    try:
        return float(json.loads(line)["epoch"])
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return math.inf


def add(path: Path, metrics: dict) -> None:
    """A line for an epoch that is done; lines of that epoch and of later ones, now done again, go."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() and metrics["epoch"] > 1 else ""
    lines = [line for line in text.splitlines() if epoch_of(line) < metrics["epoch"]]
    write_text(path, "\n".join([*lines, json.dumps(metrics)]) + "\n")


def epoch_line(metrics: dict, epochs: int, best: float, left: float | None = None) -> str:
    """The epoch's one line, of at most 80 characters; a star marks the best accuracy so far. It ends with the time
    that is left, if its seconds are given, or with the seconds that the epoch took."""
    line = f"epoch {metrics['epoch']:3d}/{epochs}  loss {metrics['train_loss']:6.3f}  "
    if "validation_loss" in metrics:
        loss, top1 = metrics["validation_loss"], metrics["validation_top1"]
        line += f"val. {loss:6.3f}  top-1 {top1:6.2f} %{' *' if top1 >= best else '  '} "
    if left is not None:
        return line + f"{max(0, left) / 60:6.1f} minutes left"
    return line + f"{metrics['images_per_second']:6,.0f} images/s {metrics['seconds']:5.0f} s"


def plot(log: Path, picture: Path) -> None:
    """Draws the curves of a metrics.jsonl as PNG."""
    from matplotlib.figure import Figure  # optional

    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, name in (
        (left, "train_loss"),
        (left, "validation_loss"),
        (right, "validation_top1"),
        (right, "validation_top5"),
    ):
        if name in rows[0]:
            axes.plot(epochs, [row[name] for row in rows], label=name.replace("_", " "))
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
