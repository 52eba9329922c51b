"""Measure a trained model: how often it is right, what it confuses, and how much worse it reads spoilt images.

    python scripts/evaluate.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/evaluate.py --model models/kanji_model.onnx --images my_handwriting

MODEL is a checkpoint, a best model, a SafeTensors or an ONNX file. A folder of images holds one folder for each
character, named by the character or by its code point (U+6F22). The figures go to evaluation.json, and with pictures of
the confused characters to evaluation.png.
"""

import argparse
from pathlib import Path

from data.prepared import SPLITS
from evaluation.measurement import default_output, evaluate_file
from evaluation.report import report
from files.command_line import run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint, SafeTensors or ONNX file")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data-dir", type=Path, help="a prepared dataset (default dataset)")
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder of images for each character")
    parser.add_argument("--split", choices=SPLITS, help="of the dataset (default test)")
    parser.add_argument("--output-dir", type=Path, help="where the results go (default: beside MODEL)")
    parser.add_argument(
        "--confusable", type=Path, metavar="FILE", help="write what is mixed up there, to be read as confusable.json"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N samples, picked at random but always the same")
    parser.add_argument(
        "--moves", action="store_true", help="average over the image and it moved each way, 5 x the work"
    )
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    if arguments.images and arguments.split:
        parser.error("--split is of a dataset: it says nothing with --images")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    folder = arguments.output_dir or default_output(arguments.model, arguments.images)
    result = evaluate_file(
        arguments.model,
        arguments.data_dir,
        arguments.images,
        arguments.split or "test",
        folder,
        arguments.limit,
        arguments.confusable,
        arguments.moves,
    )
    print(report(result))
    print(f"\n{folder / 'evaluation.json'}\n{folder / 'evaluation.png'}")


if __name__ == "__main__":
    run(main)
