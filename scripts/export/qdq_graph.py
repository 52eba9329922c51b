"""An integer network as an ONNX graph: QuantizeLinear and DequantizeLinear around ordinary operators, which onnxruntime
fuses into QLinearConv and QGemm. What it has no integer form of, an LSTM and the tables of prototypes, is multiplied
out by Cast and Mul instead, which it does once, when the file is loaded."""

import copy
import itertools
from collections import defaultdict
from pathlib import Path

import onnx
import torch
from torch import fx, nn

from export.older_opset import downgrade
from export.onnx_file import OLDEST_OF_NEW_EXPORTER, export
from quantization import rounding
from quantization.rounding import Integers, Uint8Activation

MULTIPLIED_OUT = 2**18  # numbers: what the exporter computes of constants and stores, if it is no larger


def node(kind: str, *inputs: torch.Tensor, shape, dtype: torch.dtype = torch.float32, **attributes) -> torch.Tensor:
    """The output of one ONNX node."""
    return torch.onnx.ops.symbolic(kind, inputs, attributes, dtype=dtype, shape=shape)


class Activation(Uint8Activation):
    def __init__(self, layer: Uint8Activation):
        super().__init__(layer.scale, layer.zero_point)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        integers = node("QuantizeLinear", x, self.scale, self.zero_point, shape=x.shape, dtype=torch.uint8)
        return node("DequantizeLinear", integers, self.scale, self.zero_point, shape=x.shape)


class Constant(Integers):
    """An int8 weight or an int32 bias before its DequantizeLinear."""

    def __init__(self, constant: Integers):
        super().__init__(constant.integers, constant.scale)
        # All zero and, by the standard, needless; but onnxruntime leaves a Gemm in float without them.
        self.register_buffer("zero_point", torch.zeros_like(constant.scale, dtype=constant.integers.dtype))

    def forward(self) -> torch.Tensor:
        known = (self.scale, self.zero_point) if self.integers.dtype == torch.int8 else (self.scale,)
        return node("DequantizeLinear", self.integers, *known, shape=self.integers.shape, axis=0)


