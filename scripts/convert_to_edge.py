"""Export a model for phones: onnxruntime mobile, ExecuTorch or Core ML.

    python scripts/convert_to_edge.py ort --model-path models/kanji_model.onnx
    python scripts/convert_to_edge.py executorch --model-path models/best_kanji_model.pth
    python scripts/convert_to_edge.py coreml --model-path models/best_kanji_model.pth

ort (.ort) takes any ONNX file of this toolkit, INT8 and --any-image too, by onnxruntime's own tool. executorch (.pte,
for the XNNPACK backend) and coreml (.mlpackage, fp16, iOS 16) take trained float models, need the packages of
requirements-edge.txt, and read one image at a time. Input and output are those of convert_to_onnx.py.

A .ort or .pte file is run and compared with its original before it gets its name. Core ML runs on Apple's systems only:
elsewhere the file is written, but nothing is proved. Each names its classes: .ort as ONNX does, .pte by the methods
`classes` and `source`, .mlpackage by its user-defined metadata.
"""

import argparse
import logging
import warnings
from pathlib import Path

from export.edge import SUFFIXES, convert
from export.onnx_file import ConversionError
from files.command_line import InputError, run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=SUFFIXES, help="ort, executorch or coreml")
    parser.add_argument("--model-path", type=Path, required=True, help="ort: an ONNX file; else a trained float model")
    parser.add_argument("--output", type=Path, help="default: beside the model, with the format's suffix")
    parser.add_argument(
        "--data-dir", type=Path, help="compare on this dataset's test images (default: dataset, if there)"
    )
    arguments = parser.parse_args()
    if (arguments.format == "ort") != (arguments.model_path.suffix.lower() == ".onnx"):
        parser.error("ort takes an ONNX file, executorch and coreml take a .pth, .pt or .safetensors file")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    kind, model_path = arguments.format, arguments.model_path
    if not model_path.is_file():
        raise FileNotFoundError(f"{model_path} is missing: give the path of a trained model")
    output = arguments.output or model_path.with_suffix(SUFFIXES[kind])
    data_dir = arguments.data_dir
    if data_dir is None and (Path("dataset") / "metadata.json").is_file():
        data_dir = Path("dataset")
    if output.suffix != SUFFIXES[kind]:
        raise InputError(f"{output}: what {kind} reads is named *{SUFFIXES[kind]}")
    output.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # notes of these packages about their own future
    logging.disable(logging.WARNING)
    try:
        print(convert(kind, model_path, output, data_dir))
    except ConversionError as error:
        raise OSError(f"{model_path} was not converted: {error}") from None


if __name__ == "__main__":
    run(main)
