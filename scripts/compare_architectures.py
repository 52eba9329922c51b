"""Train architectures with one budget on the same data and put them into one table.

    python scripts/compare_architectures.py --data-dir dataset --epochs 1 --images my_handwriting
    python scripts/compare_architectures.py radical_rnn "radical_rnn --radical-weight 0" --epochs 1

An architecture may be followed by settings of its own, which makes an ablation. Each is trained by its own script,
exported and measured by evaluate.py; speeds are taken in turn within one interleaved run. The table, as text and as
JSON, and a picture of accuracy against bytes and against latency go to --output-dir. Run again, what is there is kept.
"""

import argparse
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
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from any_image_model import single_thread
from atomic_file import atomic_write, write_text
from benchmark import interleaved
from checkpoints import load_trained
from command_line import InputError, cores, run
from convert_to_onnx import default_output, metadata
from etl9g_dataset import PreparedDataset
from evaluate import evaluate_file
from normalization import CANVAS
from optimization_config import parse_config
from plain_json import read_json
from training import Architecture, Run

SCRIPTS = Path(__file__).resolve().parent
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "entries", nargs="*", default=DEFAULT, metavar="ARCHITECTURE", help=f"default: {' '.join(DEFAULT)}"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="also measure on this folder of images")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training split for each (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of every training (default 0)")
    parser.add_argument("--rounds", type=int, default=15, help="of timing (default 15)")
    parser.add_argument("--limit", type=int, help="measure on so many samples at most")
    parser.add_argument("--output-dir", type=Path, default=Path("models/comparison"), help="default models/comparison")
    arguments = parser.parse_args()
    if arguments.epochs < 1 or not 0 <= arguments.seed < 2**32:
        parser.error("--epochs must be at least 1, --seed lie between 0 and 2³²")
    if arguments.rounds < 1 or (arguments.limit is not None and arguments.limit < 1):
        parser.error("--rounds and --limit must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.images and not arguments.images.is_dir():
        raise FileNotFoundError(f"{arguments.images} is missing: --images takes a folder of images")
    if not importlib.util.find_spec("matplotlib"):
        raise InputError("the picture needs the package matplotlib: pip install matplotlib")
    entries = read_entries(list(arguments.entries), arguments.output_dir)
    dataset = PreparedDataset(arguments.data_dir)
    budget = ["--epochs", str(arguments.epochs), "--seed", str(arguments.seed)]
    for entry in entries:
        make(entry, arguments.data_dir, budget)
    latency, batches = (inference_seconds(entries, n, arguments.rounds) for n in (1, THROUGHPUT_BATCH))
    training = training_seconds(entries, dataset, arguments.rounds)
    rows = []
    for entry in entries:
        row = {"name": entry.told, **size(entry)}
        row |= {
            "training_images_per_second": 1 / training[entry.told],
            "latency_ms": 1000 * latency[entry.told],
            "images_per_second": THROUGHPUT_BATCH / batches[entry.told],
            "unseen_writers": evaluation(entry, arguments.data_dir, None, arguments.limit),
        }
        if arguments.images:
            row["images"] = evaluation(entry, None, arguments.images, arguments.limit)
        rows.append(row)
    facts = {
        "source": dataset.source,
        "training_samples": len(dataset.splits["train"]),
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
    }
    folder = arguments.output_dir
    write_text(folder / "comparison.json", json.dumps(facts | {"rows": rows}, ensure_ascii=False, indent=1) + "\n")
    write_text(folder / "comparison.md", table(rows) + "\n")
    pareto(
        rows,
        folder / "comparison.png",
        f"{facts['training_samples']:,} samples ({dataset.source}) × {arguments.epochs}",
    )
    print(f"\n{table(rows)}\n\n{folder / 'comparison.json'}\n{folder / 'comparison.md'}\n{folder / 'comparison.png'}")


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


if __name__ == "__main__":
    run(main)
