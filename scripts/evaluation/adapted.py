"""A model adapted to one kind of picture: what it gained on labelled pictures, and lost on made-up writers."""

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from characters.kinds import kind_of
from data.duplicates import near_duplicates
from data.labelled import Labelled, labelled_pictures
from data.pictures import normalised
from data.sources import OUTSIDE, named
from engine.adaptation import COPIES, Samples, fresh_samples, learn, sure_of, varied
from engine.devices import derive_seed
from evaluation.accuracy import percent
from evaluation.calibration import fitted
from evaluation.measurement import batches
from evaluation.model import Model, of_network
from files.command_line import InputError
from handwriting.writer import GENERATOR_VERSION
from images.finding import find_images
from inference.confidence import Confidence, confidence_of
from quantization.files import float_architecture, load_float

PARTS = 5  # of the different labelled pictures of a class, of which one is held out
REPLAYED, CHOOSING, TESTING = 1, 2, 2  # sets of stand-in samples
SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)  # of the way to what was learned
TOLERATED = 0.0  # points that these made-up writers may lose; with 0.1 a CNN lost 0.27 on others
MADE_UP = "made-up writers"


def logits_of(reader: Model, images: torch.Tensor) -> np.ndarray:
    parts = [images[part].numpy().astype(np.float32) / 255 for part in batches(len(images))]
    return np.concatenate([reader.logits(part) for part in parts])


def top1(reader: Model, samples: Samples) -> float:
    return percent(logits_of(reader, samples.images).argmax(axis=1) == samples.labels.numpy())


def confidence_by(reader: Model, made_up: Samples, before: dict) -> dict:
    """A reader's confidence, fitted to samples by made-up writers with the settings of `before`; {} if none fits."""
    with contextlib.suppress(InputError):
        content = fitted(logits_of(reader, made_up.images), made_up.labels.numpy(), before.get("kept", 0.92))
        confidence_of(content, "what was fitted")  # raises if it makes no sense: the model reads nothing
        return content
    return {}


def read(folder: Path, found: list[Labelled], classes: str) -> tuple[Samples, list[str]]:
    """The pictures of a folder that have no label ("") or show a class the model learned, and lines on the others."""
    outside = Counter(p.character for p in found if p.character not in classes)
    images, good, left_out = normalised([p for p in found if p.character not in outside], folder)
    left_out |= {OUTSIDE: outside}
    notes = [f"{folder}: left out, {why}: {named(Counter(names))}" for why, names in left_out.items() if names]
    if not good:
        raise InputError("; ".join(notes) or f"{folder} holds no other pictures than those with labels")
    labels = torch.tensor([classes.index(picture.character) for picture in good])
    return Samples(torch.from_numpy(images[:, None]), labels), notes


def held_out(samples: Samples) -> torch.Tensor:
    """Which labelled pictures only measure, bool (n,): of each class one of PARTS, copies of a picture together."""
    held = torch.zeros(len(samples.labels), dtype=torch.bool)
    for label in samples.labels.unique():
        own = (samples.labels == label).nonzero().flatten()
        groups = np.unique(near_duplicates(samples.images[own, 0].numpy()), return_inverse=True)[1]
        held[own] = torch.from_numpy(groups % PARTS == PARTS - 1)
    return held


