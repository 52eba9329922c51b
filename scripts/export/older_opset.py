"""An ONNX model of opset 18 rewritten in opset 14 to 17.

PyTorch's exporter writes opset 18 or newer. An operator whose definition has not changed since is kept; OLDER holds the
older form of those that have; any other is refused. onnx's own version converter knows no way back from Pad,
BatchNormalization and LayerNormalization.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.onnx_file import ConversionError, opset_of

OLDEST = 14
IR_VERSION = 8  # what readers of the older opsets know
TYPES_ALONE = {"Pow", "Where", "Identity", "BatchNormalization", "GreaterOrEqual", "LessOrEqual"}  # all that changed
Constants = dict[str, np.ndarray]


def attributes(node: onnx.NodeProto) -> dict:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def axes_as_attribute(node: onnx.NodeProto, constants: Constants) -> list[onnx.NodeProto]:
    """A reduction whose axes, an input since opset 18, are an attribute."""
    kept = attributes(node)
    kept.pop("noop_with_empty_axes", None)
    if len(node.input) > 1:
        kept["axes"] = [int(axis) for axis in constants[node.input[1]]]
    return [helper.make_node(node.op_type, node.input[:1], node.output, name=node.name, **kept)]


def shape_in_part(node: onnx.NodeProto, constants: Constants) -> list[onnx.NodeProto]:
    """Shape without `start` and `end`, which came with opset 15: the whole shape, and a slice of it."""
    out, given = node.output[0], attributes(node)
    start, end = given.get("start", 0), given.get("end", np.iinfo(np.int64).max)
    constants |= {f"{out}_start": np.array([start], np.int64), f"{out}_end": np.array([end], np.int64)}
    return [
        helper.make_node("Shape", node.input, [f"{out}_whole"], name=f"{out}_0"),
        helper.make_node("Slice", [f"{out}_whole", f"{out}_start", f"{out}_end"], [out], name=f"{out}_1"),
    ]


def pad_all_axes(node: onnx.NodeProto, constants: Constants) -> list[onnx.NodeProto]:
    """Pad without its fourth input, the axes, which came with opset 18; the exporter always pads all axes."""
    if len(node.input) > 3 and node.input[3]:
        raise ConversionError("Pad of chosen axes has no older form here")
    return [node]


def layer_norm(node: onnx.NodeProto, constants: Constants) -> list[onnx.NodeProto]:
    """LayerNormalization over the last axis, which came with opset 17, in the form that onnxruntime fuses again."""
    if attributes(node).get("axis", -1) != -1 or len(node.output) != 1 or len(node.input) != 3:
        raise ConversionError("LayerNormalization of several axes, outputs or without a bias has no older form here")
    (x, gain, shift), out = node.input, node.output[0]
    constants |= {f"{out}_two": np.float32(2), f"{out}_tiny": np.float32(attributes(node).get("epsilon", 1e-5))}
    steps = [
        ("ReduceMean", [x], "mean"),
        ("Sub", [x, f"{out}_mean"], "rest"),
        ("Pow", [f"{out}_rest", f"{out}_two"], "square"),
        ("ReduceMean", [f"{out}_square"], "spread"),
        ("Add", [f"{out}_spread", f"{out}_tiny"], "safe"),
        ("Sqrt", [f"{out}_safe"], "root"),
        ("Div", [f"{out}_rest", f"{out}_root"], "unit"),
        ("Mul", [f"{out}_unit", gain], "scaled"),
    ]
    axes = {"ReduceMean": {"axes": [-1]}}
    nodes = [
        helper.make_node(kind, inputs, [f"{out}_{name}"], name=f"{out}_{k}", **axes.get(kind, {}))
        for k, (kind, inputs, name) in enumerate(steps)
    ]
    return [*nodes, helper.make_node("Add", [f"{out}_scaled", shift], [out], name=f"{out}_{len(steps)}")]


OLDER = {
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"), axes_as_attribute),
    "LayerNormalization": layer_norm,
    "Pad": pad_all_axes,
    "Shape": shape_in_part,
}


def since(kind: str, opset: int) -> int | None:
    """The opset in which an operator's definition of this opset came; None if there was no such operator."""
    try:
        return onnx.defs.get_schema(kind, opset).since_version
    except onnx.defs.SchemaError:
        return None


def downgrade(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in an older opset. Raises ConversionError for an operator that has no form in it."""
    newest = opset_of(model)
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    known, nodes = set(constants), []
    for node in model.graph.node:
        kind, then = node.op_type, since(node.op_type, opset)
        if then and (then == since(kind, newest) or kind in TYPES_ALONE):
            nodes.append(node)
        elif kind in OLDER:
            nodes += OLDER[kind](node, constants)
        else:
            raise ConversionError(f"opset {opset} has no {kind} as the exporter writes it")
    used = {name for node in nodes for name in node.input}
    new = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items() if name not in known]
    kept = [c for c in model.graph.initializer if c.name in used]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *new])
    imports = [helper.make_opsetid("", opset)]
    older = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name=model.producer_name)
    older.producer_version = model.producer_version
    return older
