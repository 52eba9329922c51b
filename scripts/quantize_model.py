"""Turn a trained model into INT8 by calibration, and measure what that costs.

    python scripts/quantize_model.py --model-path models/best_kanji_model.pth --data-dir dataset

Takes any architecture. The range of each activation is the one with the least squared error on some training images,
equally many of each class. Accuracy is measured before and after: on the test split, on a folder of --images, and on
lookalikes, which are samples of the 100 pairs of characters that the float model confuses most often.

The result is quantized_NAME_int8.pth beside the model. If accuracy falls too much, fine-tune with train_qat.py.
convert_int8_pytorch_to_quantized_onnx.py exports the result to ONNX.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from files.command_line import at_least, parser, run
from quantization.making import quantize


def main() -> None:
    arguments = parser(__doc__)
    add = arguments.add_argument
    add("--model-path", type=Path, required=True, help="a trained float model")
    add("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    add("--output", type=Path, help="default: quantized_NAME_int8.pth beside the model")
    add("--calibration-images", type=at_least(1), default=1024, metavar="N", help="(default 1024)", dest="count")
    add("--images", type=Path, metavar="DIR", help="also measure on a folder of images")
    add("--overwrite", action="store_true", help="replace an INT8 file that train_qat.py made")
    add("--limit", type=at_least(1), metavar="N", help="measure on at most N samples")
    print(quantize(**vars(arguments.parse_args())))


if __name__ == "__main__":
    run(main)
