"""Measure models of this toolkit beside other programs that read Japanese characters: same pictures, one run.

    pip install -r requirements-alternatives.txt && apt-get install tesseract-ocr tesseract-ocr-jpn
    python scripts/compare_alternatives.py --model models/kanji_model.onnx --images my_handwriting
    python scripts/compare_alternatives.py --model models/kanji_model.onnx --data-dir dataset --against tesseract

A folder of images holds one folder for each character, as for evaluate.py; of a dataset the test split is taken. The
models get the pictures as they are. The others get them also cropped, thickened and reduced, in every way listed in the
table, and redrawing them takes no time in it: each is judged by what suits it best. All take turns on the same chunks
of pictures, on one thread; ms are milliseconds of processor time, which other programs hardly disturb. The table goes
to OUTPUT.md and OUTPUT.json. RapidOCR knows six times as many symbols as the models: what it reads when it must choose
among the first model's classes is given too.
"""

import argparse
import json
from pathlib import Path

import cv2

from evaluation.alternatives import compare, dataset_pictures, image_pictures, subjects_of, table
from files.atomic import write_text
from files.command_line import InputError, at_least, parser, run
from files.machine import processor

OTHERS = ("rapidocr", "tesseract")


def parse_arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, nargs="+", required=True, help="ONNX files of this toolkit")
    data = options.add_mutually_exclusive_group()
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder of images for each character")
    data.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    options.add_argument("--against", nargs="+", choices=OTHERS, default=OTHERS, help="default: all")
    options.add_argument("--limit", type=at_least(1), default=2000, metavar="N", help="pictures at most (default 2000)")
    options.add_argument("--output", type=Path, default=Path("alternatives"), help="default alternatives")
    arguments = options.parse_args()
    if not arguments.output.name:
        options.error("--output needs a name: .md and .json are appended to it")
    return arguments


def main() -> None:
    given = parse_arguments()
    cv2.setNumThreads(1)
    if wrong := next((path for path in given.model if path.suffix.lower() != ".onnx"), None):
        raise InputError(f"{wrong} is no ONNX file: export it with scripts/convert_to_onnx.py")
    subjects = subjects_of(given.model, given.against)
    if given.images:
        pictures, characters, description = image_pictures(given.images, subjects[0].classes, given.limit)
    else:
        pictures, characters, description = dataset_pictures(given.data_dir, given.model[0], given.limit)
    rows = compare(subjects, pictures, characters)
    description += f", {len(set(characters)):,} classes; one thread of {processor()}"
    text = f"{description}\n\n{table(rows)}\n"
    print(text)
    content = json.dumps({"description": description, "rows": rows}, indent=1)
    write_text(given.output.with_name(given.output.name + ".md"), text)
    write_text(given.output.with_name(given.output.name + ".json"), content + "\n")


if __name__ == "__main__":
    run(main)
