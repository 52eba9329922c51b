"""An ONNX model of this toolkit with the normalisation inside: one file that takes pictures as they are.

Input `image` uint8 (N, H, W, C): N pictures of one size, any size and either polarity; C is 1 for grey, 2 for grey and
opacity, 3 for RGB, 4 for RGBA. A grey picture (H, W) is `picture[None, :, :, None]`: the number of an ONNX input's
axes is fixed. Outputs, each picture by itself: `probabilities` float32 (N, k) and `classes` int64 (N, k), likeliest
first, and `logits` float32 (N, classes). The probabilities are those of the logits divided by the temperature that the
file names, if any. A picture without ink gives logits of 0, so that all classes are as likely.
"""

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, version_converter

from export.onnx_file import opset_of
from files.command_line import first_line
from images.normalization_graph import IR_VERSION, OLDEST_OPSET, normalization_nodes, picture_input
from images.onnx_expressions import Graph
from inference.confidence import confidence_of

INPUT = "image uint8 (N, H, W, C), C 1 grey, 2 grey and opacity, 3 RGB, 4 RGBA; any size, either polarity"
OUTPUTS = "probabilities float32 (N, {top}), classes int64 (N, {top}), likeliest first; logits float32 (N, {classes})"


class AnyImageError(RuntimeError):
    """A model that cannot be given the normalisation, or a file that reads pictures otherwise than it should."""


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in the oldest opset that the normalisation can be written in, unless its own is as new."""
    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise AnyImageError(f"opset {opset_of(model)} cannot be raised to {OLDEST_OPSET} ({reason})") from None


def reading_nodes(
    images: str, logits: str, top: int, temperature: float
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that make `probabilities`, `classes` and `logits` of the model's input and output."""
    graph = Graph("reading/")
    some = graph.tensor(images, np.float32).any(1, 2, 3).squeeze(2, 3)
    gated = some.where(graph.tensor(logits, np.float32), 0)
    shares = graph.node("Softmax", gated if temperature == 1 else gated / temperature, axis=1)
    best = graph.node("TopK", shares, graph.constant([top], np.int64), outputs=2, axis=1)
    made = zip((*best, gated), ("probabilities", "classes", "logits"), strict=True)
    graph.nodes += [helper.make_node("Identity", [tensor.name], [name]) for tensor, name in made]
    return graph.nodes, list(graph.constants.values())


def any_image_model(model: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A toolkit model, float or quantised, between the normalisation and the reading of its logits."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    classes = len(properties["classes"])
    top = min(top, classes)
    merged = compose.add_prefix(raised(model), "model/", rename_functions=False)
    graph, before = merged.graph, normalization_nodes("image", "model/input_image")
    temperature = confidence_of(properties.get("confidence"), "the model").temperature
    after = reading_nodes("model/input_image", "model/logits", top, temperature)
    nodes = [*before[0], *graph.node, *after[0]]
    graph.initializer.extend([*before[1], *after[1]])
    outputs = (("probabilities", TensorProto.FLOAT, top), ("classes", TensorProto.INT64, top))
    for field, content in (
        (graph.node, nodes),
        (graph.input, [picture_input()]),
        (graph.output, [helper.make_tensor_value_info(n, t, ["pictures", k]) for n, t, k in outputs]),
    ):
        del field[:]
        field.extend(content)
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["pictures", classes]))
    merged.ir_version = max(merged.ir_version, IR_VERSION)
    told = {"input": INPUT, "outputs": OUTPUTS.format(top=top, classes=classes)}
    helper.set_model_props(merged, properties | told)
    onnx.checker.check_model(merged, full_check=True)
    return merged
