"""Export a trained model to ONNX, and prove it: compared with PyTorch before the file gets its name.

    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_onnx.py --model-path models/best_kanji_model.pth --any-image --top 10

Input `input_image` float32 (N, 1, 64, 64), ink 1 on paper 0; output `logits` (N, classes). The file's metadata names
its classes, input contract, data source and measured accuracy.

With --any-image the normalisation is in the file too: input `image` uint8 (N, H, W, C), pictures of any size and either
polarity; outputs `probabilities` and `classes` (N, k), likeliest first, and `logits`. MODEL may then be an ONNX file
of this toolkit as well, float or quantised. A grey picture (H, W) goes in as `picture[None, :, :, None]`.
"""

import argparse
from pathlib import Path

from export.any_image_proof import DEFAULT_TOP, convert_any_image
from export.onnx_file import DEFAULT_OPSET, convert, default_output
from files.command_line import run
from files.folders import check_not
from images.normalization_graph import OLDEST_OPSET


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model-path",
        type=Path,
        required=True,
        help="a checkpoint, best model or SafeTensors file; or see --any-image",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="default: beside the model; for best_kanji_model.pth kanji_model.onnx or kanji_model_any_image.onnx",
    )
    parser.add_argument(
        "--any-image", action="store_true", help="put the normalisation into the file; MODEL_PATH may be ONNX too"
    )
    parser.add_argument("--top", type=int, help="how many classes an --any-image file names (default 10)")
    parser.add_argument(
        "--data-dir", type=Path, help="compare on this dataset's test images (default: dataset, if there)"
    )
    parser.add_argument("--opset", type=int, help=f"ONNX opset, 13 to 23 (default {DEFAULT_OPSET})")
    arguments = parser.parse_args()
    if arguments.opset is not None and not 13 <= arguments.opset <= 23:
        parser.error("--opset must lie between 13 and 23")
    if arguments.any_image and arguments.opset is not None and arguments.opset < OLDEST_OPSET:
        parser.error(f"--any-image needs --opset {OLDEST_OPSET} or newer")
    if arguments.top is not None and (not arguments.any_image or arguments.top < 1):
        parser.error("--top goes with --any-image and must be at least 1")
    if arguments.model_path.suffix.lower() == ".onnx" and not arguments.any_image:
        parser.error(f"{arguments.model_path} is ONNX already: --any-image puts the normalisation into it")
    if arguments.model_path.suffix.lower() == ".onnx" and (arguments.data_dir or arguments.opset is not None):
        parser.error(f"{arguments.model_path} keeps its opset and is compared on pictures: no --opset, no --data-dir")
    arguments.opset = DEFAULT_OPSET if arguments.opset is None else arguments.opset
    return arguments


def main() -> None:
    arguments = parse_arguments()
    data_dir = arguments.data_dir
    if data_dir is None and (Path("dataset") / "metadata.json").is_file():
        data_dir = Path("dataset")
    model_path, opset = arguments.model_path, arguments.opset
    output = arguments.output or default_output(model_path, arguments.any_image)
    check_not(output, model_path)
    if arguments.any_image:
        print(convert_any_image(model_path, output, data_dir, opset, arguments.top or DEFAULT_TOP))
    else:
        print(convert(model_path, output, data_dir, opset))


if __name__ == "__main__":
    run(main)
