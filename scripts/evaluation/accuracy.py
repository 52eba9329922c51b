"""The figures of a model's answers, by class, by writer, with their standard error and confused pairs; and as text."""

from collections import Counter

import numpy as np

from characters.kinds import detailed_kind
from characters.same_shape import group_numbers

LISTED = 20  # confused pairs, and worst classes


def ranked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class (n,) and the rank of the true label (n,), 0 = likeliest, of logits (n, classes); of two equal
    logits the first is the likelier."""
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return logits.argmax(axis=1), ((logits > true) | ((logits == true) & earlier)).sum(axis=1)


def percent(right: np.ndarray) -> float:
    return 100 * float(right.mean())


def standard_error(right: np.ndarray, writers: np.ndarray) -> float:
    """Of the share of right answers, in %; right and writers are (n,). What one person wrote counts as one observation
    (Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015)."""
    surplus = np.bincount(writers, right - right.mean())
    return 100 * float(np.sqrt((surplus**2).sum())) / len(right)


def by_group(names: np.ndarray, labels: np.ndarray, right: np.ndarray) -> dict[str, dict]:
    """Of the samples of each name: how many, of how many classes, and the share of right answers; all are (n,)."""
    groups = {}
    for name in np.unique(names).tolist():
        own = names == name
        count = {"samples": int(own.sum()), "classes": len(np.unique(labels[own]))}
        groups[name] = count | {"top1": percent(right[own])}
    return groups


def summary(
    classes: str, labels: np.ndarray, predicted: np.ndarray, rank: np.ndarray, writers: np.ndarray | None = None
) -> dict:
    """The figures of n samples, in %: labels, predicted classes, ranks of the true class, and writers, all (n,).
    Without writers, or with one alone, each sample counts as written by another person."""
    right, shape = predicted == labels, group_numbers(classes)
    by_shape, kinds = shape[predicted] == shape[labels], np.array([detailed_kind(c) for c in classes])
    writer, by_writer = np.arange(len(labels)), None
    if writers is not None and np.ptp(writers):
        writer = np.unique(writers, return_inverse=True)[1]
        top1 = 100 * np.bincount(writer, right) / np.bincount(writer)
        lowest, median = np.percentile(top1, [5, 50]).tolist()
        if 2 * len(top1) <= len(labels):  # else most are of unknown writers, one each
            by_writer = {"writers": len(top1), "median": median, "lowest_twentieth": lowest}
    samples_of = np.bincount(labels, minlength=len(classes)).tolist()
    right_of = np.bincount(labels[right], minlength=len(classes)).tolist()
    share = {i: right_of[i] / count for i, count in enumerate(samples_of) if count}
    worst = sorted((i for i in share if share[i] < 1), key=lambda i: (share[i], -samples_of[i]))[:LISTED]
    pairs = Counter(zip(labels[~right].tolist(), predicted[~right].tolist(), strict=True))
    commonest = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:LISTED]
    return {
        "samples": len(labels),
        "classes": len(share),
        "top1": percent(right),
        "top1_standard_error": standard_error(right, writer),
        "top1_by_shape": percent(by_shape),
        "top1_by_shape_standard_error": standard_error(by_shape, writer),
        "top5": percent(rank < 5),
        "mean_class_accuracy": 100 * float(np.mean(list(share.values()))),
        "classes_never_right": list(share.values()).count(0),
        "by_writer": by_writer,
        "kinds": by_group(kinds[labels], labels, by_shape),
        "worst_classes": [{"character": classes[i], "right": right_of[i], "samples": samples_of[i]} for i in worst],
        "confused": [
            {"true": classes[t], "predicted": classes[p], "count": pairs[t, p], "of": samples_of[t]}
            for t, p in commonest
        ],
        "per_class": {classes[i]: [right_of[i], samples_of[i]] for i in share},
    }


def report(result: dict) -> str:
    """What evaluate.py prints: at most 80 columns wide, but for long paths."""
    writers, sure = result["by_writer"], result["calibration"]
    figures = [
        ("samples", f"{result['samples']:6,} of {result['classes']:,} classes"),
        ("top-1", f"{result['top1']:6.2f} % ± {result['top1_standard_error']:.2f}"),
        ("top-1 by shape", f"{result['top1_by_shape']:6.2f} % ± {result['top1_by_shape_standard_error']:.2f}"),
        ("top-5", f"{result['top5']:6.2f} %"),
        ("mean over classes", f"{result['mean_class_accuracy']:6.2f} %"),
    ]
    for groups in (result["kinds"], result["sources"]):
        for name, row in groups.items() if len(groups) > 1 else ():
            short = name if len(name) < 20 else f"{name[:18]}…"
            figures.append((short, f"{row['top1']:6.2f} %   {row['samples']:,} samples, {row['classes']:,} classes"))
    if writers:
        below = f"   of {writers['writers']:,} writers; 5 % of them below {writers['lowest_twentieth']:.2f} %"
        figures.append(("median writer", f"{writers['median']:6.2f} %{below}"))
    figures.append(("never right", f"{result['classes_never_right']:6,} classes"))
    plain = f"   {100 * sure['error_without_temperature']:.2f} % without temperature"
    figures.append(("calibration error", f"{100 * sure['error']:6.2f} %{plain if sure['temperature'] != 1 else ''}"))
    if sure["rejected"] is not None:
        of_right = sure["rejected_of_right"]
        of_right = "" if of_right is None else f"   of the correct answers {of_right:.2f} %"
        figures.append(("rejected", f"{sure['rejected']:6.2f} %{of_right}"))
        wrong = f"   wrong and yet stated as known {sure['known_and_wrong']:.2f} %"
        figures.append(("right and known", f"{sure['known_and_right']:6.2f} %{wrong}"))
    if left_out := sum(result["left_out"].values()):
        figures.append(("left out", f"{left_out:6,} samples of characters that the model lacks"))
    lines = [result["model"]["description"], f"on {result['data']['description']}", ""]
    lines += [f"{name:<20}{value}" for name, value in figures]
    lines += ["", f"robustness: top-1 of {result['robustness']['samples']:,} samples"]
    clean = result["robustness"]["top1"]["clean"]
    for name, top1 in result["robustness"]["top1"].items():
        lines.append(f"{name:<20}{top1:6.2f} %" + (f"  {top1 - clean:+7.2f}" if name != "clean" else ""))
    if result["surroundings"]:
        lines += ["", f"{'surroundings and pens':<24}right  wrong yet known"]
    for name, row in result["surroundings"].items():
        lines.append(f"{name:<20}{row['right']:6.2f} %{row['wrong_and_known']:12.2f} %")
    worst = [(row["character"], row["right"], row["samples"]) for row in result["worst_classes"]]
    pairs = [(f"{pair['true']} → {pair['predicted']}", pair["count"], pair["of"]) for pair in result["confused"]]
    for title, rows in (("lowest classes: right", worst), ("most confused: true → read as, times", pairs)):
        if rows:
            cells = [f"{name} {f'{count}/{total}':<11}" for name, count, total in rows]
            lines += ["", f"{title} of all", *("".join(cells[i : i + 4]).rstrip() for i in range(0, len(cells), 4))]
    return "\n".join(lines)
