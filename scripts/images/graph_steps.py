"""Small steps that the graphs of this room share, as onnxscript functions. Sizes are int64 scalars that are known only
when a graph runs; geometry is float64, as in numpy. A float of Python is a float32 in a graph, numpy's is a float64."""

import onnx
import onnx_ir
from onnx import TensorProto
from onnx_ir.passes import common
from onnxscript import OnnxFunction, optimizer, script
from onnxscript import opset18 as op

IR_VERSION = 8  # came with opset 18
SINGLE, DOUBLE, INTEGER, BOOL = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL

# All that onnxscript's optimizer does but its rewriting, which takes 40 seconds and finds next to nothing here.
TIDY = (
    common.RemoveUnusedNodesPass(),
    common.CommonSubexpressionEliminationPass(),
    common.RemoveUnusedFunctionsPass(),
    common.RemoveUnusedOpsetsPass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.LiftSubgraphInitializersToMainGraphPass(),
    common.DeduplicateInitializersPass(),
    common.OutputFixPass(),
    common.NameFixPass(),
)


@script()
def size(values, axis: int):
    """The length of an axis, a scalar int64."""
    return op.Gather(op.Shape(values), axis)


@script()
def double(values):
    return op.Cast(values, to=DOUBLE)


@script()
def longer_side(picture):
    """Of (H, W)."""
    return op.Max(size(picture, axis=0), size(picture, axis=1))


@script()
def rounded(share, length):
    """The whole number nearest to a float64 share of a length."""
    return op.Cast(op.Round(share * double(length)), to=INTEGER)


@script()
def count(mask):
    """How many are set, float64."""
    return double(op.ReduceSum(op.Cast(mask, to=SINGLE), keepdims=0))


@script()
def any_of(mask):
    return op.ReduceMax(op.Cast(mask, to=SINGLE), keepdims=0) > 0


@script()
def any_along(mask, axes):
    """bool: whether anything is set along these axes."""
    return op.ReduceMax(op.Cast(mask, to=SINGLE), axes, keepdims=0) > 0


@script()
def part(values, start, stop, axes):
    """From start up to stop, both scalars, along an axis (1,)."""
    return op.Slice(values, op.Unsqueeze(start, [0]), op.Unsqueeze(stop, [0]), axes)


@script()
def span(profile):
    """First and one-past-last True of a profile bool (L,), int64; (0, 0) where there is none."""
    length = size(profile, axis=0)
    line = op.Range(0, length, 1)
    end = op.ReduceMax(op.Where(profile, line + 1, 0), keepdims=0)
    first = length - op.ReduceMax(op.Where(profile, length - line, 0), keepdims=0)
    return op.Where(end > 0, first, 0), end


@script()
def turned(values):
    """(H, W) to (W, H)."""
    return op.Transpose(values, perm=[1, 0])


def as_model(function: OnnxFunction, input_types: list, output_types: list) -> onnx.ModelProto:
    """A graph of the function and of all that it calls, in opset 18."""
    model = function.to_model_proto(ir_version=IR_VERSION, input_types=input_types, output_types=output_types)
    graph = onnx_ir.from_proto(model)
    common.InlinePass()(graph)
    optimizer.fold_constants(graph, onnx_shape_inference=True)
    for tidy in TIDY:
        tidy(graph)
    model = onnx_ir.to_proto(graph)
    del model.graph.value_info[:]
    return model
