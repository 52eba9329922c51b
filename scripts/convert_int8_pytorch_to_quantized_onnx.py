"""Export an INT8 model to ONNX, and compare it with PyTorch before it is kept.

    python scripts/convert_int8_pytorch_to_quantized_onnx.py --model-path models/quantized_hiercode_int8.pth

MODEL_PATH is a file that quantize_model.py or train_qat.py wrote. The ONNX file takes `input_image`, float32
(N, 1, 64, 64), ink 1 on paper 0, and gives `logits`, float32 (N, classes). Its metadata names its classes, input
contract, data source and accuracy. The file is kept only if onnxruntime and PyTorch agree on test images, no
convolution or matrix product is left in float, and the file is no larger than its int8 weights require. Its speed is
compared with that of a float file of the same architecture.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from export.int8_file import AGREEMENT, convert
from export.older_opset import OLDEST
from files.command_line import at_least, parser, run


def main() -> None:
    arguments = parser(__doc__)
    add = arguments.add_argument
    add("--model-path", type=Path, required=True, help="a file quantized_NAME_int8.pth")
    add("--output", type=Path, help="default: NAME_int8_quantized_quantized_int8_onnx_opsetNN.onnx beside MODEL_PATH")
    add("--data-dir", type=Path, default=Path("dataset"), help="the dataset to compare on (default dataset)")
    add("--opset", type=int, default=14, metavar="N", choices=range(OLDEST, 24), help="opset, 14 to 23 (default 14)")
    add = arguments.add_argument_group("comparison with PyTorch").add_argument
    add("--compare", type=at_least(1), default=2000, metavar="N", help="how many test images (default 2000)")
    add(
        "--agreement",
        type=at_least(0, float),
        default=AGREEMENT,
        metavar="X",
        help="at least, in %% (default 99.9)",
    )
    print(convert(**vars(arguments.parse_args())))


if __name__ == "__main__":
    run(main)
