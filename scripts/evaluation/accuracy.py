"""The figures of a model's answers: top-1 and top-5, their standard error, by class, by writer, and confused pairs."""

import numpy as np

from characters.kinds import kind_of

LISTED = 20  # confused pairs, and worst classes


def ranked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class (n,) and the rank of the true label (n,), 0 = likeliest, of logits (n, classes).

    Of two equal logits the first is the likelier.
    """
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > true) | ((logits == true) & earlier)).sum(axis=1)


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
    """The number of writers, and the median and the 5th percentile of their top-1 in %."""
    top1 = 100 * np.bincount(writers, right) / np.bincount(writers)
    lowest, median = np.percentile(top1, [5, 50]).tolist()
    return {"writers": len(top1), "median": median, "lowest_twentieth": lowest}


def summary(
    classes: str, labels: np.ndarray, predicted: np.ndarray, rank: np.ndarray, writers: np.ndarray | None = None
) -> dict:
    """The figures of n samples, in %: labels, predicted classes, ranks of the true class, and writers, all (n,).

    Without writers, or with one alone, each sample counts as written by another person.
    """
    right = predicted == labels
    writer = np.zeros(0, int) if writers is None else np.unique(writers, return_inverse=True)[1]
    writer = writer if writer.any() else np.arange(len(labels))
    samples_of = np.bincount(labels, minlength=len(classes))
    right_of = np.bincount(labels[right], minlength=len(classes))
    present = np.flatnonzero(samples_of)
    share = right_of[present] / samples_of[present]
    worst_first = present[np.lexsort((present, -samples_of[present], share))]
    worst = [i for i in worst_first if right_of[i] < samples_of[i]][:LISTED]
    kinds = np.array([kind_of(c) for c in classes])
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
            for kind in np.unique(kinds[present])
        },
        "worst_classes": [
            {"character": classes[i], "right": int(right_of[i]), "samples": int(samples_of[i])} for i in worst
        ],
        "confused": confused_pairs(classes, labels, predicted, samples_of),
        "per_class": {classes[i]: [int(right_of[i]), int(samples_of[i])] for i in present},
    }


def confused_pairs(classes: str, labels: np.ndarray, predicted: np.ndarray, samples_of: np.ndarray) -> list[dict]:
    """The commonest mistakes: true character, predicted one, how often, of how many samples."""
    wrong = predicted != labels
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    return [
        {"true": classes[t], "predicted": classes[p], "count": int(counts[i]), "of": int(samples_of[t])}
        for i in np.argsort(-counts, kind="stable")[:LISTED]
        for t, p in [pairs[:, i]]
    ]
