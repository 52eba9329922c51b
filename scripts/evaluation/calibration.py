"""Fitting how sure a model may be: its temperature, and the threshold that rejects what is not one of its classes."""

import json
from pathlib import Path

import numpy as np
import onnx

from data.samples import dataset_samples
from engine import checkpoints
from evaluation.measurement import batches
from evaluation.model import Model
from export.safetensors_file import write as write_safetensors
from files.atomic import atomic_write
from files.command_line import InputError
from handwriting.out_of_set import kinds_outside, out_of_set_samples
from inference.confidence import calibration_error, lead, probabilities, reliability
from quantization.files import load_trained


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which the loss of the labels (n,) is least, of logits (n, classes): Newton's method on its
    inverse, in which the loss is convex. Raises InputError where there is none."""
    if (logits.argmax(axis=1) == labels).mean() in {0, 1}:
        raise InputError("no temperature fits: the model is right on all of its validation samples, or on none")
    inverse, true = 1.0, np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    for _ in range(50):
        slope = curvature = 0.0
        for part in batches(len(logits)):
            rows = logits[part].astype(np.float64)
            shares = probabilities(rows, 1 / inverse)
            mean = (shares * rows).sum(axis=1)
            slope += float((mean - true[part]).sum())
            curvature += float(((shares * rows**2).sum(axis=1) - mean**2).sum())
        step = inverse - slope / max(curvature, 1e-12)
        before, inverse = inverse, min(max(step, inverse / 3), 3 * inverse)
        if abs(inverse - before) < 1e-5 * before:
            return 1 / inverse
    raise InputError("no temperature fits these samples")


def area_under_curve(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often a score of `inside` (n,) is above one of `outside` (m,), ties counting half: the AUROC."""
    order = np.sort(outside)
    below, not_above = np.searchsorted(order, inside, "left"), np.searchsorted(order, inside, "right")
    return float((below + not_above).mean() / (2 * len(outside)))


def fitted(logits: np.ndarray, labels: np.ndarray, kept: float) -> dict:
    """What a file says of its confidence: temperature, and a threshold on the lead that accepts the share `kept` of
    samples, fitted to their logits (n, classes) and labels (n,). Raises InputError where no temperature fits."""
    temperature, right = fitted_temperature(logits, labels), logits.argmax(axis=1) == labels
    errors = [calibration_error(reliability(probabilities(logits, t).max(axis=1), right)) for t in (1, temperature)]
    threshold = float(np.quantile(lead(logits), 1 - kept))
    content = {"temperature": temperature, "threshold": threshold, "kept": kept, "samples": len(labels)}
    return content | {"calibration_error": dict(zip(("before", "after"), errors, strict=True))}


def calibrate(model: Model, data_dir: Path, kept: float, limit: int, count: int) -> tuple[dict, str]:
    """What goes into the file, and a report. `kept`: the share of at most `limit` validation samples that the threshold
    accepts; `count`: the out-of-set samples of each kind that it is measured on."""
    if model.picture_logits:
        raise InputError("an any-image file cannot be calibrated: calibrate the model that it was made from")
    samples = dataset_samples(data_dir, "validation", model.facts["config"])
    rows = np.random.default_rng(0).permutation(len(samples.characters))
    rows = rows[np.isin(samples.characters[rows], list(model.classes))][:limit]
    if not len(rows):
        raise InputError(f"{data_dir} has no validation samples of the model's {len(model.classes):,} classes")
    logits = np.concatenate([model.logits(samples.images(rows[part])) for part in batches(len(rows), "reading")])
    labels = np.array([model.classes.index(character) for character in samples.characters[rows]])
    content = fitted(logits, labels, kept)
    temperature, threshold, errors = (content[name] for name in ("temperature", "threshold", "calibration_error"))
    scores, right, figures = lead(logits), logits.argmax(axis=1) == labels, {}
    for kind in kinds_outside(model.classes):
        images, _ = out_of_set_samples(kind, model.classes, count)
        images = images[images.any(axis=(1, 2, 3))]  # without ink nothing is read
        if len(images):
            outside = lead(np.concatenate([model.logits(images[part]) for part in batches(len(images), kind)]))
            accepted = float((outside >= threshold).mean())
            figures[kind] = {"auroc": area_under_curve(scores, outside), "accepted": accepted}
    report = f"""\
{len(labels):,} samples of {samples.facts["description"]}
temperature {temperature:.4f}; calibration error {errors["before"]:.4f} before, {errors["after"]:.4f} after (0 is best)

How far the largest logit is above their mean decides: the threshold accepts
{100 * kept:g} % of the characters, and {100 * (scores[right] >= threshold).mean():.2f} % of those read correctly.
Below: the share of {count:,} drawings of other things that it accepts, and how well
they are separated from the characters (AUROC, the area under the ROC curve:
1 always, 0.5 by chance).

{"":<20}{"AUROC":>8}{"accepted":>11}
"""
    report += "\n".join(f"{k:<20}{row['auroc']:8.3f}{100 * row['accepted']:9.2f} %" for k, row in figures.items())
    return content | {"out_of_set": figures}, report


def store(path: Path, confidence: dict) -> None:
    """Writes a model file again with this confidence in it; all else it says stays."""
    if path.suffix.lower() == ".onnx":
        model = onnx.load(path)
        facts = {entry.key: entry.value for entry in model.metadata_props} | {"confidence": json.dumps(confidence)}
        onnx.helper.set_model_props(model, facts)
        with atomic_write(path) as temporary:
            onnx.save(model, temporary)
    elif path.suffix == ".safetensors":
        model, facts = load_trained(path)
        with atomic_write(path) as temporary:
            write_safetensors(model, facts | {"confidence": confidence}, temporary)
    else:
        checkpoints.save(path, checkpoints.load(path) | {"confidence": confidence})