class Matrix(nn.Module):
    """A linear layer as one Gemm, which fuses with its bias; (N, tokens, width) is laid flat for it."""

    def __init__(self, layer: rounding.Matrix):
        super().__init__()
        self.weight, self.bias = Constant(layer.weight), Constant(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, width = len(self.weight.scale), x.shape[-1]
        flat = x.reshape(x.shape[0] * x.shape[1], width) if x.ndim == 3 else x
        product = node("Gemm", flat, self.weight(), self.bias(), shape=(flat.shape[0], rows), transB=1)
        return product.reshape(x.shape[0], x.shape[1], rows) if x.ndim == 3 else product


class Comparison(nn.Module):
    """Its matrix becomes int8 when the file is loaded: onnxruntime folds what hangs on constants alone."""

    def __init__(self, comparison: rounding.Comparison):
        super().__init__()
        scale = comparison.rows.scale
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int8))

    def forward(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        steps = (self.scale, self.zero_point)
        integers = node("QuantizeLinear", matrix, *steps, shape=matrix.shape, dtype=torch.int8, axis=0)
        rows = node("DequantizeLinear", integers, *steps, shape=matrix.shape, axis=0)
        return node("Gemm", x, rows, shape=(x.shape[0], matrix.shape[0]), transB=1)


class StoredComparison(nn.Module):
    """A comparison whose matrix the file has as int8, without what it is computed from."""

    def __init__(self, comparison: rounding.Comparison, matrix: torch.Tensor):
        super().__init__()
        scale = comparison.rows.scale
        self.rows = Constant(Integers(rounding.to_integers(matrix, scale), scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return node("Gemm", x, self.rows(), shape=(x.shape[0], len(self.rows.scale)), transB=1)


@torch.no_grad()
def store_small_matrices(network: fx.GraphModule) -> None:
    """Stores the matrices of comparisons, in place, where they need fewer bytes than what they are computed from, or
    where the exporter would multiply them out as float."""
    interpreter, bytes_of = fx.Interpreter(network), {}
    interpreter.env = {}
    for step in network.graph.nodes:
        inputs = step.all_input_nodes
        if step.op in {"placeholder", "output"} or not all(before in interpreter.env for before in inputs):
            continue
        tensors = network.get_submodule(step.target).state_dict().values() if step.op == "call_module" else ()
        bytes_of[step] = sum(t.numel() * t.itemsize for t in tensors) + sum(bytes_of[before] for before in inputs)
        interpreter.env[step] = interpreter.run_node(step)
    for step in network.graph.nodes:
        layer = network.get_submodule(step.target) if step.op == "call_module" else None
        matrix = step.args[1] if isinstance(layer, rounding.Comparison) else None
        if matrix in interpreter.env and interpreter.env[matrix].numel() < max(bytes_of[matrix], MULTIPLIED_OUT):
            network.set_submodule(step.target, StoredComparison(layer, interpreter.env[matrix]))
            step.args = step.args[:1]
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()


class LSTM(nn.Module):
    def __init__(self, layer: rounding.LSTM):
        super().__init__()
        self.hidden_size = layer.hidden_size
        # PyTorch's rows are those of the input, forget, cell and output gate; ONNX has input, output, forget, cell.
        order = torch.arange(4 * layer.hidden_size).view(4, -1)[[0, 3, 1, 2]].flatten()
        for i, name in enumerate(("inputs", "states")):
            self.register_buffer(name, torch.stack([way[i].integers[order] for way in layer.ways]))
            self.register_buffer(f"{name}_scale", torch.stack([way[i].scale[order, None] for way in layer.ways]))
        biases = [torch.cat([bias.value[order] for bias in way[2:]]) for way in layer.ways]
        self.register_buffer("biases", torch.stack(biases).detach())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        (n, steps, _), ways = x.shape, len(self.inputs)
        weights = (self.inputs.float() * self.inputs_scale, self.states.float() * self.states_scale)
        gates = {"hidden_size": self.hidden_size, "direction": "bidirectional" if ways == 2 else "forward"}
        shape = (steps, ways, n, self.hidden_size)
        states = node("LSTM", x.transpose(0, 1), *weights, self.biases, shape=shape, **gates)
        return states.permute(2, 0, 1, 3).reshape(n, steps, ways * self.hidden_size), None


LAYERS = {Uint8Activation: Activation, rounding.Matrix: Matrix, rounding.Comparison: Comparison, rounding.LSTM: LSTM}


def symbolic(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of an integer network whose modules write ONNX nodes instead of computing."""
    network = copy.deepcopy(network)
    store_small_matrices(network)
    for name, layer in list(network.named_modules()):
        if type(layer) in LAYERS:
            network.set_submodule(name, LAYERS[type(layer)](layer))
        elif isinstance(layer, rounding.Convolution):
            layer.weight, layer.bias = Constant(layer.weight), Constant(layer.bias)
    return network


def write(network: fx.GraphModule, path: Path, opset: int) -> None:
    """Writes an integer network as ONNX of this opset, batch dynamic, with numbers for the names of inner values."""
    export(symbolic(network), path, max(opset, OLDEST_OF_NEW_EXPORTER))
    model = onnx.load(path)
    if opset < OLDEST_OF_NEW_EXPORTER:
        model = downgrade(model, opset)
    graph, numbers = model.graph, itertools.count(1)
    names = defaultdict(lambda: str(next(numbers)), {"": "", "input_image": "input_image", "logits": "logits"})
    for constant in graph.initializer:
        constant.name = names[constant.name]
    for i, part in enumerate(graph.node):
        part.name = f"{part.op_type}_{i}"
        part.input[:] = [names[name] for name in part.input]
        part.output[:] = [names[name] for name in part.output]
    onnx.save(model, path)
