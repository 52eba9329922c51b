"""Architectures trained with one budget on the same data: their accuracy, size and speed as a table and a picture."""

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from data.prepared import PreparedDataset
from engine.architecture import Architecture
from engine.model_files import architecture_of
from engine.run import Run
from engine.timing import interleaved
from evaluation.measurement import evaluate_file
from evaluation.speed import inference_seconds
from export.onnx_file import default_output
from files.atomic import atomic_write, write_text
from files.command_line import InputError
from files.plain_json import read_json
from images.normalization import CANVAS
from optimization_config import parse_config
from quantization.files import load_trained

SCRIPTS = Path(__file__).resolve().parents[1]
DEFAULT = ("cnn", "radical_rnn", "hiercode", "vit")
THROUGHPUT_BATCH = 64
KINDS = {"unseen_writers": "unseen writers", "images": "real drawings"}  # of samples


@dataclass
class Entry:
    """One line of the table: an architecture with settings of its own, its script, and the folder of what it makes."""

    name: str
    script: str
    architecture: Architecture
    settings: list[str]
    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / self.architecture.best_file

    @property
    def exported(self) -> Path:
        return default_output(self.best)


def read_entries(texts: list[str], output: Path) -> list[Entry]:
    """Entries from texts such as "vit --depth 4". Raises InputError for an unknown architecture; a wrong setting ends
    the program."""
    scripts = sorted({path.stem for path in SCRIPTS.glob("train_*.py")} - {"train_qat"})  # INT8 is no architecture
    known = {architecture_of(script).name: script for script in scripts}
    entries = []
    for text in texts:
        name, *settings = text.split() or [""]
        if name not in known:
            raise InputError(f"there is no architecture {name}: there are {', '.join(known)}")
        architecture = architecture_of(known[name])
        parse_config(architecture.config, "", settings)
        folder = output / "_".join([name, *(word.lstrip("-") for word in settings)])
        entries.append(Entry(text, known[name], architecture, settings, folder))
    return entries


