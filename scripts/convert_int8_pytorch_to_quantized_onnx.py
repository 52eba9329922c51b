"""Make an ONNX file of an INT8 model, and prove it before it gets its name.

    python scripts/convert_int8_pytorch_to_quantized_onnx.py --model-path models/quantized_hiercode_int8.pth

Takes what quantize_model.py and train_qat.py write. Input `input_image` float32 (N, 1, 64, 64), ink 1 on paper 0;
output `logits` float32 (N, classes). Its metadata names its classes, input contract, data source and accuracy.

The file is kept only if onnxruntime and PyTorch agree on test images, no convolution or matrix is left in float, and
the file is as small as its weights in int8 allow. Its speed is compared with that of a float file of the same
architecture, both timed in turn.
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
    add("--model-path", type=Path, required=True, help="a quantized_NAME_int8.pth")
    add("--output", type=Path, help="default: NAME_int8_quantized_quantized_int8_onnx_opsetNN.onnx beside it")
    add("--data-dir", type=Path, default=Path("dataset"), help="to prove it on (default dataset)")
    add("--opset", type=int, default=14, metavar="N", choices=range(OLDEST, 24), help="14 to 23 (default 14)")
    add = arguments.add_argument_group("proof").add_argument
    add("--compare", type=at_least(1), default=2000, metavar="N", help="test images compared (default 2000)")
    add("--agreement", type=at_least(0, float), default=AGREEMENT, metavar="X", help="least, in %% (default 99.9)")
    print(convert(**vars(arguments.parse_args())))


if __name__ == "__main__":
    run(main)
