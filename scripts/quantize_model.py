"""Make a trained model INT8 by calibration alone, and measure what that costs.

    python scripts/quantize_model.py --model-path models/best_kanji_model.pth --data-dir dataset

Any architecture. The ranges of its activations are those with the least squared error on some images of the training
split, of every class as many. Its top-1 is measured before and after, on the test split and with --images on a folder
of images, and separately on lookalikes: samples of the 100 pairs of characters that the float model confuses most often
on the validation split.

The result goes to quantized_NAME_int8.pth beside the model: int8 weights, scales, zero points, int32 biases. Where it
costs too much, fine-tune with scripts/train_qat.py. convert_int8_pytorch_to_quantized_onnx.py makes an ONNX file of it.
"""

import argparse
from pathlib import Path

from data.prepared import PreparedDataset
from files.command_line import InputError, run
from files.folders import beside, check_not
from quantization.files import calibration_images, float_model_of, load_float, save_quantized
from quantization.loss import metrics_of, quantization_loss, told
from quantization.network import calibrate, convert, prepare

ANEW = "\nhow sure it may be is not the float model's: calibrate_confidence.py finds it for the exported INT8 file"


def quantize(
    model_path: Path,
    output: Path | None,
    data_dir: Path,
    images: int,
    images_dir: Path | None = None,
    limit: int | None = None,
) -> str:
    """Calibrates, measures and writes; returns what was found."""
    if output:
        check_not(output, model_path)
        if output.suffix not in {".pth", ".pt"}:
            raise InputError(
                f"{output}: an INT8 file of PyTorch is named *.pth; convert_to_safetensors.py makes others"
            )
    model, facts = load_float(model_path)
    config = facts["config"]
    dataset = PreparedDataset(data_dir, config.get("split", "writer"), config.get("seed", 0))
    if unknown := set(facts["classes"]) - set(dataset.classes):
        raise InputError(f"{data_dir} has no {min(unknown)}, which is a class of {model_path}")
    architecture, settings = float_model_of(facts, model_path)
    network = prepare(model)
    batches = calibration_images(dataset, images, architecture.held_out(settings, facts["classes"]))
    images = sum(map(len, batches))  # there may be fewer
    calibrate(network, batches)
    integer = convert(network)
    figures = quantization_loss({"float": model, "int8": integer}, facts, data_dir, images_dir, limit)
    output = output or beside(model_path, f"quantized_{architecture.name}_int8.pth")
    how = {"how": "calibration", "images": images, "measured": figures}
    save_quantized(output, integer, facts | {"metrics": metrics_of(figures)}, how)
    found = f"{told(figures)}\n{output}: {output.stat().st_size:,} bytes, calibrated on {images:,} images"
    return found + (ANEW if facts.get("confidence") else "")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", type=Path, required=True, help="a trained float model")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--output", type=Path, help="default: quantized_NAME_int8.pth beside the model")
    parser.add_argument("--calibration-images", type=int, default=1024, metavar="N", help="default 1024")
    parser.add_argument("--images", type=Path, metavar="DIR", help="also measure on this folder of images")
    parser.add_argument("--limit", type=int, metavar="N", help="measure on N samples at most")
    arguments = parser.parse_args()
    if arguments.calibration_images < 1:
        parser.error("--calibration-images must be at least 1")
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    model_path, images_dir = arguments.model_path, arguments.images
    if images_dir is not None and not images_dir.is_dir():
        raise FileNotFoundError(f"{images_dir} is missing: --images takes a folder of images")
    print(
        quantize(
            model_path, arguments.output, arguments.data_dir, arguments.calibration_images, images_dir, arguments.limit
        )
    )


if __name__ == "__main__":
    run(main)
