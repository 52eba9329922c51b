"""An evaluation as text: its headline figures, and the whole report that evaluate.py prints."""

import unicodedata


def plural(count: int, one: str, more: str) -> str:
    return one if count == 1 else more


def headline(result: dict) -> list[tuple[str, str]]:
    """The figures that matter, as (name, value)."""
    never, classes = result["classes_never_right"], result["classes"]
    kinds = [
        (kind, f"{row['top1']:6.2f} %   {row['samples']:,} of {row['classes']:,} classes")
        for kind, row in result["kinds"].items()
    ]
    return [
        ("samples", f"{result['samples']:6,} of {classes:,} {plural(classes, 'class', 'classes')}"),
        ("top-1", f"{result['top1']:6.2f} % ± {result['top1_standard_error']:.2f}"),
        ("top-5", f"{result['top5']:6.2f} %"),
        ("mean over classes", f"{result['mean_class_accuracy']:6.2f} %"),
        *(kinds if len(kinds) > 1 else []),
        ("lowest class", f"{result['lowest_class_accuracy']:6.2f} %"),
        *writer_lines(result["by_writer"]),
        ("never right", f"{never:6,} {plural(never, 'class', 'classes')}"),
        *confidence_lines(result["calibration"]),
    ]


def writer_lines(figures: dict | None) -> list[tuple[str, str]]:
    """How well the middle writer is read and how badly the worst."""
    if figures is None or figures["writers"] < 2:
        return []
    median, lowest = figures["median"], figures["lowest_twentieth"]
    told = f"{median:6.2f} %   of {figures['writers']:,} writers, a twentieth below {lowest:.2f} %"
    return [("median writer", told)]


def confidence_lines(calibration: dict) -> list[tuple[str, str]]:
    """How far the probabilities are from the share of right answers, and how often a character is taken for none."""
    without = calibration["error_without_temperature"]
    told = f"   {100 * without:.2f} % without temperature" if calibration["temperature"] != 1 else ""
    lines = [("calibration error", f"{100 * calibration['error']:6.2f} %{told}")]
    if calibration["rejected"] is not None:
        right = calibration["rejected_of_right"]
        of_right = "" if right is None else f"   of those read rightly {right:.2f} %"
        lines.append(("taken for none", f"{calibration['rejected']:6.2f} %{of_right}"))
    return lines


def in_columns(cells: list[str], columns: int, width: int) -> list[str]:
    """Cells laid out in columns, one below the other; a Japanese character takes two places."""
    wide = [sum(unicodedata.east_asian_width(c) in "WF" for c in cell) + len(cell) for cell in cells]
    padded = [cell + " " * (width - size) for cell, size in zip(cells, wide, strict=True)]
    height = -(-len(cells) // columns)
    return ["".join(padded[row::height]).rstrip() for row in range(height)]


def report(result: dict) -> str:
    """What is printed: at most 80 columns wide, but for long paths."""
    lines = [result["model"]["told"], f"on {result['data']['told']}", ""]
    lines += [f"{name:<20}{value}" for name, value in headline(result)]
    if result["left_out"]:
        told = " ".join(list(result["left_out"])[:20]) + (" …" if len(result["left_out"]) > 20 else "")
        lines += [
            f"{'left out':<20}{sum(result['left_out'].values()):6,} samples of characters that the model lacks:",
            told,
        ]
    samples = result["robustness"]["samples"]
    lines += ["", f"robustness: top-1 of {samples:,} {plural(samples, 'sample', 'samples')}"]
    clean = result["robustness"]["top1"]["clean"]
    for name, top1 in result["robustness"]["top1"].items():
        lines.append(f"{name:<20}{top1:6.2f} %" + (f"  {top1 - clean:+7.2f}" if name != "clean" else ""))
    if result["confused"]:
        lines += ["", "least well read: right of all"]
        cells = [f"{row['character']} {row['right']}/{row['samples']}" for row in result["worst_classes"]]
        lines += in_columns(cells, 5, 15)
        lines += ["", "most confused: true → read as, times of all"]
        cells = [f"{p['true']} → {p['predicted']} {p['count']}/{p['of']}" for p in result["confused"]]
        lines += in_columns(cells, 4, 19)
    return "\n".join(lines)
