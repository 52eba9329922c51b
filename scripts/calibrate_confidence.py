"""Fit a model's confidence, and write it into the model's file. Exports keep it.

    python scripts/calibrate_confidence.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth

MODEL is a best model, a SafeTensors file or an ONNX file, float or INT8. The script fits two numbers on validation
samples: a temperature (Guo et al. 2017, arXiv:1706.04599), so that probabilities mean something, and a threshold. A
picture whose largest logit is not that far above the mean is "not one of these characters". The script then counts
how many drawings of other things pass: katakana, Latin letters, kanji of JIS level 2, scribbles and blank paper.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from evaluation.calibration import calibrate, store
from evaluation.model import load_model
from files.command_line import at_least, parser, run


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="the model file, which is changed")
    options.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--kept", type=float, default=0.97, help="share of samples above the threshold (default 0.97)")
    options.add_argument("--limit", type=at_least(1), default=10_000, help="validation samples to use (default 10000)")
    options.add_argument("--out-of-set", type=at_least(1), default=1000, help="drawings of each kind (default 1000)")
    options.add_argument("--dry-run", action="store_true", help="print the report; change no file")
    given = options.parse_args()
    if not 0 < given.kept < 1:
        options.error("--kept must lie between 0 and 1")
    model = load_model(given.model)
    content, report = calibrate(model, given.data_dir, given.kept, given.limit, given.out_of_set)
    print(report)
    if not given.dry_run:
        store(given.model, content)
        print(f"\nwritten into {given.model}")


if __name__ == "__main__":
    run(main)
