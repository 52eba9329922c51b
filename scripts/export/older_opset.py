"""An ONNX model of opset 18, the oldest that PyTorch's exporter writes, rewritten in opset 14 to 17.

onnx's own version converter knows no way back from Pad, BatchNormalization and LayerNormalization.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.onnx_file import ConversionError, opset_of

OLDEST = 14
SAME = {"BatchNormalization", "Pad"}  # only types were added, and an input, the axes, which the exporter never gives


def attributes(node: onnx.NodeProto) -> dict:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def reduction(node: onnx.NodeProto, constants: dict) -> list[onnx.NodeProto]:
    """A reduction whose axes, an input since opset 18, are an attribute."""
    axes, keepdims = constants[node.input[1]].tolist(), attributes(node)["keepdims"]
    return [helper.make_node(node.op_type, node.input[:1], node.output, axes=axes, keepdims=keepdims)]


def shape(node: onnx.NodeProto, constants: dict) -> list[onnx.NodeProto]:
    """Shape without `start` and `end`, which came with opset 15: the whole shape, and a slice of it."""
    whole, *ends = (f"{node.output[0]}/{name}" for name in ("whole", "start", "end"))
    given = {"start": 0, "end": np.iinfo(np.int64).max} | attributes(node)
    constants |= zip(ends, np.array([[given["start"]], [given["end"]]]), strict=True)
    return [helper.make_node("Shape", node.input, [whole]), helper.make_node("Slice", [whole, *ends], node.output)]


def layer_norm(node: onnx.NodeProto, constants: dict) -> list[onnx.NodeProto]:
    """LayerNormalization over the last axis, which came with opset 17, in the form that onnxruntime fuses again."""
    (x, gain, shift), (out,) = node.input, node.output
    two, tiny, mean, rest, square, spread, safe, root, unit, scaled = (f"{out}/{i}" for i in range(10))
    constants |= {two: np.float32(2), tiny: np.float32(attributes(node)["epsilon"])}
    return [
        helper.make_node("ReduceMean", [x], [mean], axes=[-1]),
        helper.make_node("Sub", [x, mean], [rest]),
        helper.make_node("Pow", [rest, two], [square]),
        helper.make_node("ReduceMean", [square], [spread], axes=[-1]),
        helper.make_node("Add", [spread, tiny], [safe]),
        helper.make_node("Sqrt", [safe], [root]),
        helper.make_node("Div", [rest, root], [unit]),
        helper.make_node("Mul", [unit, gain], [scaled]),
        helper.make_node("Add", [scaled, shift], [out]),
    ]


OLDER = {"ReduceMax": reduction, "ReduceL2": reduction, "LayerNormalization": layer_norm, "Shape": shape}


def downgrade(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in an older opset. Raises ConversionError for an operator that has no form in it."""
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    known, nodes = set(constants), []
    for node in model.graph.node:
        if onnx.defs.get_schema(node.op_type, opset_of(model)).since_version <= opset or node.op_type in SAME:
            nodes.append(node)
        elif node.op_type in OLDER:
            nodes += OLDER[node.op_type](node, constants)
        else:
            raise ConversionError(f"opset {opset} has no {node.op_type} as the exporter writes it")
    used = {name for node in nodes for name in node.input}
    tensors = [c for c in model.graph.initializer if c.name in used]
    tensors += [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items() if name not in known]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, tensors)
    producer = {"producer_name": model.producer_name, "producer_version": model.producer_version}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **producer)
