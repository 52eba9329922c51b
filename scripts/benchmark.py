"""Measure how fast this machine draws, prepares, trains and recognises.

    python scripts/benchmark.py --model models/kanji_model.onnx
    python scripts/benchmark.py --model INT8.onnx --reference FLOAT.onnx --times-faster 2

Each figure is a median. The stages take turns, so that other programs disturb all of them alike. With --reference only
the two models are timed, one image at a time on one thread; the exit code is 1 if MODEL is not --times-faster.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse

import torch

from evaluation.speed import drawing, inference_seconds, preparing, recognising, training
from files.command_line import at_least, parser, run
from files.machine import cores, processor
from records.etl9g import find_raw

RATIO = "times as fast as the reference"


def measure(given: argparse.Namespace) -> dict[str, float]:
    if given.reference:
        seconds = inference_seconds({"model": given.model, "reference": given.reference}, 10 * given.rounds)
        figures = {f"{name}, ms an image": 1000 * value for name, value in seconds.items()}
        return figures | {RATIO: seconds["reference"] / seconds["model"]}
    raw = find_raw(given.etl9g_dir)[0]
    figures = {"drawn a second, one process": drawing(), "prepared a second, one process": preparing(raw)}
    figures["CNN training, images a second"] = training(given.data_dir, given.rounds)
    parts = recognising(given.model, given.rounds) if given.model else {}
    return figures | {f"recognise on one thread: {name}, ms": 1000 * seconds for name, seconds in parts.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="the raw files (default ETL9G)")
    options.add_argument("--model", type=Path, help="also time this exported model")
    options.add_argument("--rounds", type=at_least(1), default=20, help="how often each stage is timed (default 20)")
    options.add_argument("--reference", type=Path, metavar="FILE", help="time --model against this exported model")
    options.add_argument("--times-faster", type=at_least(0, float), default=0, metavar="X", help="fail below this")
    given = options.parse_args()
    if given.reference and not given.model:
        options.error("--reference needs --model")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    print(f"{processor()}, {cores()} cores; {device}; torch {torch.__version__}")
    figures = measure(given)
    for name, value in figures.items():
        print(f"{name:<40}{value:12,.2f}")
    if figures.get(RATIO, given.times_faster) < given.times_faster:
        raise OSError(f"{given.model} is not {given.times_faster:g} times as fast as {given.reference}")


if __name__ == "__main__":
    run(main)
