"""Add characters to a trained HierCode by their decomposition alone, without a picture of them, or leave some out.

    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters "塡剝" --output models/more.pth
    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters jis --output models/more.pth
    python scripts/add_classes.py --model models/hiercode_model_best.pth --keep kana --output models/fewer.pth

Characters with a part that the model never learned are named and left out. The new file is one that every other script
takes; the old classes keep their places and their logits, the new ones come after them. How well the new ones are read
is measured on drawings by made-up writers; the same with their codes exchanged shows what the codes contribute.
Accuracy and confidence were measured without the new characters, so the new file does not carry them on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import torch

from characters.class_lists import LISTS, class_list
from engine import checkpoints
from evaluation.zero_shot import measure_added
from files.command_line import InputError, at_least, parser, run
from files.folders import check_not
from quantization.files import load_float


def wanted_of(text: str) -> str:
    """The characters that an option names: a class list, or these characters themselves."""
    is_list = text in LISTS or text.endswith(".txt")
    return class_list(text) if is_list else "".join(dict.fromkeys("".join(text.split())))


def add(model: torch.nn.Module, wanted: str, writers: int) -> list[str]:
    """Adds the characters that the model lacks and can read; returns lines on what was added, left out and measured.
    Raises InputError where nothing is added."""
    if not (wanted := "".join(char for char in wanted if char not in model.prototypes.classes)):
        raise InputError("every one of these characters is among the model's classes already")
    added = model.addable(wanted)
    classes = model.add_classes(added or wanted)  # which says why there is none
    lines = [f"{len(added):,} characters added, {len(classes):,} in all"]
    if left_out := [char for char in wanted if char not in added]:
        shown = "".join(left_out[:20]) + "…" * (len(left_out) > 20)
        lines.append(f"{len(left_out):,} left out, with parts that the model never learned: {shown}")
    if writers:
        top1 = measure_added(model, classes, added, writers)
        lines.append(f"read right, of drawings by {writers} made-up writers each:")
        lines.append(f"{top1['among_added']:6.2f} % among the added characters, {top1['among_all']:.2f} % among all")
    return lines


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a trained HierCode, .pth or .safetensors")
    which = options.add_mutually_exclusive_group(required=True)
    lists = f"spaces count nothing; or a class list: {', '.join(LISTS)}, or a text file"
    which.add_argument("--characters", metavar="TEXT", help=f"to add, {lists}")
    which.add_argument("--keep", metavar="TEXT", help="the classes that stay, given in the same way")
    options.add_argument("--output", type=Path, required=True, help="the new file, .pth")
    options.add_argument("--writers", type=at_least(0), default=4, help="who write each new character (default 4)")
    given = options.parse_args()
    check_not(given.output, given.model)
    if given.output.suffix != ".pth":
        options.error("--output must end in .pth: scripts/convert_to_safetensors.py makes other files of it")
    model, facts = load_float(given.model)
    if facts["script"] != "train_hiercode":
        raise InputError(f"{given.model} does not read characters by their decomposition: give a HierCode")
    kept = {name: facts[name] for name in ("script", "config", "source", "generator", "versions") if name in facts}
    if given.keep:
        model = model.restricted(wanted_of(given.keep))
        lines = [f"{len(model.prototypes.classes):,} of {len(facts['classes']):,} classes kept"]
    else:
        lines = add(model, wanted_of(given.characters), given.writers)
    classes = model.prototypes.classes
    checkpoints.save(given.output, kept | {"classes": classes, "metrics": {}, "model": model.state_dict()})
    print("\n".join([f"{lines[0]}: {given.output}", *lines[1:]]))


if __name__ == "__main__":
    run(main)
