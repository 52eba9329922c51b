"""Add characters to a trained HierCode by their decomposition alone, without a picture of them.

    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters "塡剝" --output models/more.pth
    python scripts/add_classes.py --model models/hiercode_model_best.pth --list joyo.txt --output models/more.pth

The new file is one that every other script takes; the old classes keep their places and their logits, the new ones come
after them. Accuracy and confidence were measured without the new ones, so the new file does not carry them on.
"""

import argparse
from pathlib import Path

from engine import checkpoints
from files.command_line import InputError, parser, run
from files.folders import check_not
from quantization.files import load_float


def parse_arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a trained HierCode, .pth or .safetensors")
    characters = options.add_mutually_exclusive_group(required=True)
    characters.add_argument("--characters", metavar="TEXT", help="the characters; spaces count nothing")
    characters.add_argument("--list", type=Path, metavar="FILE", help="a text file of them, in UTF-8")
    options.add_argument("--output", type=Path, required=True, help="the new file, .pth")
    arguments = options.parse_args()
    if arguments.output.suffix != ".pth":
        options.error("--output must end in .pth: scripts/convert_to_safetensors.py makes other files of it")
    return arguments


def read_list(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text in UTF-8") from None


def main() -> None:
    given = parse_arguments()
    check_not(given.output, given.model)
    characters = "".join((given.characters if given.list is None else read_list(given.list)).split())
    model, facts = load_float(given.model)
    if facts["script"] != "train_hiercode" or facts["config"].get("codes") == "own":
        raise InputError(f"{given.model} does not read characters by their decomposition: give a HierCode")
    classes = model.add_classes(characters)
    added = classes[len(facts["classes"]) :]
    if not added:
        raise InputError("every one of these characters is among the model's classes already")
    kept = {name: facts[name] for name in ("script", "config", "source", "generator", "versions") if name in facts}
    checkpoints.save(given.output, kept | {"classes": classes, "metrics": {}, "model": model.state_dict()})
    print(f"{len(added):,} characters added, {len(classes):,} in all: {given.output}")


if __name__ == "__main__":
    run(main)
