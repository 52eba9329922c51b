"""Export a trained model to ONNX, and compare it with PyTorch before it is kept.

    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth --any-image --top 10

The ONNX file takes `input_image`, float32 (N, 1, 64, 64), ink 1 on paper 0, and gives `logits` (N, classes). Its
metadata names its classes, input contract, data source and measured accuracy.

With --any-image the normalisation is part of the file. It then takes `image`, uint8 (N, H, W, C): pictures of any size,
dark on light or light on dark. It gives `probabilities` and `classes` (N, k), likeliest first, and `logits`. MODEL_PATH
may then be an ONNX file of this toolkit too. A grey picture (H, W) goes in as `picture[None, :, :, None]`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from export.any_image import convert_any_image
from export.onnx_file import DEFAULT_OPSET, convert, default_output
from files.command_line import at_least, parser, run
from files.folders import check_not
from images.normalization_graph import OLDEST_OPSET


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--model-path", type=Path, required=True, help="a checkpoint, best model or SafeTensors file")
    flags.add_argument("--output", type=Path, help="default: beside MODEL_PATH; kanji_model.onnx for the CNN")
    flags.add_argument("--any-image", action="store_true", help="make the normalisation part of the file")
    flags.add_argument("--top", type=at_least(1), help="how many classes an --any-image file gives (default 10)")
    flags.add_argument("--data-dir", type=Path, help="the dataset to compare on (default: dataset, if there)")
    flags.add_argument("--opset", type=int, choices=range(13, 24), metavar="13-23", help=f"default {DEFAULT_OPSET}")
    chosen = flags.parse_args()
    if chosen.any_image and chosen.opset and chosen.opset < OLDEST_OPSET:
        flags.error(f"--any-image needs --opset {OLDEST_OPSET} or newer")
    if chosen.top and not chosen.any_image:
        flags.error("--top goes with --any-image")
    if chosen.model_path.suffix.lower() == ".onnx":
        if not chosen.any_image:
            flags.error(f"{chosen.model_path} is ONNX already: --any-image puts the normalisation into it")
        if chosen.data_dir or chosen.opset:
            flags.error(f"{chosen.model_path} keeps its opset and is compared on pictures: no --opset, no --data-dir")
    model_path, opset, default_data = chosen.model_path, chosen.opset or DEFAULT_OPSET, Path("dataset")
    data_dir = chosen.data_dir or (default_data if (default_data / "metadata.json").is_file() else None)
    output = chosen.output or default_output(model_path, chosen.any_image)
    check_not(output, model_path)
    if sys.stderr.isatty():
        print(f"exporting {model_path}; then the file is compared with the model", file=sys.stderr)
    if chosen.any_image:
        print(convert_any_image(model_path, output, data_dir, opset, chosen.top or 10))
    else:
        print(convert(model_path, output, data_dir, opset))


if __name__ == "__main__":
    run(main)
