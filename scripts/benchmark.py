"""Measure how fast the pipeline is on this machine: drawing, preparing, a training step by its stages, recognising.

    python scripts/benchmark.py --data-dir dataset --etl9g-dir ETL9G
    python scripts/benchmark.py --heads
    python scripts/benchmark.py --processes 2 --data-dir dataset
    python scripts/benchmark.py --memory-limit 1.5 --scratch DIR
    python scripts/benchmark.py --soak 60 --data-dir dataset

Stages of a training step are timed in turn within one interleaved run, so that a noisy machine disturbs all alike.
Figures are medians. --json writes them to a file. --heads measures instead how many bytes the CNN's and HierCode's
heads take as the classes grow, with made-up characters: two halves of known ones in an arrangement. The last three
watch whole trainings: shared by several processes of a thread each, on a made-up dataset four times as large as the
memory that a control group leaves it (in GiB; as root), and what a training holds while so many minutes pass.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from watched_training import GIB, larger_than_memory, shared, soak

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
    parser.add_argument("--processes", type=int, metavar="N", help="only the rate of one process and of N")
    parser.add_argument("--memory-limit", type=float, metavar="GIB", help="only the rate with so little memory")
    parser.add_argument("--scratch", type=Path, help="for the made-up dataset (default: the system's temporary folder)")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only what a training holds over so long a time")
    parser.add_argument("--seconds", type=float, default=60, help="for each training that is watched (default 60)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.batch_size < 2:
        parser.error("--rounds must be at least 1, --batch-size at least 2")
    if not all(value > 0 for value in (arguments.seconds, arguments.soak or 1, arguments.memory_limit or 1)):
        parser.error("--seconds, --soak and --memory-limit must be greater than 0")
    if arguments.processes is not None and arguments.processes < 2:
        parser.error("--processes must be at least 2")
    return arguments


def only(arguments: argparse.Namespace) -> dict | list | None:
    """The figures of the one thing that is asked for, if one is."""
    if arguments.heads:
        return heads()
    if arguments.processes:
        return shared(arguments.data_dir, arguments.processes, arguments.seconds, arguments.rounds)
    if arguments.memory_limit:
        return larger_than_memory(arguments.scratch, GIB * arguments.memory_limit, arguments.seconds, arguments.rounds)
    return soak(arguments.data_dir, arguments.soak) if arguments.soak else None


def main() -> None:
    arguments = parse_arguments()
    if figures := only(arguments):
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
