"""TODO doc: from evaluate"""

import numpy as np

from characters.kinds import kind_of

LISTED = 20  # confused pairs, and worst classes


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
    kinds = np.array([kind_of(c) for c in classes])
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
