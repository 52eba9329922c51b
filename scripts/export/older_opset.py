"""An ONNX model of opset 18 said in the words of opset 14 to 17.

PyTorch's exporter writes opset 18 or newer. An operator whose definition has not changed since is taken as it is; for
those that have, ADAPTED holds the older form; any other is refused. onnx's own version converter is not used: it knows
no way back from LayerNormalization.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

OLDEST = 14
IR_VERSION = 8  # what readers of the older opsets know
TYPES_ALONE = {"Pow", "Where", "Identity", "BatchNormalization", "GreaterOrEqual", "LessOrEqual"}  # all that changed


class OpsetError(ValueError):
    """An operator that has no older form here."""


def axes_as_attribute(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """ReduceMean and its kin: the axes, an input since opset 18, as the attribute they were."""
    keep = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if len(node.input) > 1 and node.input[1]:
        keep["axes"] = [int(axis) for axis in constants[node.input[1]]]
    elif keep.pop("noop_with_empty_axes", 0):
        return [helper.make_node("Identity", node.input[:1], node.output)]
    keep.pop("noop_with_empty_axes", None)
    return [helper.make_node(node.op_type, node.input[:1], node.output, name=node.name, **keep)]


def shape_in_part(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Shape without `start` and `end`, which came with opset 15: the whole shape, and a slice of it."""
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    out = node.output[0]
    ends = (told.get("start", 0), told.get("end", np.iinfo(np.int64).max))
    names = [f"{out}_start", f"{out}_end"]
    constants.update({name: np.array([end], np.int64) for name, end in zip(names, ends, strict=True)})
    return [
        helper.make_node("Shape", node.input, [f"{out}_whole"], name=f"{out}_0"),
        helper.make_node("Slice", [f"{out}_whole", *names], [out], name=f"{out}_1"),
    ]


def split_evenly(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Split without `num_outputs`, which came with opset 18 and says what the number of outputs said before."""
    kept = [a for a in node.attribute if a.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [node]


def pad_all_axes(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """Pad without its fourth input, the axes, which came with opset 18; the exporter always pads all axes."""
    if len(node.input) > 3 and node.input[3]:
        raise OpsetError("Pad of chosen axes")
    return [node]


def layer_norm(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    """LayerNormalization over the last axis, which came with opset 17, as onnxruntime's own fusion knows it."""
    told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if told.get("axis", -1) != -1 or len(node.output) != 1:
        raise OpsetError("LayerNormalization of several axes")
    x, out = node.input[0], node.output[0]
    v = {name: f"{out}_{name}" for name in ("mean", "rest", "square", "spread", "safe", "root", "unit", "scaled")}
    two, tiny = f"{out}_two", f"{out}_tiny"
    constants[two], constants[tiny] = np.float32(2), np.float32(told.get("epsilon", 1e-5))
    steps = [
        ("ReduceMean", [x], v["mean"], {"axes": [-1]}),
        ("Sub", [x, v["mean"]], v["rest"], {}),
        ("Pow", [v["rest"], two], v["square"], {}),
        ("ReduceMean", [v["square"]], v["spread"], {"axes": [-1]}),
        ("Add", [v["spread"], tiny], v["safe"], {}),
        ("Sqrt", [v["safe"]], v["root"], {}),
        ("Div", [v["rest"], v["root"]], v["unit"], {}),
        ("Mul", [v["unit"], node.input[1]], v["scaled"], {}),
        ("Add", [v["scaled"], node.input[2]], out, {}),
    ]
    if len(node.input) < 3:
        steps = [*steps[:-2], ("Mul", [v["unit"], node.input[1]], out, {})]
    return [helper.make_node(kind, i, [o], name=f"{out}_{k}", **a) for k, (kind, i, o, a) in enumerate(steps)]


ADAPTED = {
    **{f"Reduce{kind}": axes_as_attribute for kind in ("Mean", "Max", "Min", "L1", "L2", "Prod", "SumSquare")},
    "LayerNormalization": layer_norm,
    "Pad": pad_all_axes,
    "Shape": shape_in_part,
    "Split": split_evenly,
}


def since(kind: str, opset: int) -> int | None:
    """The opset in which an operator's definition of this opset came; None if there was no such operator."""
    try:
        return onnx.defs.get_schema(kind, opset).since_version
    except onnx.defs.SchemaError:
        return None


def downgrade(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in an older opset. Raises OpsetError for an operator that cannot be said in it."""
    newest = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    known = set(constants)
    nodes = []
    for node in model.graph.node:
        kind = node.op_type
        if node.domain not in {"", "ai.onnx"} or any(a.HasField("g") for a in node.attribute):
            raise OpsetError(f"opset {opset} has no {node.domain} {kind}, or its graphs are not looked into")
        if since(kind, opset) == since(kind, newest) or (kind in TYPES_ALONE and since(kind, opset)):
            nodes.append(node)
        elif kind in ADAPTED:
            nodes += ADAPTED[kind](node, constants)
        else:
            raise OpsetError(f"opset {opset} has no {kind} as the exporter writes it")
    used = {name for node in nodes for name in node.input}
    new = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items() if name not in known]
    kept = [c for c in model.graph.initializer if c.name in used]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, [*kept, *new])
    imports = [helper.make_opsetid("", opset)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name=model.producer_name)
    made.producer_version = model.producer_version
    return made
