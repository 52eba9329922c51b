"""Measure how well HierCode reads characters of which it saw no image in training.

    python scripts/zero_shot.py --model models/hiercode_model_best.pth --data-dir dataset

Train the model with --hold-out-classes first. The script prints the accuracy on the held-out characters, choosing among
them alone and among all; the same with their codes shuffled, which shows that the codes do the work; and the accuracy
on the characters that were trained on. All test images are by writers that the training did not use.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import json

from evaluation.zero_shot import measure
from files.atomic import write_text
from files.command_line import at_least, parser, run


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, default=Path("models/hiercode_model_best.pth"), help="a HierCode")
    options.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--limit", type=at_least(1), metavar="N", help="measure on N images of each kind")
    options.add_argument("--json", type=Path, help="also write the figures to this file")
    given = options.parse_args()
    figures = measure(given.model, given.data_dir, given.limit)
    for name, value in figures.items():
        shown = f"{value:8.2f} %" if isinstance(value, float) else f"{value:8,}"
        print(f"{name.replace('_', ' '):<42}{shown}")
    if given.json:
        write_text(given.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
