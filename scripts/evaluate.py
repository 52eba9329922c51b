"""Measure a trained model: how often it is right, what it confuses, and how much worse it reads spoilt images.

    python scripts/evaluate.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/evaluate.py --model models/kanji_model.onnx --images my_handwriting

MODEL is a checkpoint, a best model, a SafeTensors or an ONNX file. A folder of images holds one folder for each
character, named by the character or by its code point (U+6F22). The figures go to evaluation.json, and with pictures of
the confused characters to evaluation.png.
"""

import argparse
import json
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from atomic_file import atomic_write, write_text
from checkpoints import load_trained
from command_line import InputError, run
from confidence import Confidence, calibration_error, confidence_of, probabilities, reliability
from confusable import mixed_up
from confusable import save as save_confusable
from distortions import DISTORTIONS
from etl9g_dataset import SPLITS
from evaluation_picture import MISREAD_SHOWN, evaluation_picture
from evaluation_report import headline, report
from labelled_samples import Samples, dataset_samples, image_samples
from plain_json import parse_json
from recognize import Recognizer

BATCH = 256
ROBUSTNESS_SAMPLES = 3000  # the robustness table is measured on that many at most
MOVES = ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2))  # pixels down and right, within the margin of 6
LISTED = 20  # confused pairs, and worst classes
KINDS = {"HIRAGANA": "hiragana", "KATAKANA": "katakana", "CJK": "kanji"}  # first words of Unicode names


@dataclass
class Model:
    """logits(images float32 (n, 1, 64, 64)) gives float32 (n, classes); `facts` is what the file says about itself, and
    `confidence` what it says of its logits."""

    logits: Callable[[np.ndarray], np.ndarray]
    classes: str
    facts: dict
    confidence: Confidence = field(default_factory=Confidence)


def load_model(path: Path) -> Model:
    """A checkpoint, best model, SafeTensors or ONNX file. Raises InputError or FileNotFoundError for anything else."""
    names = ("script", "source", "generator")
    if path.suffix.lower() == ".onnx":
        recognizer = Recognizer(path)
        config = parse_json(recognizer.facts.get("config") or "{}", f"{path}: config", "export it again")
        facts = {name: recognizer.facts.get(name) or None for name in names} | {"config": config}
        return Model(recognizer.logits, recognizer.classes, facts, recognizer.confidence)
    network, content = load_trained(path)
    network = network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).float().numpy()

    facts = {name: content.get(name) for name in (*names, "config")}
    return Model(logits, content["classes"], facts, confidence_of(content.get("confidence"), path))


def averaged_over_moves(model: Model) -> Model:
    """The same model, asked five times: of the image and of it moved by two pixels each way (test-time averaging). Its
    logits are the logarithm of the mean of the probabilities that the file's temperature gives."""

    def logits(images: np.ndarray) -> np.ndarray:
        views = (np.roll(images, move, axis=(2, 3)) for move in MOVES)
        shares = np.mean([model.confidence.probabilities(model.logits(view)) for view in views], axis=0)
        return np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)

    return replace(model, logits=logits, confidence=Confidence())