def by_kinds(shares: np.ndarray, classes: str, known: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes), weighted by how common hiragana, kanji … are among the known pictures, bool (n,).
    Their own probabilities tell how common: one step of Saerens et al. 2002 (doi:10.1162/089976602753284446)."""
    if not known.any():
        return shares
    kinds = np.unique([kind_of(char) for char in classes], return_inverse=True)[1]
    prior = np.bincount(kinds, shares[known].mean(axis=0)) / np.bincount(kinds)
    weighted = shares * prior[kinds]
    return weighted / weighted.sum(axis=1, keepdims=True)


def pseudo_labelled(reader: Model, images: torch.Tensor, confidence: Confidence, seed: int) -> Samples:
    """Those of the images that the reader is sure of, by what it reads in them and in varied copies of them."""
    logits = logits_of(reader, images)
    shares = confidence.probabilities(logits)
    for copies in varied(images, seed):
        shares += confidence.probabilities(logits_of(reader, copies))
    known = confidence.known(logits)
    return sure_of(images, by_kinds(shares / (1 + COPIES), reader.classes, known), known)


def go(network: nn.Module, reader: Model, learned: dict, made_up: Samples) -> float:
    """Moves the reader's network in a straight line towards the learned weights (Wortsman et al., arXiv:2109.01903):
    by the largest of SHARES at which made-up writers lose no more than TOLERATED, or else by the smallest."""
    start, before = {name: value.clone() for name, value in network.state_dict().items()}, top1(reader, made_up)
    for share in SHARES:
        for name, value in network.state_dict().items():
            value.copy_(start[name].lerp(learned[name], share) if value.is_floating_point() else start[name])
        if before - top1(reader, made_up) <= TOLERATED:
            break
    return share


def adapt(
    path: Path, images: Path | None, labels: Path | None, seed: int, say: Callable[[str], None]
) -> tuple[dict, float]:
    """What the file of the adapted model holds, and the points lost on made-up writers; says how it comes to be."""
    network, facts = load_float(path)
    architecture, config = float_architecture(facts)
    reader, classes, before = of_network(network, facts, path), facts["classes"], facts.get("confidence") or {}
    own, notes, tests = [], [], {}
    if labels:
        samples, notes = read(labels, labelled_pictures(labels), classes)
        held = held_out(samples)
        own.append(samples.of(~held))
        some, which = (held, "held out") if held.any() else (~held, "that were learned from")
        tests[f"labelled pictures {which}"] = samples.of(some)
    if images:
        places = [p for p in find_images([images]) if not labels or labels.resolve() not in p.resolve().parents]
        pictures, more = read(images, [Labelled(place, "") for place in places], classes)
        notes += more
    for line in notes:
        say(line)
    made_up = fresh_samples(classes, CHOOSING + TESTING, derive_seed(seed, 1))
    first = len(made_up.labels) * CHOOSING // (CHOOSING + TESTING)
    choosing, tests[MADE_UP] = made_up.of(slice(first)), made_up.of(slice(first, None))
    if images:
        confidence = confidence_of(before or confidence_by(reader, choosing, {}), path)
        own.append(pseudo_labelled(reader, pictures.images, confidence, seed))
        sure, kinds = len(own[-1].labels), len(own[-1].labels.unique())
        say(f"{images}: sure of {sure:,} of {len(pictures.labels):,} pictures, of {kinds:,} characters")
    own = Samples(*map(torch.cat, zip(*own, strict=True)))
    if not len(own.labels):
        raise InputError(f"{path} is sure of none of the pictures in {images}: label some, and give them with --labels")
    was = {name: top1(reader, samples) for name, samples in tests.items()}
    replayed = fresh_samples(classes, REPLAYED, derive_seed(seed, 0))
    share = go(network, reader, learn(network, architecture, config, own, replayed, seed), choosing)
    now = {name: top1(reader, samples) for name, samples in tests.items()}
    say(f"weights: {share:.0%} of the way from the old ones to the trained ones")
    for name, samples in tests.items():
        say(f"{name}: {was[name]:.2f} → {now[name]:.2f} % of {len(samples.labels):,}")
    source = f"{facts.get('source') or 'unknown data'}; adapted to {len(own.labels):,} pictures"
    content = {name: facts.get(name) for name in ("script", "config", "classes", "generator", "versions")} | {
        "source": f"{source} and stand-in samples of KanjiVG, generator version {GENERATOR_VERSION}",
        "metrics": {"made_up_writers_top1": now[MADE_UP], "made_up_writers_top1_before": was[MADE_UP]},
        "confidence": confidence_by(reader, choosing, before),
        "model": network.state_dict(),
    }
    return content, was[MADE_UP] - now[MADE_UP]
