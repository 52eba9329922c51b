"""Fit how sure a trained model may be, and write it into its file; exports carry it on.

    python scripts/calibrate_confidence.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth

MODEL is a best model, a SafeTensors or an ONNX file, float or INT8. On validation samples, which it was not trained on,
one temperature is fitted (Guo et al. 2017, arXiv:1706.04599), and a threshold above which most of them lie; what lies
below is "not one of these characters". How well that tells other things apart is measured on made-up katakana, Latin
letters, kanji of JIS level 2, scribbles and blank paper, for every score that can be chosen.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx

import checkpoints
from atomic_file import atomic_write
from checkpoints import load_trained
from command_line import InputError, run
from confidence import SCORES, calibration_error, probabilities, reliability
from convert_to_safetensors import write as write_safetensors
from evaluate import BATCH, Model, load_model
from labelled_samples import dataset_samples
from recognize import Recognizer
from strangers import KINDS, strangers

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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the file to measure and to write into")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    parser.add_argument(
        "--kept", type=float, default=0.97, metavar="SHARE", help="of the characters above the threshold (default 0.97)"
    )
    # The largest logit and the energy tell strangers as well, but fall with every pen thinner than those trained on.
    parser.add_argument("--score", choices=SCORES, default="lead", help="what the threshold is on (default lead)")
    parser.add_argument("--limit", type=int, default=10_000, metavar="N", help="validation samples (default 10000)")
    parser.add_argument("--strangers", type=int, default=1000, metavar="N", help="of each kind (default 1000)")
    parser.add_argument("--dry-run", action="store_true", help="only report")
    arguments = parser.parse_args()
    if not 0 < arguments.kept < 1:
        parser.error("--kept must lie between 0 and 1")
    if min(arguments.limit, arguments.strangers) < 1:
        parser.error("--limit and --strangers must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    path = arguments.model
    if path.suffix.lower() == ".onnx" and Recognizer(path).takes_pictures:
        raise InputError(f"{path} takes pictures: calibrate the file it was made from, and make it anew")
    model = load_model(path)
    content, told = calibrate(
        model, arguments.data_dir, arguments.score, arguments.kept, arguments.limit, arguments.strangers
    )
    print(told)
    if not arguments.dry_run:
        store(path, content)
        print(f"\nwritten into {path}")


if __name__ == "__main__":
    run(main)