def run_script(name: str, *arguments: object) -> None:
    """Runs a script as a person would; ends this program if it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n--- python scripts/{name}.py {' '.join(words)}", flush=True)
    if code := subprocess.run([sys.executable, SCRIPTS / f"{name}.py", *words], check=False).returncode:
        print(f"it ended with exit code {code}; the same command goes on from here", file=sys.stderr)
        sys.exit(code)


def make(entry: Entry, data: Path, budget: list[str]) -> None:
    """Trains one entry, or goes on where an earlier call stopped, and exports it."""
    record = entry.folder / "budget.json"
    if record.is_file() and read_json(record, "delete it") != {"flags": budget}:
        raise InputError(f"{entry.folder} was trained with another budget: choose another --output-dir")
    write_text(record, json.dumps({"flags": budget}))
    folders = ("--data-dir", data, "--model-dir", entry.folder)
    run_script(entry.script, *folders, *budget, *entry.settings, "--resume-from", "auto")
    run_script("convert_to_onnx", "--model-path", entry.best, "--data-dir", data, "--output", entry.exported)


def evaluation(entry: Entry, data: Path | None, images: Path | None, limit: int | None) -> dict:
    """The figures of evaluate.py for the exported file, on the test split or on a folder of images."""
    folder = entry.folder / ("images" if images else "test")
    result = evaluate_file(entry.exported, data, images, output_dir=folder, limit=limit)
    return {name: result[name] for name in ("samples", "top1", "top1_standard_error", "top5", "kinds")}


def training_seconds(entries: list[Entry], dataset: PreparedDataset, rounds: int) -> dict[str, float]:
    """Median seconds of a whole training step, augmentation included, for each image."""
    steps, sizes = {}, {}
    for entry in entries:
        settings = load_trained(entry.best)[1]["config"] | {"resume_from": None, "init_from": None}
        state = Run(entry.architecture, entry.architecture.config(**settings), dataset)
        state.model.train()
        rows = state.sampling.rows[: state.sampling.batch_size]
        steps[entry.name], sizes[entry.name] = lambda s=state, r=rows: s.train_step(r), len(rows)
    return {name: seconds / sizes[name] for name, seconds in interleaved(steps, rounds).items()}


def size(entry: Entry) -> dict[str, int]:
    """Parameters, floating-point operations for an image (two for a multiply-add), and bytes of the ONNX file."""
    model, _ = load_trained(entry.best)
    # As one operator of oneDNN an LSTM would not be counted.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # which nobody asked for
        with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
            model(torch.zeros(1, 1, CANVAS, CANVAS))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": counter.get_total_flops(),
        "bytes": entry.exported.stat().st_size,
    }


def measure(entries: list[Entry], data: Path, images: Path | None, limit: int | None, rounds: int) -> list[dict]:
    """A dict of figures for each entry that was made; speeds are taken in turn within one interleaved run."""
    files = {entry.name: entry.exported for entry in entries}
    latency, batches = inference_seconds(files, 1, 10 * rounds), inference_seconds(files, THROUGHPUT_BATCH, rounds)
    training = training_seconds(entries, PreparedDataset(data), rounds)
    return [
        {"name": entry.name, **size(entry)}
        | {
            "training_images_per_second": 1 / training[entry.name],
            "latency_ms": 1000 * latency[entry.name],
            "images_per_second": THROUGHPUT_BATCH / batches[entry.name],
            "unseen_writers": evaluation(entry, data, None, limit),
        }
        | ({"images": evaluation(entry, None, images, limit)} if images else {})
        for entry in entries
    ]


COLUMNS = "", "parameters", "MFLOP an image", "fp32 MB", "training images/s", "latency ms", "batches images/s"


def accuracy_cells(figures: dict) -> list[str]:
    return [f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}", f"{figures['top5']:.2f}"]


def table(rows: list[dict]) -> str:
    """The table in Markdown; its last columns are of the kinds in KINDS that the rows have."""
    kinds = {kind: label for kind, label in KINDS.items() if kind in rows[0]}
    titles = [*COLUMNS, *(title for label in kinds.values() for title in (f"{label}: top-1 %", "top-5 %"))]
    lines = [titles, ["---"] * len(titles)]
    for row in rows:
        cells = [row["name"], f"{row['parameters'] / 1e6:.2f} M", f"{row['flops'] / 1e6:.0f}"]
        cells += [f"{row['bytes'] / 1e6:.2f}", f"{row['training_images_per_second']:,.0f}"]
        cells += [f"{row['latency_ms']:.2f}", f"{row['images_per_second']:,.0f}"]
        lines.append(cells + [cell for kind in kinds for cell in accuracy_cells(row[kind])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_picture(rows: list[dict], path: Path, title: str) -> None:
    """Accuracy against bytes and against latency, as PNG."""
    from matplotlib.figure import Figure  # optional

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    kinds = [(kind, label) for kind, label in KINDS.items() if kind in rows[0]]
    left, right = figure.subplots(1, 2, sharey=True)
    left.set(xlabel="ONNX file, fp32, MB", ylabel="top-1, %")
    right.set(xlabel="one image, one thread, ms")
    for axes, name, unit in ((left, "bytes", 1e6), (right, "latency_ms", 1)):
        x, tops = [row[name] / unit for row in rows], [0.0] * len(rows)
        for (kind, label), marker in zip(kinds, "os", strict=False):
            y = [row[kind]["top1"] for row in rows]
            errors = [2 * row[kind]["top1_standard_error"] for row in rows]
            axes.errorbar(x, y, errors, fmt=marker, capsize=3, label=f"{label} (± 2 standard errors)")
            tops = [max(top, value + error) for top, value, error in zip(tops, y, errors, strict=True)]
        for row, place in zip(rows, zip(x, tops, strict=True), strict=True):
            axes.annotate(row["name"], place, (0, 4), textcoords="offset points", ha="center")
        axes.set_xlim(0, 1.15 * max(x))
        axes.margins(y=0.1)
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(title, fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
