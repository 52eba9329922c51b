"""Make an ONNX file of an INT8 model, and prove it before it gets its name.

    python scripts/convert_int8_pytorch_to_quantized_onnx.py --model-path models/quantized_hiercode_int8.pth

Takes what quantize_model.py and train_qat.py write. Input `input_image` float32 (N, 1, 64, 64), ink 1 on paper 0;
output `logits` float32 (N, classes). onnxruntime computes its convolutions and matrices in integers.

The file is kept only if onnxruntime and PyTorch agree on test images, no convolution or matrix is left in float, and
size and speed are as asked for; speed is that of a float file of the same architecture, both timed in turn. Its
metadata names its classes, input contract, data source, and the accuracy that was measured on this very file.
"""

import argparse
from pathlib import Path

from export.int8_file import AGREEMENT, convert
from export.older_opset import OLDEST, OpsetError
from export.onnx_file import ConversionError
from files.command_line import run

NEWEST = 23


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", type=Path, required=True, help="a quantized_NAME_int8.pth")
    parser.add_argument(
        "--output", type=Path, help="default: NAME_int8_quantized_quantized_int8_onnx_opsetNN.onnx beside the model"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="to prove it on (default dataset)")
    parser.add_argument("--opset", type=int, default=14, metavar="N", help=f"{OLDEST} to {NEWEST} (default 14)")
    limits = parser.add_argument_group("proof")
    limits.add_argument("--compare", type=int, default=2000, metavar="N", help="test images compared (default 2000)")
    limits.add_argument(
        "--test-samples", type=int, default=30000, metavar="N", help="test images its accuracy is of (default 30000)"
    )
    limits.add_argument("--agreement", type=float, default=AGREEMENT, metavar="X", help="least, in %% (default 99.9)")
    limits.add_argument(
        "--most-megabytes",
        type=float,
        metavar="X",
        help="default: CNN 1.67, HierCode 1.0, others 0.3 of the float file",
    )
    limits.add_argument(
        "--times-faster",
        type=float,
        metavar="X",
        help="than float at batch 1 (default: CNN and HierCode 2, others and processors without VNNI or the like 1)",
    )
    limits.add_argument(
        "--most-milliseconds", type=float, default=float("inf"), metavar="X", help="an image at batch 1 (default: any)"
    )
    arguments = parser.parse_args()
    if not OLDEST <= arguments.opset <= NEWEST:
        parser.error(f"--opset must lie between {OLDEST} and {NEWEST}")
    if min(arguments.compare, arguments.test_samples) < 1:
        parser.error("--compare and --test-samples must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    try:
        print(convert(arguments))
    except (ConversionError, OpsetError) as error:
        raise OSError(f"{arguments.model_path} was not converted: {error}") from None


if __name__ == "__main__":
    run(main)
