"""Model files for phones: onnxruntime's own format, ExecuTorch and Core ML, each compared with its original."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.onnx_file import TOLERANCE, ConversionError, check_plain_float, metadata, probe_images
from export.varied_pictures import grey_of, varied_pictures
from files.atomic import atomic_write, scratch_folder
from files.command_line import InputError
from files.plain_json import parse_json
from images.normalization import CANVAS
from inference.recognizer import Recognizer
from quantization.files import load_trained

PROBES = 64
EXAMPLE = (1, 1, CANVAS, CANVAS)
SUFFIXES = {"ort": ".ort", "executorch": ".pte", "coreml": ".mlpackage"}


def _missing(package: str) -> InputError:
    return InputError(f"the package {package} is missing: pip install -r requirements-edge.txt")


def _probes(data_dir: Path | None, config: dict) -> list[np.ndarray]:
    """Images float32 (1, 1, 64, 64) to compare a file with its original on."""
    return list(probe_images(data_dir, PROBES, config)[:, None].numpy())


def _float_checkpoint(path: Path) -> tuple[nn.Module, dict]:
    """The model of a float checkpoint and what the file says. Raises InputError for an INT8 file."""
    model, facts = load_trained(path)
    if "quantization" in facts:
        raise InputError(f"{path} is INT8: this format takes float checkpoints, ort takes its ONNX file")
    check_plain_float(path, facts)
    return model.to(memory_format=torch.contiguous_format), facts


def _compare(original: Callable, converted: Callable, images: list[np.ndarray]) -> str:
    """Runs both on every image; one line. Raises ConversionError if a logit differs much or a top-1 at all."""
    worst = 0.0
    for image in images:
        a, b = original(image), converted(image)
        if a.shape != b.shape or not np.isfinite(b).all():
            raise ConversionError(f"the file gives {b.shape} instead of {a.shape}, or not numbers")
        worst = max(worst, float(np.abs(a - b).max()))
        if worst > TOLERANCE or (a.argmax(1) != b.argmax(1)).any():
            raise ConversionError(f"the file's logits differ by {worst:.2g}")
    return f"equal to the original on {len(images)} images (largest difference {worst:.1e})"


def write_ort(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """onnxruntime's own format, optimised in the ways that every processor shares."""
    original = Recognizer(model_path)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(model_path, Path(folder) / "model.onnx")
        tool = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", folder]
        flags = ["--optimization_style", "Fixed", "--target_platform", "arm"]  # amd64's layouts fail on a phone
        done = subprocess.run([*tool, *flags], capture_output=True, text=True, check=False)
        made = Path(folder) / "model.ort"
        if done.returncode or not made.is_file():
            raise ConversionError(f"onnxruntime's tool says: {(done.stderr.strip() or done.stdout).splitlines()[-1]}")
        shutil.copyfile(made, path)
        converted = Recognizer(made)
    if original.takes_pictures:
        pictures = [grey_of(picture) for picture in varied_pictures(original.classes, PROBES)]
        return _compare(lambda p: original.picture_logits([p]), lambda p: converted.picture_logits([p]), pictures)
    config = parse_json(original.facts.get("config") or "{}", f"{model_path}: config", "export it again")
    return _compare(original.logits, converted.logits, _probes(data_dir, config))


def write_executorch(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """ExecuTorch with XNNPACK, the processor's backend on Android and iOS."""
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
    except ImportError:
        raise _missing("executorch") from None
    model, facts = _float_checkpoint(model_path)
    exported = torch.export.export(model, (torch.zeros(EXAMPLE),))
    lowered = to_edge_transform_and_lower(
        exported, partitioner=[XnnpackPartitioner()], constant_methods=metadata(facts)
    )
    path.write_bytes(lowered.to_executorch().buffer)
    method = Runtime.get().load_program(path).load_method("forward")

    @torch.inference_mode()
    def original(image: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(image)).numpy()

    def converted(image: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(image)])[0].numpy()

    return _compare(original, converted, _probes(data_dir, facts["config"]))


def write_coreml(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """Core ML's ML program. Where it cannot be run, it says so."""
    try:
        import coremltools
    except ImportError:
        raise _missing("coremltools") from None
    model, facts = _float_checkpoint(model_path)
    exported = torch.export.export(model, (torch.zeros(EXAMPLE),)).run_decompositions()  # it knows no LSTM
    package = coremltools.convert(
        exported,
        inputs=[coremltools.TensorType(name="input_image", shape=EXAMPLE)],
        outputs=[coremltools.TensorType(name="logits")],
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
    )
    package.user_defined_metadata.update(metadata(facts))
    package.save(str(path))
    if sys.platform != "darwin":
        return "not run: Core ML is on Apple's systems only"
    same, images = 0, _probes(data_dir, facts["config"])
    with torch.inference_mode():
        for image in images:
            logits = package.predict({"input_image": image})["logits"]
            same += int(logits.argmax() == model(torch.from_numpy(image)).argmax())
    if same < len(images):
        raise ConversionError(f"its top-1 is that of the original on {same} of {len(images)} images only")
    return f"its top-1 is that of the original on {len(images)} images"


def convert(kind: str, model_path: Path, output: Path, data_dir: Path | None) -> str:
    """Writes, compares, and only then names the file, or the folder for Core ML; returns one line on what was made."""
    if kind == "coreml":
        with scratch_folder(output) as folder:
            comparison = write_coreml(model_path, folder / output.name, data_dir)
            shutil.rmtree(output, ignore_errors=True)
            (folder / output.name).replace(output)
    else:
        with atomic_write(output) as temporary:
            comparison = {"ort": write_ort, "executorch": write_executorch}[kind](model_path, temporary, data_dir)
    files = [output] if output.is_file() else [file for file in output.rglob("*") if file.is_file()]
    return f"{output}: {sum(file.stat().st_size for file in files):,} bytes; {comparison}"
