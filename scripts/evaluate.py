"""Measure a trained model: how often it is right, what it confuses, and how much worse it reads distorted images.

    python scripts/evaluate.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/evaluate.py --model models/kanji_model.onnx --images my_handwriting
    python scripts/evaluate.py --model models/kanji_model.onnx --font fonts/held_out/yusei-magic.ttf

MODEL is a checkpoint, a best model, a SafeTensors or an ONNX file. A folder of images holds one folder for each
character, named by the character or by its code point (U+6F22). The figures go to evaluation.json, pictures of
misread characters to evaluation.png. --surroundings measures the images in frames, on ruled paper, beside a neighbour,
by thick pens and the like too (minutes).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from data.prepared import SPLITS
from evaluation.accuracy import report
from evaluation.measurement import evaluate_file
from files.command_line import at_least, parser, run
from files.folders import beside


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a checkpoint, SafeTensors or ONNX file")
    data = options.add_mutually_exclusive_group()
    data.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder of images for each character")
    data.add_argument("--font", type=Path, metavar="FILE", help="a font that looks written, which no training copied")
    options.add_argument("--split", choices=SPLITS, default="test", help="of the dataset (default test)")
    options.add_argument("--output-dir", type=Path, help="where the results go (default: beside MODEL)")
    options.add_argument("--confusable", type=Path, metavar="FILE", help="write what is mixed up, as confusable.json")
    options.add_argument("--limit", type=at_least(1), metavar="N", help="only N samples, at random, always the same")
    options.add_argument("--surroundings", action="store_true", help="also in frames, on ruled paper, …")
    given = options.parse_args()
    if given.surroundings and not (given.images or given.font):
        options.error("--surroundings needs --images or --font: a dataset holds normalised images")
    of_what = f"_{given.images.resolve().name}" if given.images else f"_{given.font.stem}" if given.font else ""
    folder = given.output_dir or beside(given.model, f"{given.model.stem}_evaluation{of_what}")
    data = (given.data_dir, given.images, given.split)
    how = (given.limit, given.confusable, given.surroundings, given.font)
    print(report(evaluate_file(given.model, folder, *data, *how)))
    print(f"\n{folder / 'evaluation.json'}\n{folder / 'evaluation.png'}")


if __name__ == "__main__":
    run(main)
