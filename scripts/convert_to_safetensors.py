"""Write a trained model as SafeTensors: weights, settings and classes in one file without pickle.

    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth --folder kanji_model

The file's header names script, settings, classes, data source and measured accuracy, each as JSON. With --folder the
same weights go into a folder with config.json and a model card, to be pushed to a hub as it is. Either is read back and
gives the original's logits bit for bit before it gets its name.
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
    place.add_argument("--folder", type=Path, metavar="DIR", help="write weights, config.json and a card into DIR")
    arguments = flags.parse_args()
    model_path, output = arguments.model_path, arguments.output or default_output(arguments.model_path)
    if output.suffix != ".safetensors":
        flags.error("--output must end in .safetensors, by which the file is known")
    print(convert_to_folder(model_path, arguments.folder) if arguments.folder else convert(model_path, output))


if __name__ == "__main__":
    run(main)
