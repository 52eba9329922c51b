"""Fit how sure a trained model may be, and write it into its file; exports carry it on.

    python scripts/calibrate_confidence.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth

MODEL is a best model, a SafeTensors or an ONNX file, float or INT8. On validation samples, which it was not trained on,
one temperature is fitted (Guo et al. 2017, arXiv:1706.04599), and a threshold above which most of them lie; what lies
below is "not one of these characters". How well that tells other things apart is measured on made-up katakana, Latin
letters, kanji of JIS level 2, scribbles and blank paper, for every score that can be chosen.
"""

import argparse
from pathlib import Path

from evaluation.calibration import calibrate, store
from evaluation.model import load_model
from files.command_line import InputError, run
from inference.confidence import SCORES
from inference.recognizer import Recognizer


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the file to measure and to write into")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    parser.add_argument(
        "--kept", type=float, default=0.97, metavar="SHARE", help="of the characters above the threshold (default 0.97)"
    )
    # The largest logit and the energy tell strangers as well, but fall with every pen thinner than those trained on.
    parser.add_argument("--score", choices=SCORES, default="lead", help="what the threshold is on (default lead)")
    parser.add_argument("--limit", type=int, default=10_000, metavar="N", help="validation samples (default 10000)")
    parser.add_argument("--strangers", type=int, default=1000, metavar="N", help="of each kind (default 1000)")
    parser.add_argument("--dry-run", action="store_true", help="only report")
    arguments = parser.parse_args()
    if not 0 < arguments.kept < 1:
        parser.error("--kept must lie between 0 and 1")
    if min(arguments.limit, arguments.strangers) < 1:
        parser.error("--limit and --strangers must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    path = arguments.model
    if path.suffix.lower() == ".onnx" and Recognizer(path).takes_pictures:
        raise InputError(f"{path} takes pictures: calibrate the file it was made from, and make it anew")
    model = load_model(path)
    content, told = calibrate(
        model, arguments.data_dir, arguments.score, arguments.kept, arguments.limit, arguments.strangers
    )
    print(told)
    if not arguments.dry_run:
        store(path, content)
        print(f"\nwritten into {path}")


if __name__ == "__main__":
    run(main)
