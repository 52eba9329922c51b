"""Measure HierCode on the classes it was trained without, on unseen writers: are codes enough to recognise them?

    python scripts/zero_shot.py --model models/hiercode_model_best.pth --data-dir dataset

The model must have been trained with --hold-out-classes. Printed is the top-1 of the held-out classes' test images,
among the held-out classes alone and among all; the same with the held-out classes' codes shuffled, which shows that the
codes do the work; and the top-1 of the classes that were shown.
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
    options.add_argument("--limit", type=at_least(1), metavar="N", help="N images of either kind, picked at random")
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
