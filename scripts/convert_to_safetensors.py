"""Write a trained model as SafeTensors: one file that holds no code.

    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth --folder kanji_model \\
        --onnx models/kanji_model_any_image.onnx

The file holds the weights; its header holds script, settings, classes, data source and measured accuracy as JSON. The
script reads the file back, and keeps it only if it gives the same logits, bit for bit.

With --folder it makes a folder that can be pushed to a model hub and needs nothing of this toolkit: the weights, the
settings, modeling.py, which computes the logits with PyTorch and safetensors alone, a model card, and the ONNX files.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from export.hub_folder import convert_to_folder
from export.safetensors_file import convert, default_output
from files.command_line import parser, run


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--model-path", type=Path, required=True, help="a checkpoint or a best model")
    place = flags.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, help="default: beside MODEL_PATH; kanji_model.safetensors for the CNN")
    place.add_argument("--folder", type=Path, metavar="DIR", help="write a folder for a hub instead")
    flags.add_argument("--onnx", type=Path, nargs="+", metavar="FILE", default=[], help="exported files for --folder")
    arguments = flags.parse_args()
    if arguments.onnx and not arguments.folder:
        flags.error("--onnx goes with --folder")
    model_path, folder = arguments.model_path, arguments.folder
    output = arguments.output or default_output(model_path)
    if output.suffix != ".safetensors":
        flags.error("--output must end in .safetensors, by which the file is known")
    print(convert_to_folder(model_path, folder, arguments.onnx) if folder else convert(model_path, output))


if __name__ == "__main__":
    run(main)
