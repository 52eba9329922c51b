"""An evaluation as text: its headline figures, and the whole report that evaluate.py prints."""

import unicodedata


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 class", "3,036 classes"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def headline(result: dict) -> list[tuple[str, str]]:
    """The figures that matter, as (name, value)."""
    kinds, writers, calibration = result["kinds"], result["by_writer"], result["calibration"]
    lines = [
        ("samples", f"{result['samples']:6,} of {counted(result['classes'], 'class', 'classes')}"),
        ("top-1", f"{result['top1']:6.2f} % ± {result['top1_standard_error']:.2f}"),
        ("top-5", f"{result['top5']:6.2f} %"),
        ("mean over classes", f"{result['mean_class_accuracy']:6.2f} %"),
    ]
    for kind, row in kinds.items() if len(kinds) > 1 else ():
        lines.append((kind, f"{row['top1']:6.2f} %   {row['samples']:,} of {row['classes']:,} classes"))
    lines.append(("lowest class", f"{result['lowest_class_accuracy']:6.2f} %"))
    if writers and writers["writers"] > 1:
        below = f"   of {writers['writers']:,} writers; 5 % of them below {writers['lowest_twentieth']:.2f} %"
        lines.append(("median writer", f"{writers['median']:6.2f} %{below}"))
    lines.append(("never right", f"{result['classes_never_right']:6,} classes"))
    plain = f"   {100 * calibration['error_without_temperature']:.2f} % without temperature"
    plain = plain if calibration["temperature"] != 1 else ""
    lines.append(("calibration error", f"{100 * calibration['error']:6.2f} %{plain}"))
    if calibration["rejected"] is not None:
        of_right = calibration["rejected_of_right"]
        of_right = "" if of_right is None else f"   of the correct answers {of_right:.2f} %"
        lines.append(("rejected", f"{calibration['rejected']:6.2f} %{of_right}"))
    return lines


def in_columns(cells: list[str], columns: int, width: int) -> list[str]:
    """Cells laid out in columns, one below the other; a Japanese character takes two places."""
    sizes = [sum(unicodedata.east_asian_width(c) in "WF" for c in cell) + len(cell) for cell in cells]
    padded = [cell + " " * (width - size) for cell, size in zip(cells, sizes, strict=True)]
    height = -(-len(cells) // columns)
    return ["".join(padded[row::height]).rstrip() for row in range(height)]


def report(result: dict) -> str:
    """What is printed: at most 80 columns wide, but for long paths."""
    lines = [result["model"]["description"], f"on {result['data']['description']}", ""]
    lines += [f"{name:<20}{value}" for name, value in headline(result)]
    if left_out := result["left_out"]:
        lines.append(f"{'left out':<20}{sum(left_out.values()):6,} samples of characters that the model lacks:")
        lines.append(" ".join(list(left_out)[:20]) + (" …" if len(left_out) > 20 else ""))
    lines += ["", f"robustness: top-1 of {counted(result['robustness']['samples'], 'sample')}"]
    clean = result["robustness"]["top1"]["clean"]
    for name, top1 in result["robustness"]["top1"].items():
        lines.append(f"{name:<20}{top1:6.2f} %" + (f"  {top1 - clean:+7.2f}" if name != "clean" else ""))
    if result["confused"]:
        lines += ["", "lowest classes: right of all"]
        cells = [f"{row['character']} {row['right']}/{row['samples']}" for row in result["worst_classes"]]
        lines += in_columns(cells, 5, 15)
        lines += ["", "most confused: true → read as, times of all"]
        cells = [f"{p['true']} → {p['predicted']} {p['count']}/{p['of']}" for p in result["confused"]]
        lines += in_columns(cells, 4, 19)
    return "\n".join(lines)
