"""One evaluation, from a model file to evaluation.json and evaluation.png."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from characters.confusable import mixed_up
from characters.confusable import save as save_confusable
from characters.same_shape import group_numbers
from data.samples import Samples, dataset_samples, font_samples, image_samples
from evaluation.accuracy import by_group, percent, ranked, summary
from evaluation.model import Model, load_model
from evaluation.recognition_picture import RecognitionPicture
from files.atomic import write_text
from images.distortions import DISTORTIONS
from images.surroundings import SURROUNDINGS, dark_on_light
from inference.confidence import calibration_error, probabilities, reliability
from quantization.loss import select_rows

BATCH = 256


def batches(count: int, name: str = "") -> tqdm:
    """Slices of BATCH rows of `count`, with a progress bar where there is a terminal."""
    slices = [slice(begin, begin + BATCH) for begin in range(0, count, BATCH)]
    return tqdm(slices, desc=name, leave=False, disable=not (name and sys.stderr.isatty()))


def calibration(model: Model, raw: np.ndarray, tempered: np.ndarray, right: np.ndarray, accepted: np.ndarray) -> dict:
    """How far probabilities can be trusted: those of n answers by the logits alone and with the file's temperature,
    whether each was right, and whether the file's threshold accepts it, all (n,)."""
    bins, threshold = reliability(tempered, right), model.confidence.threshold is not None
    return {
        "temperature": model.confidence.temperature,
        "error": calibration_error(bins),
        "error_without_temperature": calibration_error(reliability(raw, right)),
        "bins": bins,
        "rejected": percent(~accepted) if threshold else None,
        "rejected_of_right": percent(~accepted[right]) if threshold and right.any() else None,
        "known_and_right": percent(accepted & right),
        "known_and_wrong": percent(accepted & ~right),
    }


def robustness(model: Model, samples: Samples, rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1 by shape (in %) of these rows under each distortion."""
    shape = group_numbers(model.classes)
    right = dict.fromkeys(DISTORTIONS, 0)
    for part in batches(len(rows), "robustness"):
        images = torch.from_numpy(samples.images(rows[part]))
        for name, distort in DISTORTIONS.items():
            distorted = distort(images, torch.Generator().manual_seed(part.start)).numpy()
            right[name] += int((shape[model.logits(distorted).argmax(axis=1)] == shape[labels[part]]).sum())
    return {name: 100 * count / len(rows) for name, count in right.items()}


def surroundings(model: Model, samples: Samples, rows: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """How many of these rows (in %) are right by shape, and how many are wrong and yet accepted as known, in each of
    the surroundings and with each pen; what comes in at a side is another of them."""
    shape = group_numbers(model.classes)
    drawings = [dark_on_light(picture) for picture in samples.pictures(rows)]
    figures = {}
    for name, surround in tqdm(SURROUNDINGS.items(), "surroundings", leave=False, disable=not sys.stderr.isatty()):
        right, known = [], []
        for number, drawing in enumerate(drawings):
            made = surround(drawing, np.random.default_rng(number), drawings[(number + 7) % len(rows)])
            logits = model.of_picture(made.astype(np.float32))
            right.append(shape[logits.argmax()] == shape[labels[number]])
            known.append(model.confidence.known(logits)[0] and logits.any())
        right, known = np.array(right), np.array(known)
        figures[name] = {"right": percent(right), "wrong_and_known": percent(~right & known)}
    return figures


def measure(
    model: Model, samples: Samples, limit: int | None = None, surrounded: bool = False
) -> tuple[dict, RecognitionPicture]:
    """The figures for evaluation.json, of at most `limit` samples, and a picture of misread ones. `surrounded` asks for
    those of pictures in other surroundings too."""
    rows = select_rows(samples, model.classes, limit)
    labels = np.array([model.classes.index(c) for c in samples.characters[rows]])
    answers = []
    for part in batches(len(rows), "evaluation"):
        logits = model.read(samples, rows[part])
        shares = (probabilities(logits), model.confidence.probabilities(logits))
        highest = (share.max(axis=1).astype(float) for share in shares)
        answers.append((*ranked(logits, labels[part]), *highest, model.confidence.known(logits)))
    predicted, rank, raw, tempered, accepted = (np.concatenate(column) for column in zip(*answers, strict=True))
    shape = group_numbers(model.classes)
    right = shape[predicted] == shape[labels]
    writers = None if samples.writers is None else samples.writers[rows]
    figures = summary(model.classes, labels, predicted, rank, writers)
    some = np.sort(np.random.default_rng(0).choice(len(rows), min(3000, len(rows)), replace=False))
    top1 = {"clean": percent(right[some])} | robustness(model, samples, rows[some], labels[some])
    sources = None if samples.sources is None else samples.sources[rows]
    figures |= {
        "sources": {} if sources is None else by_group(sources, labels, right),
        "calibration": calibration(model, raw, tempered, right, accepted),
        "robustness": {"samples": len(some), "top1": top1},
        "surroundings": surroundings(model, samples, rows, labels) if surrounded else {},
        "left_out": Counter(c for c in samples.characters.tolist() if c not in model.classes),
        "mixed_up": mixed_up(model.classes, labels, predicted),
        "per_class": figures.pop("per_class"),
    }
    picture = RecognitionPicture()
    for pair in figures["confused"]:
        true, read = model.classes.index(pair["true"]), model.classes.index(pair["predicted"])
        misread = rows[(labels == true) & (predicted == read)][:5]
        images = samples.images(misread)
        for image, shares in zip(images, model.confidence.probabilities(model.read(samples, misread)), strict=True):
            top = [(model.classes[i], float(shares[i])) for i in np.argsort(-shares, kind="stable")[:5]]
            picture.add(pair["true"], 255 * (1 - image[0]), top)
    return figures, picture


def evaluate_file(
    model_path: Path,
    output_dir: Path,
    data_dir: Path = Path("dataset"),
    images_dir: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    confusable: Path | None = None,
    surrounded: bool = False,
    font: Path | None = None,
) -> dict:
    """Measures a model file on a font, on images_dir, or else on this split of data_dir, at most `limit` samples picked
    at random. Writes evaluation.json, which it returns, evaluation.png, and what the model confuses to `confusable`."""
    model = load_model(model_path)
    if font:
        samples = font_samples(font, model.classes)
    else:
        samples = image_samples(images_dir) if images_dir else dataset_samples(data_dir, split, model.facts["config"])
    output_dir.mkdir(parents=True, exist_ok=True)
    figures, picture = measure(model, samples, limit, surrounded)
    source, script = model.facts["source"] or "unknown data", model.facts["script"] or "unknown script"
    facts = {"description": f"{model_path} ({script}, trained on {source})", "file": str(model_path), **model.facts}
    result = {"model": facts, "data": samples.facts, **figures}
    picture.write(output_dir / "evaluation.png")
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in result.items())
    write_text(output_dir / "evaluation.json", f"{{\n{lines}\n}}\n")
    if confusable:
        words = f"{facts['description']} on {samples.facts['description']}".split()  # the file is published: no folders
        save_confusable(confusable, model.classes, figures["mixed_up"], " ".join(Path(word).name for word in words))
    return result
