"""Add characters to a trained HierCode by their decomposition alone, without a picture of them.

    python scripts/add_classes.py --model models/hiercode_model_best.pth --characters "塡剝" --output models/more.pth

The new file is one that every other script takes; the old classes keep their places and their logits, the new ones come
after them. Accuracy and confidence were measured without the new ones, so the new file does not carry them on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from engine import checkpoints
from files.command_line import InputError, parser, run
from files.folders import check_not
from quantization.files import load_float


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a trained HierCode, .pth or .safetensors")
    options.add_argument("--characters", required=True, metavar="TEXT", help="the characters; spaces count nothing")
    options.add_argument("--output", type=Path, required=True, help="the new file, .pth")
    given = options.parse_args()
    check_not(given.output, given.model)
    if given.output.suffix != ".pth":
        options.error("--output must end in .pth: scripts/convert_to_safetensors.py makes other files of it")
    model, facts = load_float(given.model)
    if facts["script"] != "train_hiercode" or facts["config"].get("codes") == "own":
        raise InputError(f"{given.model} does not read characters by their decomposition: give a HierCode")
    classes = model.add_classes("".join(given.characters.split()))
    if not (added := len(classes) - len(facts["classes"])):
        raise InputError("every one of these characters is among the model's classes already")
    kept = {name: facts[name] for name in ("script", "config", "source", "generator", "versions") if name in facts}
    checkpoints.save(given.output, kept | {"classes": classes, "metrics": {}, "model": model.state_dict()})
    print(f"{added:,} characters added, {len(classes):,} in all: {given.output}")


if __name__ == "__main__":
    run(main)
