"""Write a trained model as SafeTensors: one file that holds no code.

    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth --folder kanji_model

The file holds the weights; its header holds script, settings, classes, data source and measured accuracy as JSON. With
--folder the weights, config.json and a model card go into a folder that can be pushed to a hub. The script reads the
file back, and keeps it only if it gives the same logits, bit for bit.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from export.safetensors_file import convert, convert_to_folder, default_output
from files.command_line import parser, run


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--model-path", type=Path, required=True, help="a checkpoint or a best model")
    place = flags.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, help="default: beside MODEL_PATH; kanji_model.safetensors for the CNN")
    place.add_argument("--folder", type=Path, metavar="DIR", help="write a folder for a hub instead")
    arguments = flags.parse_args()
    model_path, output = arguments.model_path, arguments.output or default_output(arguments.model_path)
    if output.suffix != ".safetensors":
        flags.error("--output must end in .safetensors, by which the file is known")
    print(convert_to_folder(model_path, arguments.folder) if arguments.folder else convert(model_path, output))


if __name__ == "__main__":
    run(main)
