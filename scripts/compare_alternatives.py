"""Measure models of this toolkit beside other programs that read Japanese characters: same pictures, one run.

    pip install -r requirements-alternatives.txt && apt-get install tesseract-ocr tesseract-ocr-jpn
    python scripts/compare_alternatives.py --model models/kanji_model.onnx --images my_handwriting
    python scripts/compare_alternatives.py --model models/kanji_model.onnx --data-dir dataset --against tesseract

A folder of images holds one folder for each character, as for evaluate.py; of a dataset the test split is taken. The
models get the pictures as they are. The others get them also cropped, thickened and reduced, in every way listed below,
and redrawing them takes no time in the table: each is judged by what suits it best. All take turns on the same
chunks of pictures, on one thread; ms are milliseconds of processor time, which other programs hardly disturb. The table
goes to OUTPUT.md and OUTPUT.json. RapidOCR knows six times as many symbols as the models: what it reads when told to
choose among the first model's classes is given too.
"""

import argparse
import json
from pathlib import Path

from evaluation.alternatives import compare, one_thread, pictures_of, processor, subjects_of, table
from files.atomic import write_text
from files.command_line import InputError, run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="ONNX files of this toolkit")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--images", type=Path, metavar="DIR", help="a folder with a folder of images for each character")
    data.add_argument("--data-dir", type=Path, default=Path("dataset"), help="a prepared dataset (default dataset)")
    parser.add_argument("--against", nargs="+", choices=("rapidocr", "tesseract"), default=["rapidocr", "tesseract"])
    parser.add_argument("--limit", type=int, default=2000, metavar="N", help="at most N pictures (default 2000)")
    parser.add_argument("--output", type=Path, default=Path("alternatives"), help="default alternatives")
    arguments = parser.parse_args()
    if arguments.limit < 1:
        parser.error("--limit must be at least 1")
    if not arguments.output.name:
        parser.error("--output needs a name: .md and .json are appended to it")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    one_thread()
    if wrong := next((path for path in arguments.model if path.suffix.lower() != ".onnx"), None):
        raise InputError(f"{wrong} is no ONNX file: export it with scripts/convert_to_onnx.py")
    subjects = subjects_of(arguments.model, arguments.against)
    pictures, characters, told = pictures_of(arguments, subjects[0].classes)
    rows = compare(subjects, pictures, characters)
    told = f"{told}, {len(set(characters)):,} classes; one thread of {processor()}"
    text = f"{told}\n\n{table(rows)}\n"
    print(text)
    write_text(arguments.output.with_name(arguments.output.name + ".md"), text)
    write_text(
        arguments.output.with_name(arguments.output.name + ".json"),
        json.dumps({"told": told, "rows": rows}, indent=1) + "\n",
    )


if __name__ == "__main__":
    run(main)