def logits_of(model: Model, images: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of images (n, 1, 64, 64). Raises FloatingPointError for what are not numbers."""
    logits = model.logits(images)
    if logits.shape != (len(images), len(model.classes)):
        raise InputError(
            f"the model gives {logits.shape[-1]} logits for its {len(model.classes)} classes: is it damaged?"
        )
    if not np.isfinite(logits).all():
        raise FloatingPointError("the model gives logits that are not finite numbers")
    return logits


def predict(model: Model, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class of each image (n,), and the rank (n,) of its true label, 0 = likeliest."""
    return places(logits_of(model, images), labels)


def places(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of logits (n, classes). The first of two equal ones is the likelier."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > own) | ((logits == own) & earlier)).sum(axis=1)


def percent(right: np.ndarray) -> float:
    return 100 * float(right.mean())


def standard_error(right: np.ndarray, writers: np.ndarray) -> float:
    """Of the share of right answers, in %; right and writers are (n,).

    A hand is read well or badly as a whole, so what one person wrote counts as one observation (cluster-robust: Cameron
    and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015).
    """
    surplus = np.bincount(writers, right - right.mean())
    return 100 * float(np.sqrt((surplus**2).sum())) / len(right)


def by_writer(right: np.ndarray, writers: np.ndarray) -> dict:
    """How many writers there are, and the top-1 (in %) of the middle one and of the one below whom a twentieth are."""
    top1 = 100 * np.bincount(writers, right) / np.bincount(writers)
    lowest, median = np.percentile(top1, [5, 50]).tolist()
    return {"writers": len(top1), "median": median, "lowest_twentieth": lowest}


def summary(
    classes: str, labels: np.ndarray, predicted: np.ndarray, rank: np.ndarray, writers: np.ndarray | None = None
) -> dict:
    """The figures of n samples, in %: labels, predicted classes, ranks of the true class, and writers, all (n,).

    Without writers, or with one alone, each sample counts as written by another person."""
    right = predicted == labels
    writer = np.arange(len(labels)) if writers is None else np.unique(writers, return_inverse=True)[1]
    if not writer.any():
        writer = np.arange(len(labels))
    samples_of = np.bincount(labels, minlength=len(classes))
    right_of = np.bincount(labels[right], minlength=len(classes))
    present = np.flatnonzero(samples_of)
    share = right_of[present] / samples_of[present]
    kinds = np.array([KINDS.get(unicodedata.name(c, "").split(" ")[0], "other") for c in classes])
    worst = [i for i in present[np.lexsort((present, -samples_of[present], share))] if right_of[i] < samples_of[i]]
    return {
        "samples": len(labels),
        "classes": len(present),
        "top1": percent(right),
        "top1_standard_error": standard_error(right, writer),
        "top5": percent(rank < 5),
        "mean_class_accuracy": percent(share),
        "lowest_class_accuracy": 100 * float(share.min()),
        "classes_never_right": int((share == 0).sum()),
        "by_writer": None if writers is None else by_writer(right, writer),
        "kinds": {
            str(kind): {
                "samples": int((kinds[labels] == kind).sum()),
                "classes": int((kinds[present] == kind).sum()),
                "top1": percent(right[kinds[labels] == kind]),
            }
            for kind in sorted(set(kinds[present]))
        },
        "worst_classes": [
            {"character": classes[i], "right": int(right_of[i]), "samples": int(samples_of[i])} for i in worst[:LISTED]
        ],
        "confused": confused_pairs(classes, labels, predicted, samples_of),
        "per_class": {classes[i]: [int(right_of[i]), int(samples_of[i])] for i in present},
    }


def confused_pairs(classes: str, labels: np.ndarray, predicted: np.ndarray, samples_of: np.ndarray) -> list[dict]:
    """The commonest mistakes: true character, what it was taken for, how often, of how many samples."""
    wrong = predicted != labels
    pairs, counts = np.unique(labels[wrong] * len(classes) + predicted[wrong], return_counts=True)
    best = np.argsort(-counts, kind="stable")[:LISTED]
    return [
        {"true": classes[t], "predicted": classes[p], "count": int(count), "of": int(samples_of[t])}
        for (t, p), count in zip((divmod(int(pair), len(classes)) for pair in pairs[best]), counts[best], strict=True)
    ]


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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, SafeTensors or ONNX file")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data-dir", type=Path, help="a prepared dataset (default dataset)")
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder of images for each character")
    parser.add_argument("--split", choices=SPLITS, help="of the dataset (default test)")
    parser.add_argument("--output-dir", type=Path, help="where the results go (default: beside MODEL)")
    parser.add_argument(
        "--confusable", type=Path, metavar="FILE", help="write what is mixed up there, to be read as confusable.json"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N samples, picked at random but always the same")
    parser.add_argument(
        "--moves", action="store_true", help="average over the image and it moved each way, 5 x the work"
    )
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    if arguments.images and arguments.split:
        parser.error("--split is of a dataset: it says nothing with --images")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    folder = arguments.output_dir or default_output(arguments.model, arguments.images)
    result = evaluate_file(
        arguments.model,
        arguments.data_dir,
        arguments.images,
        arguments.split or "test",
        folder,
        arguments.limit,
        arguments.confusable,
        arguments.moves,
    )
    print(report(result))
    print(f"\n{folder / 'evaluation.json'}\n{folder / 'evaluation.png'}")


if __name__ == "__main__":
    run(main)
