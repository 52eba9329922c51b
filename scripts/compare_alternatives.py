"""Compare models with other programs that read Japanese characters, on the same pictures.

    pip install -r requirements-alternatives.txt
    apt-get install tesseract-ocr tesseract-ocr-jpn
    python scripts/compare_alternatives.py --model models/kanji_model.onnx --images my_handwriting

The folder of images holds one folder for each character, as for evaluate.py. The models get the pictures as they are.
The other programs also get them cropped, thickened and reduced in many ways, and are judged by what suits them best;
the time for redrawing is not counted. All take turns on one thread. Times are milliseconds of processor time. RapidOCR
knows six times as many symbols as the models, so it is also measured choosing among the first model's characters only.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import cv2

from evaluation.alternatives import OTHERS, compare, image_pictures, own_reader
from files.atomic import write_text
from files.command_line import InputError, at_least, parser, run
from files.machine import processor
from inference.recognizer import Recognizer, model_path


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=model_path, nargs="+", required=True, help="ONNX files, or short names")
    options.add_argument("--images", type=Path, required=True, help="a folder with a folder for each character")
    which = f"{', '.join(OTHERS)} (default: all)"
    options.add_argument("--against", nargs="+", choices=OTHERS, default=list(OTHERS), metavar="NAME", help=which)
    options.add_argument("--limit", type=at_least(1), default=2000, metavar="N", help="N pictures (default 2000)")
    options.add_argument("--output", type=Path, default=Path("alternatives.md"), help="(default alternatives.md)")
    given = options.parse_args()
    cv2.setNumThreads(1)
    readers, classes = [own_reader(path) for path in given.model], Recognizer(given.model[0]).classes
    try:
        readers += [OTHERS[name]() for name in given.against]
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install -r requirements-alternatives.txt") from None
    pictures = image_pictures(given.images, classes, given.limit)
    table, shown = compare(readers, classes, pictures), {char for _, char in pictures}
    description = f"{len(pictures):,} images of {given.images}, {len(shown):,} classes; one thread of {processor()}"
    print(text := f"{description}\n\n{table}\n")
    write_text(given.output, text)


if __name__ == "__main__":
    run(main)
