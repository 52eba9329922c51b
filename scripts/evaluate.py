"""Measure a trained model: how often it is right, and what it confuses.

    python scripts/evaluate.py --model models/best_kanji_model.pth --data-dir dataset
    python scripts/evaluate.py --model models/kanji_model.onnx --images my_handwriting
    python scripts/evaluate.py --model hiercode --font fonts/held_out/yusei-magic.ttf

MODEL is a checkpoint, a best model, a SafeTensors or an ONNX file, or the short name of a released model: hiercode,
cnn, rnn or vit. A folder of images holds one folder for each character, named by the character or by its code point
(U+6F22). The script also measures distorted images: turned, blurred, noisy. The figures go to evaluation.json, pictures
of misread characters to evaluation.png.
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
from inference.recognizer import model_path


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=model_path, required=True, help="a model file, or a short name")
    data = options.add_mutually_exclusive_group()
    data.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder for each character")
    data.add_argument("--font", type=Path, metavar="FILE", help="a handwriting font that was not trained on")
    options.add_argument("--split", choices=SPLITS, default="test", help="the part of the dataset (default test)")
    options.add_argument("--output-dir", type=Path, help="where the results go (default: beside MODEL)")
    options.add_argument("--confusable", type=Path, metavar="FILE", help="write what the model confuses to FILE")
    options.add_argument("--limit", type=at_least(1), metavar="N", help="use only N samples (the same ones each time)")
    options.add_argument("--surroundings", action="store_true", help="also in frames, on ruled paper … (slow)")
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
