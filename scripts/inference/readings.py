"""What a picture shows according to a recognizer, as text and as JSON."""

import codecs
import json
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import name

import numpy as np

from characters.confusable import Confusable
from inference.recognizer import Recognizer

BATCH = 64
CONSIDERED = 5  # of the likeliest characters, for what else a picture looks like


@dataclass
class Reading:
    """The likeliest characters with their probabilities, none where nothing is drawn; whether the picture is one of the
    model's characters at all; what else the first one looks like."""

    top: list[tuple[str, float]]
    known: bool
    looks_like: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.top:
            return "nothing is drawn here"
        likeliest = "  ".join(f"{c} {100 * p:.1f} %" for c, p in self.top)
        if not self.known:
            return f"not one of these characters (nearest: {likeliest})"
        alike = ", ".join(f"katakana {c}" if name(c, "").startswith("KATAKANA") else c for c in self.looks_like)
        return likeliest + (f"  (looks like: {alike})" if alike else "")

    def as_json(self, path: Path, encoding: str | None) -> str:
        """One line in ASCII, or where the encoding of its reader is UTF-8, in that; `path` is the image's."""
        top = [{"character": c, "probability": round(p, 6)} for c, p in self.top]
        content = {"image": str(path), "top": top, "known": self.known, "looks_like": self.looks_like}
        return json.dumps(content, ensure_ascii=codecs.lookup(encoding or "ascii").name != "utf-8")


def _best(shares: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest of shares (classes,) are, highest first, of equal ones the first."""
    count = min(count, len(shares))
    candidates = np.flatnonzero(shares >= np.partition(shares, -count)[-count])
    return candidates[np.argsort(-shares[candidates], kind="stable")[:count]]


def read(
    recognizer: Recognizer, grey: list[np.ndarray], top: int, confusable: Confusable, among: str = ""
) -> list[Reading]:
    """What each picture shows, grey values 0 to 255 (H, W), with its `top` likeliest characters, of those `among` alone
    where there are any."""
    readings, other = [], np.array([bool(among) and char not in among for char in recognizer.classes])
    for begin in range(0, len(grey), BATCH):
        logits = recognizer.picture_logits(grey[begin : begin + BATCH])
        low = np.where(other, logits.min(axis=1, keepdims=True), logits)  # -inf would spoil the mean in a score
        known = recognizer.confidence.known(low)
        shares = recognizer.confidence.probabilities(np.where(other, -np.inf, logits))
        for i, drawn in enumerate(logits.any(axis=1)):
            best = _best(shares[i], min(max(top, CONSIDERED), np.count_nonzero(~other))) if drawn else []
            likeliest = [(recognizer.classes[j], float(shares[i, j])) for j in best]
            looks_like = [c for c in confusable.looks_like(likeliest[:CONSIDERED]) if not among or c in among]
            readings.append(Reading(likeliest[:top], bool(drawn and known[i]), looks_like))
    return readings
