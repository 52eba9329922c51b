"""Export a model for phones: onnxruntime mobile, ExecuTorch or Core ML.

    python scripts/convert_to_edge.py ort --model-path models/kanji_model.onnx
    python scripts/convert_to_edge.py executorch --model-path models/best_kanji_model.pth
    python scripts/convert_to_edge.py coreml --model-path models/best_kanji_model.pth

ort (.ort) takes any ONNX file of this toolkit, INT8 and --any-image too, by onnxruntime's own tool. executorch (.pte,
for the XNNPACK backend) and coreml (.mlpackage, fp16, iOS 16) take float checkpoints, need the packages of
requirements-edge.txt, and read one image at a time. Input and output are those of convert_to_onnx.py.

A file is run and compared with its original before it gets its name; Core ML's only on Apple's systems. Each names its
classes: .ort as ONNX does, .pte by the methods `classes` and `source`, .mlpackage by its user-defined metadata.
"""

import logging
import warnings
from pathlib import Path

from export.edge import SUFFIXES, convert
from files.command_line import parser, run


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("format", choices=SUFFIXES, help="ort, executorch or coreml")
    flags.add_argument("--model-path", type=Path, required=True, help="ort: an ONNX file; else a float checkpoint")
    flags.add_argument("--output", type=Path, help="default: beside the model, with the format's suffix")
    data = "compare on this dataset's test images (default: dataset, if there)"
    flags.add_argument("--data-dir", type=Path, help=data)
    arguments = flags.parse_args()
    suffix, model_path = SUFFIXES[arguments.format], arguments.model_path
    output = arguments.output or model_path.with_suffix(suffix)
    if (arguments.format == "ort") != (model_path.suffix.lower() == ".onnx"):
        flags.error("ort takes an ONNX file, executorch and coreml take a .pth, .pt or .safetensors file")
    if output.suffix != suffix:
        flags.error(f"what {arguments.format} reads is named *{suffix}")
    default_data = Path("dataset") if Path("dataset/metadata.json").is_file() else None
    warnings.simplefilter("ignore")  # notes of these packages about their own future
    logging.disable(logging.WARNING)
    print(convert(arguments.format, model_path, output, arguments.data_dir or default_data))


if __name__ == "__main__":
    run(main)
