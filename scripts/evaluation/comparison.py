"""Architectures trained with one budget on the same data: their accuracy, size and speed as a table."""

import json
from dataclasses import dataclass
from pathlib import Path

from engine.model_files import architecture_of
from evaluation.measurement import evaluate_file
from evaluation.speed import inference_seconds
from export.onnx_file import default_output
from files.command_line import SCRIPTS, InputError, run_stage
from optimization_config import parse_config
from quantization.files import load_trained

DEFAULT = ("cnn", "radical_rnn", "hiercode", "vit")
KINDS = {"unseen_writers": "unseen writers", "images": "real drawings"}  # of samples


@dataclass
class Entry:
    """One line of the table: an architecture with its settings, its script, its best model and that as an ONNX file."""

    name: str
    script: str
    settings: list[str]
    best: Path
    exported: Path


def read_entries(texts: list[str], budget: list[str], output: Path) -> list[Entry]:
    """Entries from texts such as "vit --depth 4" and the settings of all; each has a folder named by its settings.
    Raises InputError for an unknown architecture; a wrong setting ends the program."""
    scripts = sorted({path.stem for path in SCRIPTS.glob("train_*.py")} - {"train_qat"})  # INT8 is no architecture
    known = {architecture_of(script).name: script for script in scripts}
    entries = []
    for text in texts:
        name, *settings = [*text.split(), *budget]
        if name not in known:
            raise InputError(f"there is no architecture {name}: there are {', '.join(known)}")
        architecture = architecture_of(known[name])
        parse_config(architecture.config, "", settings)
        best = output / "_".join([name, *(word.lstrip("-") for word in settings)]) / architecture.best_file
        entries.append(Entry(text, known[name], settings, best, default_output(best)))
    return entries


def make(entry: Entry, data: Path) -> None:
    """Trains one entry, or continues where an earlier call stopped, and exports it."""
    folders = ("--data-dir", data, "--model-dir", entry.best.parent)
    run_stage("training", f"{entry.script}.py", *folders, *entry.settings, "--resume-from", "auto")
    files = ("--model-path", entry.best, "--data-dir", data, "--output", entry.exported)
    run_stage("export", "convert_to_onnx.py", *files)


def measure(entries: list[Entry], data: Path, images: Path | None, limit: int | None) -> list[dict]:
    """A dict of figures for each entry that was made; latencies are taken in turn within one interleaved run."""
    latency = inference_seconds({entry.name: entry.exported for entry in entries}, 150)
    rows = []
    for entry in entries:
        model, _ = load_trained(entry.best)
        log = (entry.best.parent / entry.name.split()[0] / "metrics.jsonl").read_text(encoding="utf-8")
        row = {
            "name": entry.name,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "bytes": entry.exported.stat().st_size,
            "training_images_per_second": json.loads(log.splitlines()[-1])["images_per_second"],
            "latency_ms": 1000 * latency[entry.name],
        }
        for kind, folder in (("unseen_writers", None), ("images", images))[: 2 if images else 1]:
            result = evaluate_file(entry.exported, entry.best.with_name(kind), data, folder, limit=limit)
            row[kind] = {name: result[name] for name in ("samples", "top1", "top1_standard_error", "top5", "kinds")}
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """The table in Markdown; its last columns are of the kinds in KINDS that the rows have."""
    kinds = {kind: label for kind, label in KINDS.items() if kind in rows[0]}
    titles = ["", "parameters", "fp32 MB", "training images/s", "latency ms"]
    titles += [f"{label}: {title}" for label in kinds.values() for title in ("top-1 %", "top-5 %")]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        cells = [row["name"], f"{row['parameters'] / 1e6:.2f} M", f"{row['bytes'] / 1e6:.2f}"]
        cells += [f"{row['training_images_per_second']:,.0f}", f"{row['latency_ms']:.2f}"]
        for kind in kinds:
            figures = row[kind]
            cells += [f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}", f"{figures['top5']:.2f}"]
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
