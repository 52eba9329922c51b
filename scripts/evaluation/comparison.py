"""TODO doc: from compare_architectures"""

import importlib.util
import json
import platform
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from data.prepared import PreparedDataset
from engine.architecture import Architecture
from engine.run import Run
from engine.timing import interleaved
from evaluation.measurement import evaluate_file
from export.onnx_file import default_output, metadata
from files.atomic import atomic_write, write_text
from files.command_line import InputError
from files.plain_json import read_json
from files.machine import cores
from images.normalization import CANVAS
from inference.recognizer import single_thread
from optimization_config import parse_config
from quantization.files import load_trained

SCRIPTS = Path(__file__).resolve().parents[1]
DEFAULT = ("cnn", "radical_rnn", "hiercode", "vit")
THROUGHPUT_BATCH = 64


def architectures() -> dict[str, Architecture]:
    """Every architecture that a train_*.py beside this file defines, by its name; INT8 is no further one."""
    found = {}
    for path in sorted({*SCRIPTS.glob("train_*.py")} - {SCRIPTS / "train_qat.py"}):
        module = importlib.import_module(path.stem)
        if architecture := getattr(module, "ARCHITECTURE", None):
            found[architecture.name] = architecture
    return found


@dataclass
class Entry:
    """One line of the table: an architecture, its own settings, and the folder of what it made."""

    told: str
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
    """Entries from texts such as "vit --depth 4". Raises InputError for an architecture that there is none of."""
    known, entries = architectures(), []
    for text in texts:
        name, *settings = text.split() or [""]
        if name not in known:
            raise InputError(f"there is no architecture {name}: there are {', '.join(known)}")
        parse_config(known[name].config, "", settings)  # a wrong setting ends the program now
        folder = output / "_".join([name, *(word.lstrip("-") for word in settings)])
        entries.append(Entry(text, known[name], settings, folder))
    return entries


def script(name: str, *arguments: object) -> None:
    """Runs a script as a person would; ends this program if it fails."""
    words = [str(a) for a in arguments]
    print(f"\n--- python scripts/{name} {' '.join(words)}", flush=True)
    if code := subprocess.run([sys.executable, SCRIPTS / name, *words], check=False).returncode:
        print(f"it ended with exit code {code}; the same command goes on from here", file=sys.stderr)
        sys.exit(code)


def is_exported(entry: Entry) -> bool:
    """Whether there is an ONNX file of this very model: with its settings, and with its figures to the last digit."""
    if not entry.exported.is_file():
        return False
    told = {row.key: row.value for row in onnx.load(entry.exported).metadata_props}
    return metadata(load_trained(entry.best)[1]).items() <= told.items()


def make(entry: Entry, data: Path, budget: list[str]) -> None:
    """Trains and exports one entry, or goes on where an earlier call stopped."""
    told = entry.folder / "budget.json"
    if told.is_file() and read_json(told, "delete it") != {"flags": budget}:
        raise InputError(f"{entry.folder} was trained with another budget: choose another --output-dir")
    write_text(told, json.dumps({"flags": budget}))
    module = sys.modules[entry.architecture.model.__module__]
    folder = ("--data-dir", data, "--model-dir", entry.folder)
    script(f"{Path(module.__file__).stem}.py", *folder, *budget, *entry.settings, "--resume-from", "auto")
    if not is_exported(entry):
        script("convert_to_onnx.py", "--model-path", entry.best, "--data-dir", data, "--output", entry.exported)


def evaluation(entry: Entry, data: Path | None, images: Path | None, limit: int | None) -> dict:
    """The figures of evaluate.py for the exported file, on the test split or on a folder of images."""
    folder = entry.folder / ("images" if images else "test")
    result = evaluate_file(entry.exported, data, images, output_dir=folder, limit=limit)
    return {name: result[name] for name in ("samples", "top1", "top1_standard_error", "top5", "kinds")}


