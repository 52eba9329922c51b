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
from pathlib import Path

import onnxruntime
import torch

from data.prepared import PreparedDataset
from evaluation.comparison import (
    DEFAULT,
    THROUGHPUT_BATCH,
    evaluation,
    inference_seconds,
    make,
    pareto,
    processor,
    read_entries,
    size,
    table,
    training_seconds,
)
from files.atomic import write_text
from files.command_line import InputError, run


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


if __name__ == "__main__":
    run(main)
