"""ONNX graphs written as expressions: arithmetic on an `Expression` appends the nodes that compute it.

graph = Graph("scale/")
doubled = graph.tensor("image", np.float32) * 2
"""

from collections.abc import Callable

import numpy as np
from onnx import helper, numpy_helper


class Graph:
    """Nodes and constants under construction; the names of all that it makes begin with `prefix`."""

    def __init__(self, prefix: str):
        self.prefix, self.nodes, self.constants = prefix, [], {}
        self._count, self._made = 0, {}

    def tensor(self, name: str, dtype) -> "Expression":
        """A tensor that the graph is given."""
        return Expression(self, name, dtype)

    def constant(self, value, dtype) -> "Expression":
        array = np.array(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"{self.prefix}constant_{len(self.constants)}")
        return Expression(self, self.constants[key].name, array.dtype)

    def node(self, operator: str, *inputs: "Expression", dtype=None, outputs: int = 1, **attributes):
        """The output of a node, or a list of them, with the first input's dtype unless another is given.

        A node that is there already, with the same inputs and attributes, is not made again.
        """
        names = tuple(i.name for i in inputs)
        key = (operator, names, outputs, str(sorted(attributes.items())))
        if key not in self._made:
            made = [
                Expression(self, f"{self.prefix}{self._count + i}", dtype or inputs[0].dtype) for i in range(outputs)
            ]
            self._count += outputs
            self.nodes.append(helper.make_node(operator, names, [i.name for i in made], **attributes))
            self._made[key] = made
        return self._made[key] if outputs > 1 else self._made[key][0]

    def choose(self, condition: "Expression", chosen: Callable, otherwise: Callable) -> "Expression":
        """chosen() where the condition, one bool, holds, otherwise() where not; only one of the two is computed."""
        outer_nodes, outer_made, branches = self.nodes, self._made, {}
        for name, branch in (("then_branch", chosen), ("else_branch", otherwise)):
            self.nodes, self._made = [], dict(outer_made)  # what a branch makes is not seen outside
            result = self.node("Identity", branch())  # a branch may not return a tensor from outside
            output = helper.make_tensor_value_info(result.name, helper.np_dtype_to_tensor_dtype(result.dtype), None)
            branches[name] = helper.make_graph(self.nodes, f"{self.prefix}{name}", [], [output])
        self.nodes, self._made = outer_nodes, outer_made
        return self.node("If", condition, dtype=result.dtype, **branches)

    def arange(self, stop: "Expression") -> "Expression":
        """int64 0 … stop - 1 of a scalar int64."""
        return self.node("Range", self.constant(0, np.int64), stop, self.constant(1, np.int64))


class Expression:
    """A tensor of a graph. Numbers beside it take its dtype; operators follow numpy, `@` included."""

    def __init__(self, graph: Graph, name: str, dtype: np.dtype):
        self.graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def _with(self, operator: str, other, dtype=None, swapped: bool = False) -> "Expression":
        other = other if isinstance(other, Expression) else self.graph.constant(other, self.dtype)
        if other.dtype != self.dtype:
            raise TypeError(f"{operator} of {self.dtype} and {other.dtype}")
        first, second = (other, self) if swapped else (self, other)
        return self.graph.node(operator, first, second, dtype=dtype)

    def __add__(self, other):
        return self._with("Add", other)

    def __sub__(self, other):
        return self._with("Sub", other)

    def __rsub__(self, other):
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other):
        return self._with("Mul", other)

    def __truediv__(self, other):
        return self._with("Div", other)

    def __rtruediv__(self, other):
        return self._with("Div", other, swapped=True)

    def __mod__(self, other):
        return self._with("Mod", other)

    def __matmul__(self, other):
        return self._with("MatMul", other)

    def __lt__(self, other):
        return self._with("Less", other, bool)

    def __le__(self, other):
        return self._with("LessOrEqual", other, bool)

    def __gt__(self, other):
        return self._with("Greater", other, bool)

    def __ge__(self, other):
        return self._with("GreaterOrEqual", other, bool)

    def equals(self, other) -> "Expression":
        return self._with("Equal", other, bool)

    def __and__(self, other):
        return self._with("And", other)

    def __or__(self, other):
        return self._with("Or", other)

    def __xor__(self, other):
        return self._with("Xor", other)

    def __invert__(self):
        return self.graph.node("Not", self)

    def __neg__(self):
        return self.graph.node("Neg", self)

    def __abs__(self):
        return self.graph.node("Abs", self)

    def floor(self) -> "Expression":
        return self.graph.node("Floor", self)

    def round(self) -> "Expression":
        """To the nearest whole number, halves to the even one."""
        return self.graph.node("Round", self)

    def at_least(self, other) -> "Expression":
        return self._with("Max", other)

    def at_most(self, other) -> "Expression":
        return self._with("Min", other)

    def to(self, dtype) -> "Expression":
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self if self.dtype == dtype else self.graph.node("Cast", self, dtype=dtype, to=kind)

    def where(self, chosen: "Expression", otherwise) -> "Expression":
        """`chosen` where this bool holds, `otherwise` (a number or a tensor) where not."""
        if not isinstance(otherwise, Expression):
            otherwise = self.graph.constant(otherwise, chosen.dtype)
        return self.graph.node("Where", self, chosen, otherwise, dtype=chosen.dtype)

    def _reduce(self, operator: str, axes: tuple[int, ...]) -> "Expression":
        return self.graph.node(operator, self, self.graph.constant(axes, np.int64), keepdims=1)

    def sum(self, *axes: int) -> "Expression":
        """Along these axes, which stay with the length 1; so do those of the other reductions."""
        return self._reduce("ReduceSum", axes)

    def mean(self, *axes: int) -> "Expression":
        return self._reduce("ReduceMean", axes)

    def max(self, *axes: int) -> "Expression":
        return self._reduce("ReduceMax", axes)

    def min(self, *axes: int) -> "Expression":
        return self._reduce("ReduceMin", axes)

    def any(self, *axes: int) -> "Expression":
        return self.to(np.float32).max(*axes) > 0

    def size(self, axis: int) -> "Expression":
        """The length of an axis, a scalar int64."""
        shape = self.graph.node("Shape", self, dtype=np.int64, start=axis, end=axis + 1)
        return self.graph.node("Squeeze", shape)

    def expand(self, *axes: int) -> "Expression":
        """With new axes of length 1 at these places."""
        return self.graph.node("Unsqueeze", self, self.graph.constant(axes, np.int64))

    def squeeze(self, *axes: int) -> "Expression":
        return self.graph.node("Squeeze", self, self.graph.constant(axes, np.int64))

    def transpose(self, *order: int) -> "Expression":
        return self.graph.node("Transpose", self, perm=order)

    def reshape(self, *shape: int) -> "Expression":
        return self.graph.node("Reshape", self, self.graph.constant(shape, np.int64))

    def gather(self, index: "Expression", axis: int) -> "Expression":
        return self.graph.node("Gather", self, index, axis=axis)

    def slice(self, axis: int, start, stop, step: int = 1) -> "Expression":
        """start and stop are numbers or scalar int64 tensors."""
        ends = [
            end.expand(0) if isinstance(end, Expression) else self.graph.constant([end], np.int64)
            for end in (start, stop)
        ]
        return self.graph.node(
            "Slice", self, *ends, self.graph.constant([axis], np.int64), self.graph.constant([step], np.int64)
        )


def concatenate(parts: list[Expression], axis: int) -> Expression:
    return parts[0].graph.node("Concat", *parts, axis=axis)
