"""Measure how fast the pipeline is on this machine: drawing, preparing, a training step by its stages, recognising.

    python scripts/benchmark.py --data-dir dataset --etl9g-dir ETL9G
    python scripts/benchmark.py --heads

Stages of a training step are timed in turn within one interleaved run, so that a noisy machine disturbs all alike.
Figures are medians. --json writes them to a file. --heads measures instead how many bytes the CNN's and HierCode's
heads take as the classes grow, with made-up characters: two halves of known ones in an arrangement.
"""

import argparse
import json
import os
from pathlib import Path

import torch

from evaluation.speed import drawing, heads, preparing, recognising, training_step
from files.atomic import write_text
from files.command_line import run
from records.etl9g import find_raw


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="the raw files (default ETL9G)")
    parser.add_argument("--model", type=Path, help="an exported model to time as well")
    parser.add_argument("--batch-size", type=int, default=128, help="of the training step (default 128)")
    parser.add_argument("--rounds", type=int, default=20, help="default 20")
    parser.add_argument("--heads", action="store_true", help="only the bytes of the heads, by the number of classes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.batch_size < 2:
        parser.error("--rounds must be at least 1, --batch-size at least 2")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.heads:
        figures = heads()
        if arguments.json:
            write_text(arguments.json, json.dumps(figures, indent=1) + "\n")
        return
    raw = find_raw(arguments.etl9g_dir)[0]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}; torch {torch.__version__}; {os.cpu_count()} cores")
    figures: dict = {
        "drawn a second, one process": drawing(),
        "prepared a second, one process": preparing(raw),
    }
    for name, value in figures.items():
        print(f"{name:<34} {value:10,.0f}")
    stages = training_step(arguments.data_dir, arguments.batch_size, arguments.rounds)
    total = sum(stages.values())
    print(f"{'CNN training, images a second':<34} {arguments.batch_size / total:10,.0f}")
    for name, seconds in stages.items():
        print(f"  {name:<32} {1000 * seconds:10.2f} ms {100 * seconds / total:5.1f} %")
    figures |= {f"step: {name}, ms": 1000 * seconds for name, seconds in stages.items()}
    figures["CNN training, images a second"] = arguments.batch_size / total
    if arguments.model:
        for name, milliseconds in recognising(arguments.model, arguments.rounds).items():
            figures[f"recognise: {name}, ms"] = milliseconds
            print(f"recognise, one thread: {name:<11} {milliseconds:10.2f} ms")
    if arguments.json:
        write_text(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
