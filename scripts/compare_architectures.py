"""Train several architectures on the same data, equally long, and compare them in a table.

    python scripts/compare_architectures.py --data-dir dataset --images my_handwriting
    python scripts/compare_architectures.py radical_rnn "radical_rnn --radical-weight 0"

Settings after an architecture's name are its own: this measures what an idea buys. Each architecture is trained by its
own script, exported, and measured by evaluate.py; the models take turns when they are timed. The table goes to
--output-dir, as text and as JSON. Run again, the script keeps the trainings that are finished.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import json

from data.prepared import PreparedDataset
from evaluation.comparison import DEFAULT, make, measure, read_entries, table
from files.atomic import write_text
from files.command_line import at_least, parser, run
from files.machine import cores, processor


def main() -> None:
    options = parser(__doc__)
    options.add_argument("entries", nargs="*", default=DEFAULT, metavar="NAME", help=f"default: {', '.join(DEFAULT)}")
    options.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--images", type=Path, metavar="DIR", help="also measure on a folder of images")
    options.add_argument("--epochs", type=at_least(1), default=1, help="passes over the training split (default 1)")
    options.add_argument("--seed", type=at_least(0), default=0, help="the seed of every training (default 0)")
    options.add_argument("--limit", type=at_least(1), metavar="N", help="measure on at most N samples")
    options.add_argument("--output-dir", type=Path, default=Path("models/comparison"), help="default models/comparison")
    given = options.parse_args()
    if given.images and not given.images.is_dir():
        raise FileNotFoundError(f"{given.images} is missing: --images takes a folder of images")
    budget = ["--epochs", str(given.epochs), "--seed", str(given.seed)]
    entries = read_entries(given.entries, budget, given.output_dir)
    dataset = PreparedDataset(given.data_dir)
    for entry in entries:
        make(entry, given.data_dir)
    rows = measure(entries, given.data_dir, given.images, given.limit)
    facts = {"source": dataset.source, "training_samples": len(dataset.splits["train"]), "epochs": given.epochs}
    facts |= {"seed": given.seed, "processor": f"{processor()}, {cores()} cores", "rows": rows}
    files = [given.output_dir / f"comparison.{kind}" for kind in ("json", "md")]
    write_text(files[0], json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    write_text(files[1], table(rows) + "\n")
    print(f"\n{table(rows)}\n", *files, sep="\n")


if __name__ == "__main__":
    run(main)