def inference_seconds(entries: list[Entry], batch: int, rounds: int) -> dict[str, float]:
    """Median seconds that onnxruntime takes for a batch on one thread."""
    images = np.random.default_rng(0).random((batch, 1, CANVAS, CANVAS), np.float32)
    sessions = {entry.told: single_thread(entry.exported) for entry in entries}
    runs = {told: lambda s=s: s.run(None, {"input_image": images}) for told, s in sessions.items()}
    return interleaved(runs, rounds * (1 if batch > 1 else 10))


def training_seconds(entries: list[Entry], dataset: PreparedDataset, rounds: int) -> dict[str, float]:
    """Median seconds of a whole training step, augmentation included, for each image."""
    steps, sizes = {}, {}
    for entry in entries:
        config = load_trained(entry.best)[1]["config"]
        known = entry.architecture.config(**{**config, "resume_from": None, "init_from": None})
        state = Run(entry.architecture, known, dataset)
        state.model.train()
        rows = state.rows[: state.batch_size]
        steps[entry.told], sizes[entry.told] = lambda s=state, r=rows: s.train_step(r), len(rows)
    return {told: seconds / sizes[told] for told, seconds in interleaved(steps, rounds).items()}


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


COLUMNS = (
    ("parameters", "", lambda r: f"{r['parameters'] / 1e6:.2f} M"),
    ("MFLOP", "an image", lambda r: f"{r['flops'] / 1e6:.0f}"),
    ("fp32", "MB", lambda r: f"{r['bytes'] / 1e6:.2f}"),
    ("training", "images/s", lambda r: f"{r['training_images_per_second']:,.0f}"),
    ("latency", "ms", lambda r: f"{r['latency_ms']:.2f}"),
    ("batches", "images/s", lambda r: f"{r['images_per_second']:,.0f}"),
    ("unseen writers", "top-1 %", lambda r: score(r.get("unseen_writers"))),
    ("", "top-5 %", lambda r: f"{r['unseen_writers']['top5']:.2f}"),
    ("real drawings", "top-1 %", lambda r: score(r.get("images"))),
    ("", "top-5 %", lambda r: f"{r['images']['top5']:.2f}" if "images" in r else ""),
)


def score(figures: dict | None) -> str:
    return f"{figures['top1']:.2f} ± {figures['top1_standard_error']:.2f}" if figures else ""


def table(rows: list[dict]) -> str:
    """The table in Markdown."""
    titles = ["", *(f"{name} {unit}".strip() for name, unit, _ in COLUMNS)]
    lines = [titles, ["---"] * len(titles)]
    lines += [[row["name"], *(cell(row) for _, _, cell in COLUMNS)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pareto(rows: list[dict], path: Path, data_told: str) -> None:
    """Accuracy against bytes and against latency, as PNG."""
    from matplotlib.figure import Figure  # optional

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    kinds = [("unseen_writers", "unseen stand-in writers", "o"), ("images", "real drawings", "s")]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, value, unit, label in (
        (left, "bytes", 1e6, "ONNX file, fp32, MB"),
        (right, "latency_ms", 1, "one image, one thread, ms"),
    ):
        for kind, told, marker in kinds:
            shown = [row for row in rows if kind in row]
            x = [row[value] / unit for row in shown]
            errors = [2 * row[kind]["top1_standard_error"] for row in shown]
            if shown:
                y = [row[kind]["top1"] for row in shown]
                axes.errorbar(x, y, errors, fmt=marker, capsize=3, label=f"{told} (± 2 standard errors)")
        for row in rows:
            top = max(row[kind]["top1"] + 2 * row[kind]["top1_standard_error"] for kind, _, _ in kinds if kind in row)
            axes.annotate(row["name"], (row[value] / unit, top), (0, 4), textcoords="offset points", ha="center")
        axes.set_xlabel(label)
        axes.set_xlim(0, 1.15 * max(row[value] / unit for row in rows))
        axes.margins(y=0.1)
        axes.grid(alpha=0.3)
    left.set_ylabel("top-1, %")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"trained on {data_told}", fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def processor() -> str:
    """What the machine computes with, as far as it says so."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {cores()} cores"
