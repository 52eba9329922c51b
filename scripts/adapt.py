"""Make a trained model read one kind of picture better, in minutes: one person's handwriting, or one scanner's pages.

    python scripts/adapt.py --images my_pictures --output models/mine.pth
    python scripts/adapt.py --labels my_handwriting --output models/mine.pth

Nobody has to say what --images show: the model learns from those that it is sure of. --labels are pictures in one
folder for each character, as prepare_dataset.py --images takes them: five each of fifty kanji are enough. One in five
of a character is held out, to measure the gain. The model also learns from samples by made-up writers, so that it does
not forget other handwriting. Further samples measure what it lost, and a model that lost more than --accept-loss points
is not written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from engine import checkpoints
from evaluation.adapted import adapt
from files.command_line import InputError, at_least, parser, run
from files.folders import RELEASED, check_not


def main() -> None:
    options, model = parser(__doc__), RELEASED / "hiercode_model_best.safetensors"
    options.add_argument("--model", type=Path, default=model, help="a float model (default: the released HierCode)")
    options.add_argument("--images", type=Path, metavar="DIR", help="unlabelled pictures, in nested folders too")
    options.add_argument("--labels", type=Path, metavar="DIR", help="labelled pictures")
    options.add_argument("--output", type=Path, required=True, help="the new file, .pth")
    options.add_argument("--accept-loss", type=at_least(0, float), default=0.3, metavar="X", help="in points (0.3)")
    options.add_argument("--seed", type=at_least(0), default=0, help="of the samples and the training (default 0)")
    given = options.parse_args()
    if not (given.images or given.labels):
        options.error("give pictures, with --images, with --labels or with both")
    if given.output.suffix != ".pth":
        options.error("--output must end in .pth: scripts/convert_to_safetensors.py makes other files of it")
    if given.model.suffix.lower() == ".onnx":
        options.error(f"{given.model} is an export: give the .pth or .safetensors file that it was made from")
    if given.images and not given.images.is_dir():
        raise InputError(f"{given.images} is missing, or is no folder: give a folder of pictures")
    check_not(given.output, given.model)
    if given.output.exists() and "adapted" not in str(checkpoints.load(given.output).get("source")):
        raise InputError(f"{given.output} was not made by this script and stays as it is: give another --output")
    if sys.stderr.isatty():
        print("reading pictures, drawing samples by made-up writers, training: some minutes", file=sys.stderr)
    sys.stdout.reconfigure(line_buffering=True)
    content, lost = adapt(given.model, given.images, given.labels, given.seed, print)
    if lost > given.accept_loss:
        raise OSError(f"not written: made-up writers lost {lost:.2f} points, more than --accept-loss allows")
    checkpoints.save(given.output, content)
    print(given.output)
    if not content["confidence"]:
        print("its confidence could not be fitted: run scripts/calibrate_confidence.py on it")


if __name__ == "__main__":
    run(main)
