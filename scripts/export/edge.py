"""Model files for phones: onnxruntime's own format, ExecuTorch and Core ML, each compared with its original."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from export.onnx_file import TOLERANCE, ConversionError, check_plain_float, metadata, probe_images
from export.varied_pictures import grey_of, varied_pictures
from files.atomic import atomic_write, scratch_folder
from files.command_line import InputError
from files.plain_json import parse_json
from images.normalization import CANVAS
from inference.recognizer import Recognizer
from quantization.files import load_trained

PROBES = 64
SUFFIXES = {"ort": ".ort", "executorch": ".pte", "coreml": ".mlpackage"}


def _probes(data_dir: Path | None, config: dict) -> list[np.ndarray]:
    """Images float32 (1, 1, 64, 64) to compare a file with its original on."""
    return list(probe_images(data_dir, PROBES, config)[:, None].numpy())


def _compare(original: Callable, converted: Callable, images: list, tolerance: float = TOLERANCE) -> str:
    """Runs both on every image; one line. Raises ConversionError if a logit differs much or a top-1 at all."""
    worst = 0.0
    for image in images:
        a, b = original(image), converted(image)
        if a.shape != b.shape or not np.isfinite(b).all():
            raise ConversionError(f"the file gives {b.shape} instead of {a.shape}, or not numbers")
        worst = max(worst, float(np.abs(a - b).max()))
        if worst > tolerance or (a.argmax(1) != b.argmax(1)).any():
            raise ConversionError(f"the file's logits differ by {worst:.2g}")
    return f"equal to the original on {len(images)} images (largest difference {worst:.1e})"


def write_ort(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """onnxruntime's own format, optimised in the ways that every processor shares."""
    original = Recognizer(model_path)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.ort"
        shutil.copyfile(model_path, made.with_suffix(".onnx"))
        tool = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", folder]
        flags = ["--optimization_style", "Fixed", "--target_platform", "arm"]  # amd64's layouts fail on a phone
        done = subprocess.run([*tool, *flags], capture_output=True, text=True, check=False)
        if done.returncode or not made.is_file():
            raise ConversionError(f"onnxruntime's tool says: {(done.stderr.strip() or done.stdout).splitlines()[-1]}")
        shutil.copyfile(made, path)
        converted = Recognizer(made)
    if original.takes_pictures:
        pictures = [[grey_of(picture)] for picture in varied_pictures(original.classes, PROBES)]
        return _compare(original.picture_logits, converted.picture_logits, pictures)
    config = parse_json(original.facts.get("config") or "{}", f"{model_path}: config", "export it again")
    return _compare(original.logits, converted.logits, _probes(data_dir, config))


def _exported(path: Path) -> tuple[torch.export.ExportedProgram, dict, Callable]:
    """A float checkpoint, exported; what it says; the original as numpy. Raises InputError for an INT8 file."""
    model, facts = load_trained(path)
    if "quantization" in facts:
        raise InputError(f"{path} is INT8: this format takes float checkpoints, ort takes its ONNX file")
    check_plain_float(path, facts)
    model = model.to(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def original(image: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(image)).numpy()

    return torch.export.export(model, (torch.zeros(1, 1, CANVAS, CANVAS),)), facts, original


def write_executorch(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """ExecuTorch with XNNPACK, the processor's backend on Android and iOS."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    exported, facts, original = _exported(model_path)
    parts = [XnnpackPartitioner()]
    lowered = to_edge_transform_and_lower(exported, partitioner=parts, constant_methods=metadata(facts))
    path.write_bytes(lowered.to_executorch().buffer)
    method = Runtime.get().load_program(path).load_method("forward")

    def converted(image: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(image)])[0].numpy()

    return _compare(original, converted, _probes(data_dir, facts["config"]))


def write_coreml(model_path: Path, path: Path, data_dir: Path | None) -> str:
    """Core ML's ML program, fp16, so that only its top-1 is compared. Where it cannot be run, it says so."""
    import coremltools

    exported, facts, original = _exported(model_path)
    package = coremltools.convert(
        exported.run_decompositions(),  # it knows no LSTM
        inputs=[coremltools.TensorType(name="input_image", shape=(1, 1, CANVAS, CANVAS))],
        outputs=[coremltools.TensorType(name="logits")],
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS16,
    )
    package.user_defined_metadata.update(metadata(facts))
    package.save(str(path))
    if sys.platform != "darwin":
        return "not run: Core ML is on Apple's systems only"

    def converted(image: np.ndarray) -> np.ndarray:
        return package.predict({"input_image": image})["logits"]

    return _compare(original, converted, _probes(data_dir, facts["config"]), tolerance=np.inf)


def convert(kind: str, model_path: Path, output: Path, data_dir: Path | None) -> str:
    """Writes, compares, and only then names the file, or the folder for Core ML; returns one line on what was made."""
    write = {"ort": write_ort, "executorch": write_executorch, "coreml": write_coreml}[kind]
    try:
        if kind == "coreml":
            with scratch_folder(output) as folder:
                comparison = write(model_path, folder / output.name, data_dir)
                shutil.rmtree(output, ignore_errors=True)
                (folder / output.name).replace(output)
        else:
            with atomic_write(output) as temporary:
                comparison = write(model_path, temporary, data_dir)
    except ImportError as error:
        remedy = "pip install -r requirements-edge.txt"
        raise InputError(f"the package {error.name} is missing: {remedy}") from None
    size = sum(file.stat().st_size for file in (output, *output.rglob("*")) if file.is_file())
    return f"{output}: {size:,} bytes; {comparison}"
