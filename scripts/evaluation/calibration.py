"""TODO doc: from calibrate_confidence"""

import json
from pathlib import Path

import numpy as np
import onnx

from data.samples import dataset_samples
from engine import checkpoints
from evaluation.measurement import BATCH
from evaluation.model import Model
from export.safetensors_file import write as write_safetensors
from files.atomic import atomic_write
from files.command_line import InputError
from handwriting.out_of_set import KINDS, strangers
from inference.confidence import SCORES, calibration_error, probabilities, reliability
from quantization.files import load_trained

LARGEST_STEP = 3.0  # of the temperature, as a factor
PRECISION = 1e-5


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the loss of the labels (n,) is least, of logits (n, classes): Newton's method on its
    inverse, in which the loss is convex."""
    right = (logits.argmax(axis=1) == labels).mean()
    if right in {0, 1}:
        raise InputError("no temperature fits: the model is right on all of its validation samples, or on none")
    inverse, own = 1.0, np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    for _ in range(50):
        slope = curvature = 0.0
        for begin in range(0, len(logits), BATCH):
            part = logits[begin : begin + BATCH].astype(np.float64)
            shares = probabilities(part, 1 / inverse)
            mean = (shares * part).sum(axis=1)
            slope += float((mean - own[begin : begin + BATCH]).sum())
            curvature += float(((shares * part**2).sum(axis=1) - mean**2).sum())
        step = inverse - slope / max(curvature, 1e-12)
        before, inverse = inverse, min(max(step, inverse / LARGEST_STEP), inverse * LARGEST_STEP)
        if abs(inverse - before) < PRECISION * before:
            return 1 / inverse
    raise InputError("no temperature fits these samples")


def area_under_curve(own: np.ndarray, strange: np.ndarray) -> float:
    """How often a score of `own` (n,) is above one of `strange` (m,), ties counting half: the AUROC."""
    order = np.sort(strange)
    below, not_above = np.searchsorted(order, own, "left"), np.searchsorted(order, own, "right")
    return float((below + not_above).mean() / (2 * len(strange)))


def all_logits(model: Model, images: np.ndarray) -> np.ndarray:
    return np.concatenate([model.logits(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])


def validation(model: Model, data_dir: Path, limit: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Logits (n, classes) and labels (n,) of validation samples of the model's classes, and what they are."""
    samples = dataset_samples(data_dir, "validation", model.facts["config"])
    label_of = {character: i for i, character in enumerate(model.classes)}
    rows = np.random.default_rng(0).permutation(len(samples.characters))
    rows = np.array([row for row in rows if samples.characters[row] in label_of][:limit], int)
    if not len(rows):
        raise InputError(f"{data_dir} has no validation samples of the model's {len(model.classes):,} classes")
    parts = [model.logits(samples.images(rows[i : i + BATCH])) for i in range(0, len(rows), BATCH)]
    labels = np.array([label_of[character] for character in samples.characters[rows]])
    return np.concatenate(parts), labels, samples.facts["told"]


def strange_logits(model: Model, count: int) -> dict[str, np.ndarray]:
    """Logits (m, classes) of each kind of stranger; pictures in which nothing is left are none: they are blank."""
    found = {}
    for kind in KINDS:
        images, _ = strangers(kind, model.classes, count)
        if len(images := images[images.any(axis=(1, 2, 3))]):
            found[kind] = all_logits(model, images)
    return found


def figures_of_scores(
    logits: np.ndarray, right: np.ndarray, others: dict[str, np.ndarray], temperature: float, kept: float
) -> dict[str, dict]:
    """For every score the threshold above which the share `kept` of these logits (n, classes) lies, how many of those
    `right` (n,) do, and for each kind of stranger the AUROC and the share that is taken for a character."""
    figures = {}
    for name, measure in SCORES.items():
        own = measure(logits, temperature)
        threshold = float(np.quantile(own, 1 - kept))
        strange = {kind: measure(rows, temperature) for kind, rows in others.items()}
        figures[name] = {
            "threshold": threshold,
            "right_kept": float((own[right] >= threshold).mean()),
            "strangers": {
                kind: {"auroc": area_under_curve(own, scores), "taken": float((scores >= threshold).mean())}
                for kind, scores in strange.items()
            },
        }
    return figures


def table(figures: dict[str, dict], chosen: str) -> str:
    kinds = figures[chosen]["strangers"]
    lines = [f"{'':14}" + "".join(f"{kind:>18}" for kind in (*kinds, "right ones kept"))]
    for name, row in figures.items():
        cells = [f"{figure['auroc']:.3f} {100 * figure['taken']:6.1f} %" for figure in row["strangers"].values()]
        cells.append(f"{100 * row['right_kept']:.2f} %")
        lines.append(f"{name + (' †' if name == chosen else ''):14}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def calibrate(model: Model, data_dir: Path, score: str, kept: float, limit: int, count: int) -> tuple[dict, str]:
    """What goes into the file, and a report. `kept`: the share of validation samples above the threshold."""
    logits, labels, told = validation(model, data_dir, limit)
    temperature = fitted_temperature(logits, labels)
    right = logits.argmax(axis=1) == labels
    errors = [calibration_error(reliability(probabilities(logits, t).max(axis=1), right)) for t in (1, temperature)]
    figures = figures_of_scores(logits, right, strange_logits(model, count), temperature, kept)
    report = f"""\
temperature {temperature:.4f}, on {len(labels):,} samples of {told}
calibration error {errors[0]:.4f} before, {errors[1]:.4f} after

AUROC against {count:,} drawn of each kind that are none of the {len(model.classes):,} characters, and how many of
them are taken for one where {100 * kept:g} % of the characters are; † the score in the file

{table(figures, score)}"""
    content = {
        "temperature": temperature,
        "score": score,
        "threshold": figures[score]["threshold"],
        "kept": kept,
        "samples": len(labels),
        "calibration_error": {"before": errors[0], "after": errors[1]},
        "strangers": figures[score]["strangers"],
    }
    return content, report


def store(path: Path, confidence: dict) -> None:
    """Writes the file anew with this beside what it says of itself."""
    if path.suffix.lower() == ".onnx":
        model = onnx.load(path)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, properties | {"confidence": json.dumps(confidence)})
        with atomic_write(path) as temporary:
            onnx.save(model, temporary)
    elif path.suffix == ".safetensors":
        model, facts = load_trained(path)
        with atomic_write(path) as temporary:
            write_safetensors(model, facts | {"confidence": confidence}, temporary, path)
    else:
        checkpoints.save(path, checkpoints.load(path) | {"confidence": confidence})
