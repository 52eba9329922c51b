"""How sure a model is, and whether what it sees is one of its characters at all. The softmax of logits divided by a
temperature, fitted on validation data, is nearly the share of right answers (arXiv:1706.04599). A picture whose lead
lies below a threshold is taken for none of the classes."""

import json
import math
from dataclasses import dataclass

import numpy as np

from files.command_line import InputError

BINS = 15  # of the reliability diagram


def probabilities(logits: np.ndarray, temperature: float = 1) -> np.ndarray:
    """Softmax over the last axis of logits divided by the temperature."""
    exponent = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return exponent / exponent.sum(axis=-1, keepdims=True)


def lead(logits: np.ndarray) -> np.ndarray:
    """How far the largest of logits (..., classes) is above their mean: further for what is one of the classes. The
    largest logit alone, and the energy (arXiv:2010.03759), fall with every pen thinner than those trained on."""
    return logits.max(axis=-1) - logits.mean(axis=-1)


@dataclass(frozen=True)
class Confidence:
    """What a file says of its logits; the defaults are those of a file that says nothing."""

    temperature: float = 1.0
    threshold: float | None = None

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return probabilities(logits, self.temperature)

    def known(self, logits: np.ndarray) -> np.ndarray:
        """Whether each row of logits (n, classes) is one of the classes, bool (n,); yes where there is no threshold."""
        if self.threshold is None:
            return np.ones(len(logits), bool)
        return lead(logits) >= self.threshold


def confidence_of(content: dict | str | None, path: object) -> Confidence:
    """What a file holds under `confidence`, as it is or as JSON. Raises InputError where that makes no sense."""
    try:
        values = json.loads(content) if isinstance(content, str) and content else content or {}
        if not isinstance(values, dict) or values.get("score", "lead") != "lead":  # of an older version
            raise ValueError
        confidence = Confidence(**{name: values[name] for name in vars(Confidence()) if name in values})
        if not math.isfinite(confidence.threshold or 0) or not 1e-3 <= confidence.temperature <= 1e3:
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InputError(f"{path}: its confidence is damaged: run scripts/calibrate_confidence.py on it") from None
    return confidence


def reliability(shares: np.ndarray, right: np.ndarray) -> list[dict]:
    """The bins of a reliability diagram that are not empty, of the answers' probabilities (n,) and whether each was
    right (n,): mean probability, share that was right, number of samples."""
    place = np.minimum((shares * BINS).astype(int), BINS - 1)
    bins = [(shares[place == i], right[place == i]) for i in np.unique(place)]
    return [{"probability": float(s.mean()), "right": float(r.mean()), "samples": len(s)} for s, r in bins]


def calibration_error(bins: list[dict]) -> float:
    """The expected calibration error: how far the probabilities are from the share of right answers, by samples."""
    samples = sum(row["samples"] for row in bins)
    return sum(row["samples"] * abs(row["probability"] - row["right"]) for row in bins) / samples
