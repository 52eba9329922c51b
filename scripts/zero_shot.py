"""Measure HierCode on the classes it was trained without, on unseen writers: are codes enough to recognise them?

    python scripts/zero_shot.py --model models/hiercode_model_best.pth --data-dir dataset

The model must have been trained with --hold-out-classes. Printed is the top-1 of the held-out classes' test images,
among the held-out classes alone and among all; the same with the held-out classes' codes shuffled, which shows that the
codes do the work; and the top-1 of the classes that were shown.
"""

import argparse
import json
from pathlib import Path

from data.prepared import PreparedDataset
from evaluation.zero_shot import measure
from files.atomic import write_text
from files.command_line import InputError, run
from quantization.files import load_trained


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hiercode_model_best.pth"), help="a trained HierCode")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--limit", type=int, help="at most so many images of either kind, picked at random")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    model, facts = load_trained(arguments.model)
    if facts["script"] != "train_hiercode":
        raise InputError(
            f"{arguments.model} was made by {facts['script']}.py: only HierCode reads classes by their codes"
        )
    config = facts["config"]
    dataset = PreparedDataset(arguments.data_dir, config.get("split", "writer"), config.get("seed", 0))
    figures = measure(model, facts, dataset, arguments.limit)
    for name, value in figures.items():
        told = f"{value:8.2f} %" if isinstance(value, float) else f"{value:8,}"
        print(f"{name.replace('_', ' '):<42}{told}")
    if arguments.json:
        write_text(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
