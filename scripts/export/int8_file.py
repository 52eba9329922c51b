"""TODO doc: from convert_int8_pytorch_to_quantized_onnx"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import fx

from data.samples import Samples, dataset_samples
from engine.timing import interleaved
from export.onnx_file import DEFAULT_OPSET, ConversionError, describe, export, opset_of
from export.qdq_graph import write
from files.atomic import atomic_write, scratch_folder
from files.folders import beside, check_not
from inference.recognizer import single_thread
from quantization.files import float_model_of, load_quantized
from quantization.loss import select_rows

MEGABYTES = {"cnn": 1.67, "hiercode": 1.0}  # decimal; of others SHARE of the float file
SHARE = 0.3
TIMES_FASTER = {"cnn": 2.0, "hiercode": 2.0}  # at batch 1, by processors with INTEGER_PRODUCTS; of others 1
# Instructions that add up products of bytes, as Linux names them.
INTEGER_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}
PROCESSOR = Path("/proc/cpuinfo")
AGREEMENT = 99.9  # % of the images compared with PyTorch
BATCHES = {1: 200, 64: 12}  # rounds of timing for each size
CHUNK = 64
PRODUCTS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}


@dataclass
class Limits:
    """What a file must keep to get its name."""

    megabytes: float
    times_faster: float
    milliseconds: float
    agreement: float


def adds_integer_products() -> bool:
    """Whether the processor has instructions for sums of integer products; True where the system does not tell."""
    if not PROCESSOR.is_file():
        return True
    return not INTEGER_PRODUCTS.isdisjoint(PROCESSOR.read_text(encoding="utf-8", errors="replace").split())


def default_output(model_path: Path, opset: int) -> Path:
    name = model_path.stem.removeprefix("quantized_").removesuffix("_int8")
    return beside(model_path, f"{name}_int8_quantized_quantized_int8_onnx_opset{opset}.onnx")


def left_in_float(path: Path) -> list[str]:
    """The convolutions and products with a constant that onnxruntime computes in float once it has optimised the file.

    Products of two activations, as in attention, and the steps of an LSTM are float by design.
    """
    with scratch_folder(path) as folder:
        optimised = folder / "optimised.onnx"
        single_thread(path, optimised)
        graph = onnx.load(optimised).graph
    constants = {constant.name for constant in graph.initializer}
    found = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in PRODUCTS and constants.intersection(inputs[:2]):
            found.append(f"{node.op_type} {node.name}")
        if inputs and constants.issuperset(inputs):
            constants.update(node.output)
    return found


def compare(network: fx.GraphModule, path: Path, samples: Samples, rows: np.ndarray) -> tuple[float, float]:
    """How often (in %) the file's top-1 is PyTorch's on these samples, and the largest difference of a logit."""
    found, same, worst = single_thread(path), 0, 0.0
    for part in np.array_split(rows, -(-len(rows) // CHUNK)):
        images = samples.images(part)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        logits = found.run(["logits"], {"input_image": images})[0]
        if logits.shape != expected.shape or not np.isfinite(logits).all():
            raise ConversionError(f"the file gives {logits.shape} instead of {expected.shape}, or not numbers")
        same += int((logits.argmax(1) == expected.argmax(1)).sum())
        worst = max(worst, float(np.abs(logits - expected).max()))
    return 100 * same / len(rows), worst


def accuracy(path: Path, classes: str, samples: Samples, rows: np.ndarray) -> float:
    """Top-1 in % of the file on these samples."""
    found, names, right = single_thread(path), np.array(list(classes)), 0
    for part in np.array_split(rows, -(-len(rows) // CHUNK)):
        logits = found.run(["logits"], {"input_image": samples.images(part)})[0]
        right += int((names[logits.argmax(1)] == samples.characters[part]).sum())
    return 100 * right / len(rows)


def milliseconds(files: dict[str, Path], samples: Samples) -> dict[int, dict[str, float]]:
    """Median milliseconds an image of each file, by batch, on one thread, all files in turn."""
    sessions = {name: single_thread(path) for name, path in files.items()}
    found = {}
    for batch, rounds in BATCHES.items():
        images = samples.images(np.resize(np.arange(min(batch, len(samples.characters))), batch))
        runs = {name: lambda s=s, x=images: s.run(None, {"input_image": x}) for name, s in sessions.items()}
        found[batch] = {name: 1000 * t / batch for name, t in interleaved(runs, rounds).items()}
    return found


def export_float(facts: dict, model_path: Path, path: Path) -> None:
    """Writes the float file that size and speed are compared with: the same architecture, its weights at random."""
    architecture, settings = float_model_of(facts, model_path)
    export(architecture.model(settings, facts["classes"]).eval(), path, DEFAULT_OPSET)


def describe_int8(path: Path, facts: dict, metrics: dict) -> None:
    """Puts classes, contract, source, settings and the accuracy of this very file into it."""
    describe(path, facts | {"metrics": metrics})
    model = onnx.load(path)
    how = {name: value for name, value in facts["quantization"].items() if name != "measured"}
    model.metadata_props.add(key="quantization", value=json.dumps(how))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def shortcomings(found: dict, limits: Limits) -> list[str]:
    """What of a file falls short of the limits, each in a few words."""
    short = []
    if found["float_products"]:
        short.append(f"left in float: {', '.join(found['float_products'][:3])}")
    if found["agreement"] < limits.agreement:
        short.append(f"top-1 agrees with PyTorch on {found['agreement']:.2f} %, not {limits.agreement:g} %")
    if found["bytes"] > 1e6 * limits.megabytes:
        short.append(f"{found['bytes'] / 1e6:.3f} MB, more than {limits.megabytes:.3g} MB")
    for batch, times in found["milliseconds"].items():
        ratio, least = (
            times["float"] / times["int8"],
            limits.times_faster if batch == 1 else min(1, limits.times_faster),
        )
        if ratio < least:
            short.append(f"{ratio:.2f} times as fast as float at batch {batch}, not {least:g} times")
    if found["milliseconds"][1]["int8"] > limits.milliseconds:
        short.append(f"{found['milliseconds'][1]['int8']:.3f} ms an image, more than {limits.milliseconds:g} ms")
    return short


def report(output: Path, opset: int, found: dict, metrics: dict) -> str:
    times = [
        f"{batch}: {t['int8']:.3f} ms an image, float {t['float']:.3f} ms, {t['float'] / t['int8']:.2f} times as fast"
        for batch, t in found["milliseconds"].items()
    ]
    return "\n".join(
        [
            f"{output}: opset {opset}, {found['bytes']:,} bytes, {found['float_bytes'] / found['bytes']:.2f} times "
            "smaller than float",
            f"top-1 equal to PyTorch's on {found['agreement']:.2f} % of {found['compared']:,} test images "
            f"(largest difference of a logit {found['difference']:.2g}); no convolution or matrix left in float",
            f"top-1 of this file {metrics['test_top1']:.2f} % of {metrics['test_samples']:,} test images",
            *(f"one thread, batch {line}" for line in times),
        ]
    )


def limits_of(name: str, float_bytes: int, arguments: argparse.Namespace) -> Limits:
    """The limits asked for, those of the architecture by default."""
    asked = arguments.most_megabytes, arguments.times_faster
    faster = TIMES_FASTER.get(name, 1.0) if adds_integer_products() else 1.0
    return Limits(
        MEGABYTES.get(name, SHARE * float_bytes / 1e6) if asked[0] is None else asked[0],
        faster if asked[1] is None else asked[1],
        arguments.most_milliseconds,
        arguments.agreement,
    )


def convert(arguments: argparse.Namespace) -> str:
    """Writes, proves and only then names the file; returns what was found. Raises ConversionError if it falls short."""
    network, facts = load_quantized(arguments.model_path)
    samples = dataset_samples(arguments.data_dir, "test", facts["config"])
    opset = arguments.opset
    output = arguments.output or default_output(arguments.model_path, opset)
    check_not(output, arguments.model_path)
    tested = select_rows(samples, facts["classes"], arguments.test_samples)
    compared = select_rows(samples, facts["classes"], arguments.compare)
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        float_file = folder / "float.onnx"
        export_float(facts, arguments.model_path, float_file)
        write(network, temporary, opset)
        agreement, worst = compare(network, temporary, samples, compared)
        metrics = {"test_top1": accuracy(temporary, facts["classes"], samples, tested), "test_samples": len(tested)}
        describe_int8(temporary, facts, metrics)
        if opset_of(onnx.load(temporary)) != opset:
            raise ConversionError(f"the file has opset {opset_of(onnx.load(temporary))}, not {opset}")
        found = {
            "agreement": agreement,
            "compared": len(compared),
            "difference": worst,
            "bytes": temporary.stat().st_size,
            "float_bytes": float_file.stat().st_size,
            "float_products": left_in_float(temporary),
            "milliseconds": milliseconds({"float": float_file, "int8": temporary}, samples),
        }
        name = float_model_of(facts, arguments.model_path)[0].name
        if short := shortcomings(found, limits_of(name, found["float_bytes"], arguments)):
            raise ConversionError("; ".join(short))
    return report(output, opset, found, metrics)
