"""TODO doc: from evaluate"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from characters.confusable import mixed_up
from characters.confusable import save as save_confusable
from data.samples import Samples, dataset_samples, image_samples
from evaluation.accuracy import percent, places, summary
from evaluation.model import Model, averaged_over_moves, load_model, logits_of
from evaluation.picture import MISREAD_SHOWN, evaluation_picture
from evaluation.report import headline
from files.atomic import atomic_write, write_text
from files.command_line import InputError
from images.distortions import DISTORTIONS
from inference.confidence import calibration_error, probabilities, reliability

BATCH = 256
ROBUSTNESS_SAMPLES = 3000  # the robustness table is measured on that many at most


def predict(model: Model, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class of each image (n,), and the rank (n,) of its true label, 0 = likeliest."""
    return places(logits_of(model, images), labels)


def calibration(model: Model, shares: np.ndarray, right: np.ndarray, known: np.ndarray) -> dict:
    """How far probabilities can be trusted: those of n answers (2, n), as the logits give them and with the file's
    temperature, whether each was right (n,), and whether it was taken for one of the classes (n,)."""
    raw, tempered = (reliability(part, right) for part in shares)
    threshold = model.confidence.threshold is not None
    return {
        "temperature": model.confidence.temperature,
        "error": calibration_error(tempered),
        "error_without_temperature": calibration_error(raw),
        "bins": tempered,
        "bins_without_temperature": raw,
        "rejected": percent(~known) if threshold else None,
        "rejected_of_right": percent(~known[right]) if threshold and right.any() else None,
    }


def robustness(model: Model, samples: Samples, rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1 (in %) of these rows under each distortion."""
    right = dict.fromkeys(DISTORTIONS, 0)
    for begin in tqdm(range(0, len(rows), BATCH), desc="robustness", leave=False, disable=not sys.stderr.isatty()):
        part, truth = rows[begin : begin + BATCH], labels[begin : begin + BATCH]
        images = torch.from_numpy(samples.images(part))
        for name, distort in DISTORTIONS.items():
            distorted = distort(images, torch.Generator().manual_seed(begin)).numpy()
            right[name] += int((predict(model, distorted, truth)[0] == truth).sum())
    return {name: 100 * count / len(rows) for name, count in right.items()}


def examples_of(pairs: list[dict], classes: str, samples: Samples, rows: np.ndarray, labels, predicted) -> list[dict]:
    """For each confused pair images uint8 (n, 64, 64): "misread" ones, and one of the other class that was "read"."""
    found = []
    for pair in pairs:
        true, taken = classes.index(pair["true"]), classes.index(pair["predicted"])
        misread = np.flatnonzero((labels == true) & (predicted == taken))[:MISREAD_SHOWN]
        read = np.flatnonzero((labels == taken) & (predicted == taken))[:1]
        images = samples.images(rows[np.concatenate([misread, read])])[:, 0]
        images = (images * 255 + 0.5).astype(np.uint8)
        found.append({"misread": images[: len(misread)], "read": images[len(misread) :]})
    return found


def measure(model: Model, samples: Samples, limit: int | None = None) -> tuple[dict, list[dict]]:
    """The result that goes to evaluation.json, and the images of its confused pairs."""
    label_of = {character: i for i, character in enumerate(model.classes)}
    known = np.array([c in label_of for c in samples.characters])
    left_out = Counter(samples.characters[~known].tolist())
    if not known.any():
        raise InputError(f"none of {', '.join(list(left_out)[:10])} is among the model's {len(label_of):,} classes")
    rows = np.flatnonzero(known)
    random = np.random.default_rng(0)
    if limit is not None and limit < len(rows):
        rows = np.sort(random.choice(rows, limit, replace=False))
    labels = np.array([label_of[c] for c in samples.characters[rows]])
    predicted, rank = np.empty_like(labels), np.empty_like(labels)
    shares, known = np.empty((2, len(labels))), np.empty(len(labels), bool)
    started = time.monotonic()
    for begin in tqdm(range(0, len(rows), BATCH), desc="evaluation", leave=False, disable=not sys.stderr.isatty()):
        part = slice(begin, begin + BATCH)
        logits = logits_of(model, samples.images(rows[part]))
        predicted[part], rank[part] = places(logits, labels[part])
        shares[0, part] = probabilities(logits).max(axis=1)
        shares[1, part] = model.confidence.probabilities(logits).max(axis=1)
        known[part] = model.confidence.known(logits)
    rate = len(rows) / (time.monotonic() - started)
    writers = None if samples.writers is None else samples.writers[rows]
    figures = summary(model.classes, labels, predicted, rank, writers)
    some = np.sort(random.choice(len(rows), min(ROBUSTNESS_SAMPLES, len(rows)), replace=False))
    clean = {"clean": percent((predicted == labels)[some])}
    table = {"samples": len(some), "top1": clean | robustness(model, samples, rows[some], labels[some])}
    examples = examples_of(figures["confused"], model.classes, samples, rows, labels, predicted)
    per_class = figures.pop("per_class")
    return figures | {
        "calibration": calibration(model, shares, predicted == labels, known),
        "robustness": table,
        "left_out": dict(left_out),
        "images_per_second": rate,
        "mixed_up": mixed_up(model.classes, labels, predicted),
        "per_class": per_class,
    }, examples


def default_output(model_path: Path, images_dir: Path | None = None) -> Path:
    """A folder beside the model; one for the dataset, one for each folder of images."""
    of_images = f"_{images_dir.resolve().name}" if images_dir else ""
    return model_path.with_name(f"{model_path.stem}_evaluation{of_images}")


def evaluate_file(
    model_path: Path,
    data_dir: Path | None = None,
    images_dir: Path | None = None,
    split: str = "test",
    output_dir: Path | None = None,
    limit: int | None = None,
    confusable: Path | None = None,
    moves: bool = False,
) -> dict:
    """Measures a model file, writes evaluation.json and evaluation.png, and returns what the former holds.

    The data is images_dir, or this split of data_dir (default: dataset); limit takes that many samples at random. What
    the model mixes up goes to the file `confusable` too. With `moves` answers are averaged (`averaged_over_moves`).
    """
    model = load_model(model_path)
    if moves:
        model = averaged_over_moves(model)
    if images_dir is not None:
        samples = image_samples(images_dir)
    else:
        samples = dataset_samples(data_dir or Path("dataset"), split, model.facts["config"])
    folder = output_dir or default_output(model_path, images_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder with --output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    figures, examples = measure(model, samples, limit)
    trained_on = model.facts["source"] or "unknown data"
    told = f"{model_path} ({model.facts['script'] or 'unknown script'}, trained on {trained_on})"
    told += ", averaged over five views of each image" if moves else ""
    result = {"model": {"told": told, "file": str(model_path), **model.facts}, "data": samples.facts, **figures}
    rows = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
    with atomic_write(folder / "evaluation.png") as temporary:
        evaluation_picture(result, headline(result), examples).save(temporary, format="PNG")
    write_text(folder / "evaluation.json", f"{{\n{rows}\n}}\n")
    if confusable:
        save_confusable(confusable, model.classes, figures["mixed_up"], f"{told} on {samples.facts['told']}")
    return result
