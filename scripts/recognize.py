"""Recognise handwritten characters in pictures, one character in each.

    python scripts/recognize.py photo.png drawings/
    python scripts/recognize.py photo.png --model models/kanji_model.onnx --top 5

Pictures may have any size and colours, dark on light or light on dark. Needs onnxruntime, numpy and Pillow only. With
--json the script prints one line for each picture:

    {"image": "photo.png", "known": true, "looks_like": [],
     "top": [{"character": "漢", "probability": 0.98}, …]}

`known` is false where the model takes a picture for none of its characters. `looks_like` names characters that are
often confused with the first one; they come from confusable.json beside the model (evaluate.py --confusable).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from collections import Counter

from characters.confusable import load as load_confusable
from characters.kinds import SCRIPTS, of_script
from characters.names import true_character
from files.command_line import InputError, at_least, parser, run
from images.finding import find_images
from images.reading import FORMATS, MOST_PIXELS, PHONE_FORMATS, DecoderMissing, read_grey
from inference.readings import read
from inference.recognizer import OWN, SHORT_NAMES, Recognizer, confusable_path, default_model, model_path


def report(error: Exception, unread: Counter[str]) -> None:
    """Says why an image was not read, and counts it; of a kind without a decoder only the first is named."""
    kind = error.kind if isinstance(error, DecoderMissing) else ""
    unread[kind] += 1
    if not kind or unread[kind] == 1:
        print(f"error: {error}", file=sys.stderr)


def end(unread: Counter[str]) -> None:
    """Ends with exit code 2 if an image was not read."""
    for kind, count in unread.items():
        if kind and count > 1:
            print(f"error: pictures of the kind {kind} that were not read: {count:,}", file=sys.stderr)
    if unread:
        sys.exit(2)


def main() -> None:
    flags, most = parser(__doc__), f"at most {MOST_PIXELS // 10**6} million pixels"
    kinds = f"pictures or folders of them: {', '.join((*FORMATS, *PHONE_FORMATS))}; {most}"
    kinds += "; of a file with several pages the first is read; HEIC needs the package pillow-heif"
    flags.add_argument("images", nargs="+", metavar="IMAGE", help=kinds)
    which = f"an exported model, or a released one: {', '.join(SHORT_NAMES)} (default: {OWN} if there, or hiercode)"
    flags.add_argument("--model", type=model_path, help=which)
    flags.add_argument("--top", type=at_least(1), default=5, help="how many characters to list (default 5)")
    script = f"what is written, if you know: {', '.join(SCRIPTS)}, or a text of the characters that it may be"
    flags.add_argument("--script", metavar="SCRIPT", help=script)
    flags.add_argument("--json", action="store_true", help="print one line of JSON for each picture")
    flags.add_argument("--picture", type=Path, metavar="PNG", help="draw the first 100 pictures with what was read")
    arguments = flags.parse_args()
    if "" in arguments.images:
        flags.error("an IMAGE has no name")
    if arguments.picture and (arguments.picture.suffix.lower() != ".png" or arguments.picture.is_dir()):
        flags.error("--picture names a PNG file to write")

    model, picture = arguments.model or default_model(), None
    if arguments.picture:
        from evaluation.recognition_picture import RecognitionPicture  # needs more packages than reading does

        picture = RecognitionPicture()
    recognizer, confusable = Recognizer(model), load_confusable(confusable_path(model))
    among = of_script(arguments.script, recognizer.classes) if arguments.script else ""
    if arguments.script and not among:
        remedy = ": try --model all" * (model != model_path("all"))
        raise InputError(f"{model} reads none of the characters of --script {arguments.script}{remedy}")
    if not arguments.model:
        print(f"reading with {recognizer}", file=sys.stderr)
    if reads := recognizer.hardly_trained():
        print(
            f"warning: {model} has hardly been trained, it reads {reads}: choose another with --model", file=sys.stderr
        )
    unread: Counter[str] = Counter()
    for path in find_images(list(map(Path, arguments.images)), lambda line: print(f"note: {line}", file=sys.stderr)):
        try:
            grey = read_grey(path)
            reading = read(recognizer, [grey], arguments.top, confusable, among)[0]
        except (InputError, FileNotFoundError) as error:  # the other images are recognised all the same
            report(error, unread)
            continue
        print(reading.as_json(path, sys.stdout.encoding) if arguments.json else f"{path}: {reading}")
        if picture:
            picture.add(true_character(path), grey, reading.top)
    if picture:
        picture.write(arguments.picture)
    end(unread)


if __name__ == "__main__":
    run(main)
