"""Add characters to a trained HierCode by their decomposition alone, without a picture of them.

    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters "塡剝" --output models/more.pth
    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters jis --output models/more.pth

Characters with a part that the model never learned are named and left out. The new file is one that every other script
takes; the old classes keep their places and their logits, the new ones come after them. How well the new ones are read
is measured on drawings by made-up writers. Accuracy and confidence were measured without the new ones, so the new file
does not carry them on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from characters.class_lists import LISTS, class_list
from engine import checkpoints
from evaluation.zero_shot import measure_added
from files.command_line import InputError, at_least, parser, run
from files.folders import check_not
from quantization.files import load_float


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a trained HierCode, .pth or .safetensors")
    characters = f"the characters, spaces count nothing; or a class list: {', '.join(LISTS)}, or a text file"
    options.add_argument("--characters", required=True, metavar="TEXT", help=characters)
    options.add_argument("--output", type=Path, required=True, help="the new file, .pth")
    options.add_argument("--writers", type=at_least(0), default=4, help="who write each new character (default 4)")
    given = options.parse_args()
    check_not(given.output, given.model)
    if given.output.suffix != ".pth":
        options.error("--output must end in .pth: scripts/convert_to_safetensors.py makes other files of it")
    model, facts = load_float(given.model)
    if facts["script"] != "train_hiercode" or facts["config"].get("codes") == "own":
        raise InputError(f"{given.model} does not read characters by their decomposition: give a HierCode")
    is_list = given.characters in LISTS or given.characters.endswith(".txt")
    wanted = class_list(given.characters) if is_list else "".join(given.characters.split())
    if not (wanted := "".join(char for char in dict.fromkeys(wanted) if char not in facts["classes"])):
        raise InputError("every one of these characters is among the model's classes already")
    added = model.addable(wanted)
    classes = model.add_classes(added or wanted)  # which says why there is none
    kept = {name: facts[name] for name in ("script", "config", "source", "generator", "versions") if name in facts}
    checkpoints.save(given.output, kept | {"classes": classes, "metrics": {}, "model": model.state_dict()})
    print(f"{len(added):,} characters added, {len(classes):,} in all: {given.output}")
    if left_out := [char for char in wanted if char not in added]:
        shown = "".join(left_out[:20]) + "…" * (len(left_out) > 20)
        print(f"{len(left_out):,} left out, with parts that the model never learned: {shown}")
    if given.writers:
        top1 = measure_added(model, classes, added, given.writers)
        print(f"read right, of drawings by {given.writers} made-up writers each:")
        print(f"{top1['among_added']:6.2f} % among the added characters, {top1['among_all']:.2f} % among all")


if __name__ == "__main__":
    run(main)
