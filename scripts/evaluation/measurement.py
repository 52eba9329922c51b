"""One evaluation, from a model file to evaluation.json and evaluation.png."""

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
from evaluation.accuracy import percent, ranked, summary
from evaluation.model import Model, load_model
from evaluation.recognition_picture import RecognitionPicture
from files.atomic import write_text
from files.command_line import InputError
from images.distortions import DISTORTIONS
from inference.confidence import calibration_error, probabilities, reliability

BATCH = 256
SHOWN_OF_PAIR = 5  # misread samples of a confused pair
ROBUSTNESS_SAMPLES = 3000  # the most that the robustness table is measured on


def batches(count: int, name: str = "") -> tqdm:
    """Slices of BATCH rows of `count`, with a progress bar where there is a terminal."""
    slices = [slice(begin, begin + BATCH) for begin in range(0, count, BATCH)]
    return tqdm(slices, desc=name, leave=False, disable=not (name and sys.stderr.isatty()))


def calibration(model: Model, raw: np.ndarray, tempered: np.ndarray, right: np.ndarray, accepted: np.ndarray) -> dict:
    """How far probabilities can be trusted: those of n answers by the logits alone and with the file's temperature,
    whether each was right, and whether the file's threshold accepts it, all (n,)."""
    bins, tempered_bins = reliability(raw, right), reliability(tempered, right)
    threshold = model.confidence.threshold is not None
    return {
        "temperature": model.confidence.temperature,
        "error": calibration_error(tempered_bins),
        "error_without_temperature": calibration_error(bins),
        "bins": tempered_bins,
        "bins_without_temperature": bins,
        "rejected": percent(~accepted) if threshold else None,
        "rejected_of_right": percent(~accepted[right]) if threshold and right.any() else None,
    }


def robustness(model: Model, samples: Samples, rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1 (in %) of these rows under each distortion."""
    right = dict.fromkeys(DISTORTIONS, 0)
    for part in batches(len(rows), "robustness"):
        images = torch.from_numpy(samples.images(rows[part]))
        for name, distort in DISTORTIONS.items():
            distorted = distort(images, torch.Generator().manual_seed(part.start)).numpy()
            right[name] += int((model.logits(distorted).argmax(axis=1) == labels[part]).sum())
    return {name: 100 * count / len(rows) for name, count in right.items()}


def misread_picture(
    model: Model, pairs: list[dict], samples: Samples, rows: np.ndarray, labels: np.ndarray, predicted: np.ndarray
) -> RecognitionPicture:
    """Samples of each of the confused pairs, with what the model takes them for."""
    picture = RecognitionPicture()
    for pair in pairs:
        wrong = (labels == model.classes.index(pair["true"])) & (predicted == model.classes.index(pair["predicted"]))
        images = samples.images(rows[np.flatnonzero(wrong)[:SHOWN_OF_PAIR]])
        for image, shares in zip(images, model.confidence.probabilities(model.logits(images)), strict=True):
            top = [(model.classes[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")[:5]]
            picture.add_of(pair["true"], 255 * (1 - image[0]), top)
    return picture


def measure(model: Model, samples: Samples, limit: int | None = None) -> tuple[dict, RecognitionPicture]:
    """The result that goes to evaluation.json, and a picture of misread samples."""
    label_of = {character: i for i, character in enumerate(model.classes)}
    is_class = np.array([c in label_of for c in samples.characters])
    left_out = Counter(samples.characters[~is_class].tolist())
    if not is_class.any():
        raise InputError(f"none of {', '.join(list(left_out)[:10])} is among the model's {len(label_of):,} classes")
    rows, random = np.flatnonzero(is_class), np.random.default_rng(0)
    if limit is not None and limit < len(rows):
        rows = np.sort(random.choice(rows, limit, replace=False))
    labels = np.array([label_of[c] for c in samples.characters[rows]])
    started, answers = time.monotonic(), []
    for part in batches(len(rows), "evaluation"):
        logits = model.logits(samples.images(rows[part]))
        shares = (probabilities(logits), model.confidence.probabilities(logits))
        highest = (share.max(axis=1).astype(float) for share in shares)
        answers.append((*ranked(logits, labels[part]), *highest, model.confidence.known(logits)))
    predicted, rank, raw, tempered, accepted = (np.concatenate(column) for column in zip(*answers, strict=True))
    rate = len(rows) / (time.monotonic() - started)
    writers = None if samples.writers is None else samples.writers[rows]
    figures = summary(model.classes, labels, predicted, rank, writers)
    some = np.sort(random.choice(len(rows), min(ROBUSTNESS_SAMPLES, len(rows)), replace=False))
    clean = {"clean": percent((predicted == labels)[some])}
    per_class = figures.pop("per_class")
    return figures | {
        "calibration": calibration(model, raw, tempered, predicted == labels, accepted),
        "robustness": {"samples": len(some), "top1": clean | robustness(model, samples, rows[some], labels[some])},
        "left_out": dict(left_out),
        "images_per_second": rate,
        "mixed_up": mixed_up(model.classes, labels, predicted),
        "per_class": per_class,
    }, misread_picture(model, figures["confused"], samples, rows, labels, predicted)


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
) -> dict:
    """Measures a model file, writes evaluation.json and evaluation.png, and returns what the former holds.

    The data is images_dir, or this split of data_dir (default: dataset); `limit` takes that many samples at random.
    What the model mixes up goes to the file `confusable` too.
    """
    model = load_model(model_path)
    if images_dir is not None:
        samples = image_samples(images_dir)
    else:
        samples = dataset_samples(data_dir or Path("dataset"), split, model.facts["config"])
    folder = output_dir or default_output(model_path, images_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder with --output-dir")
    folder.mkdir(parents=True, exist_ok=True)
    figures, picture = measure(model, samples, limit)
    source, script = model.facts["source"] or "unknown data", model.facts["script"] or "unknown script"
    facts = {"description": f"{model_path} ({script}, trained on {source})", "file": str(model_path), **model.facts}
    result = {"model": facts, "data": samples.facts, **figures}
    picture.write(folder / "evaluation.png")
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
    write_text(folder / "evaluation.json", f"{{\n{lines}\n}}\n")
    if confusable:
        measured_on = f"{facts['description']} on {samples.facts['description']}"
        save_confusable(confusable, model.classes, figures["mixed_up"], measured_on)
    return result
