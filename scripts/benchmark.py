"""Measure how fast the pipeline is on this machine: drawing, preparing, a training step by its stages, recognising.

    python scripts/benchmark.py --data-dir dataset --etl9g-dir ETL9G
    python scripts/benchmark.py --data-dir dataset --etl9g-dir ETL9G --model models/kanji_model.onnx

Stages of a training step are timed in turn within one interleaved run, so that a noisy machine disturbs all alike.
Figures are medians. --json writes them to a file.
"""

import argparse
import json
from pathlib import Path

import torch

from evaluation.speed import drawing, preparing, recognising, training_step
from files.atomic import write_text
from files.command_line import at_least, parser, run
from files.machine import cores, processor
from records.etl9g import find_raw


def parse_arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="the raw files (default ETL9G)")
    options.add_argument("--model", type=Path, help="an exported model to time as well")
    options.add_argument("--batch-size", type=at_least(2), default=128, help="of the training step (default 128)")
    options.add_argument("--rounds", type=at_least(1), default=20, help="default 20")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    return options.parse_args()


def main() -> None:
    given = parse_arguments()
    raw = find_raw(given.etl9g_dir)[0]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"{processor()}, {cores()} cores; {device}; torch {torch.__version__}")
    figures = {"drawn a second, one process": drawing(), "prepared a second, one process": preparing(raw)}
    stages = training_step(given.data_dir, given.batch_size, given.rounds)
    figures["CNN training, images a second"] = given.batch_size / sum(stages.values())
    figures |= {f"step: {name}, ms": 1000 * seconds for name, seconds in stages.items()}
    if given.model:
        seconds = recognising(given.model, given.rounds)
        figures |= {f"recognise on one thread: {name}, ms": 1000 * value for name, value in seconds.items()}
    for name, value in figures.items():
        print(f"{name:<40}{value:12,.2f}")
    if given.json:
        write_text(given.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
