"""An INT8 model as an ONNX file, and its proof: size, agreement with PyTorch, no product left in float. Speed, which
depends on how busy the machine is, is reported and refuses nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import fx, nn

from data.samples import Samples, dataset_samples
from engine.timing import interleaved
from export.onnx_file import DEFAULT_OPSET, ConversionError, describe, export
from export.qdq_graph import write
from files.atomic import atomic_write, scratch_folder
from files.folders import beside, check_not
from inference.recognizer import single_thread
from quantization.files import float_architecture, load_quantized
from quantization.loss import measure, select_rows

AGREEMENT = 99.9  # % of the images compared with PyTorch
TIE = 0.1  # two classes whose logits are this near are as likely: a rounding step may decide between them
BATCHES = {1: 200, 64: 12}  # rounds of timing for each size
PRODUCTS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
ROW_BYTES = 13  # scale (4 bytes) and zero point (1) of a row of weights, its bias (4) and the scale of that (4)
CLASS_BYTES = 16  # a character in the metadata, and the scale of what it is compared with
GRAPH_BYTES = 40_000  # nodes, names, settings in the metadata, and tables so small that they stay float


def size_limit(model: nn.Module, classes: str) -> int:
    """Bytes that the INT8 file of this float model may have: one for each weight, and what its rows, its classes and
    the graph need; vectors and tables of integers stay as large as they are."""
    size = GRAPH_BYTES + CLASS_BYTES * len(classes)
    for value in model.state_dict().values():
        is_weight = value.ndim > 1 and value.is_floating_point()
        size += value.numel() + ROW_BYTES * len(value) if is_weight else value.numel() * value.itemsize
    return size


def left_in_float(path: Path) -> list[str]:
    """The convolutions and products with a constant that onnxruntime computes in float once it has optimised the file.

    Products of two activations, as in attention, and the steps of an LSTM are float by design.
    """
    with scratch_folder(path) as folder:
        single_thread(path, folder / "optimised.onnx")
        graph = onnx.load(folder / "optimised.onnx").graph
    constants, floats = {constant.name for constant in graph.initializer}, []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type in PRODUCTS and constants.intersection(inputs[:2]):
            floats.append(f"{node.op_type} {node.name}")
        if inputs and constants.issuperset(inputs):
            constants.update(node.output)
    return floats


def onnx_network(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """A file as a function from images to logits."""
    session = single_thread(path)
    return lambda images: torch.from_numpy(session.run(["logits"], {"input_image": images.numpy()})[0])


@torch.inference_mode()
def agreement_of(network: fx.GraphModule, path: Path, samples: Samples, rows: np.ndarray) -> tuple[float, float]:
    """The % of samples on which the file's top-1 is PyTorch's or as likely; the largest difference of a logit."""
    batches = [torch.from_numpy(samples.images(part)) for part in np.array_split(rows, -(-len(rows) // 64))]
    logits, expected = torch.cat([*map(onnx_network(path), batches)]), torch.cat([*map(network, batches)])
    chosen = expected.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
    same = expected.amax(dim=1) - chosen <= TIE
    return 100 * float(same.double().mean()), float((logits - expected).abs().max())


def speed(float_file: Path, int8_file: Path, samples: Samples) -> list[str]:
    """A line for each batch: median milliseconds an image of both files on one thread, timed in turn."""
    sessions, lines = {"float": single_thread(float_file), "int8": single_thread(int8_file)}, []
    for batch, rounds in BATCHES.items():
        images = samples.images(np.resize(np.arange(min(batch, len(samples.characters))), batch))
        runs = {name: lambda s=s, x=images: s.run(None, {"input_image": x}) for name, s in sessions.items()}
        before, after = (1000 * seconds / batch for seconds in interleaved(runs, rounds).values())
        times = f"{after:.3f} ms an image, float {before:.3f} ms, {before / after:.2f} times as fast"
        lines.append(f"one thread, batch {batch}: {times}")
    return lines


def describe_int8(path: Path, facts: dict, metrics: dict) -> None:
    """Puts classes, contract, source, settings and the accuracy of this very file into it."""
    describe(path, facts | {"metrics": metrics})
    model = onnx.load(path)
    how = {name: value for name, value in facts["quantization"].items() if name != "measured"}
    model.metadata_props.add(key="quantization", value=json.dumps(how))
    onnx.save(model, path)


def convert(
    model_path: Path, output: Path | None, data_dir: Path, opset: int, compare: int, agreement: float = AGREEMENT
) -> str:
    """Writes, proves and only then names the file; returns what was measured as lines.

    Raises ConversionError if its top-1 agrees with PyTorch's on less than `agreement` % of `compare` test images, if a
    product is left in float, or if it is larger than `size_limit`.
    """
    network, facts = load_quantized(model_path)
    architecture, settings = float_architecture(facts)
    classes, samples = facts["classes"], dataset_samples(data_dir, "test", facts["config"])
    name = model_path.stem.removeprefix("quantized_").removesuffix("_int8")
    output = output or beside(model_path, f"{name}_int8_quantized_quantized_int8_onnx_opset{opset}.onnx")
    check_not(output, model_path)
    rows = select_rows(samples, classes, compare)
    with scratch_folder(output) as folder, atomic_write(output) as temporary:
        float_model = architecture.model(settings, classes).eval()  # random weights: its size and speed are compared
        export(float_model, folder / "float.onnx", DEFAULT_OPSET)
        write(network, temporary, opset)
        agrees, worst = agreement_of(network, temporary, samples, rows)
        figures = measure({"int8": onnx_network(temporary)}, classes, samples, "", limit=30_000)
        top1, count = figures["int8_top1"], figures["samples"]
        describe_int8(temporary, facts, {"test_top1": top1, "test_samples": count})
        size, float_size = temporary.stat().st_size, (folder / "float.onnx").stat().st_size
        if floats := left_in_float(temporary):
            raise ConversionError(f"left in float: {', '.join(floats[:3])}")
        if agrees < agreement:
            raise ConversionError(f"top-1 agrees with PyTorch on {agrees:.2f} %, not {agreement:g} %")
        if size > (limit := size_limit(float_model, classes)):
            raise ConversionError(f"{size / 1e6:.3f} MB, more than {limit / 1e6:.3g} MB")
        lines = [
            f"{output}:\nopset {opset}, {size:,} bytes, {float_size / size:.2f} times smaller than float",
            f"top-1 equal to PyTorch's, or as likely, on {agrees:.2f} % of {len(rows):,} test images\n"
            f"largest difference of a logit {worst:.2g}; no matrix product left in float",
            f"top-1 of this file {top1:.2f} % of {count:,} test images",
            *speed(folder / "float.onnx", temporary, samples),
        ]
    return "\n".join(lines)
