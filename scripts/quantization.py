"""INT8 for any architecture: fake-quantised to be trained or calibrated, then converted to integers.

The scheme is that of integer-only inference (Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018,
arXiv:1806.08342): weights int8 in -64 … 64 with a scale for each row, activations uint8 with a scale and a zero point
for each tensor, biases int32, batch norm with frozen statistics folded into the layer before it. The range of an
activation is the one with the least squared error over the calibration images. Logits are never quantised.

`prepare` traces a model and replaces its layers; weights, biases and ranges are small modules of their own, of which
`convert` makes integers. Every convolution's output is quantised, and every input of a matrix; what lies between
(layer norm, softmax, GELU, the products of the attention, the steps of an LSTM) stays float.
"""

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_weights, fuse_linear_bn_weights

import checkpoints
from command_line import InputError, first_line
from etl9g_dataset import PreparedDataset
from layers import StochasticDepth
from normalization import CANVAS
from optimization_config import OptimizationConfig, restored
from train_hiercode import Prototypes
from training import Architecture

# Processors without VNNI add two products of a weight and an activation in 16 bits and saturate, silently: two times 64
# times 255 is below 2^15.
LARGEST_WEIGHT = 64
LARGEST_ACTIVATION = 255
LARGEST_BIAS = 2**30
SMALLEST_SCALE = 1e-9
BINS = 2048  # of the histogram of an activation
NARROWEST = 0.3  # share of the whole range that is tried
CALIBRATION_BATCH = 128

SAME_VALUES_MODULES = (nn.Flatten, nn.Dropout, nn.Identity, StochasticDepth)  # in evaluation mode
SAME_VALUES_METHODS = {"flatten", "float", "reshape", "view", "transpose", "permute", "contiguous"}


def row_scales(weight: torch.Tensor) -> torch.Tensor:
    """The scale (rows,) of each row of a weight (rows, …): its largest value becomes 64."""
    return (weight.detach().flatten(1).abs().amax(dim=1) / LARGEST_WEIGHT).clamp(min=SMALLEST_SCALE)


def to_integers(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """int8 (rows, …) of a weight and the scale (rows,) of its rows."""
    scale = scale.view(-1, *[1] * (weight.ndim - 1))
    return (weight.detach() / scale).round().clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT).to(torch.int8)


def from_integers(integers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight that these integers and scales of rows stand for."""
    return integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))


def fake_quantize_rows(weight: torch.Tensor) -> torch.Tensor:
    """A weight rounded as int8 would round it; the gradient passes as if it were not."""
    scale = row_scales(weight)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT)


class Weight(nn.Module):
    """A trainable weight (rows, …), seen as int8 will see it."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value = nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))

    def forward(self) -> torch.Tensor:
        return fake_quantize_rows(self.value)


class Int8Weight(nn.Module):
    """A weight as int8 (rows, …) and the scale (rows,) of each row."""

    def __init__(self, integers: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)

    def forward(self) -> torch.Tensor:
        return from_integers(self.integers, self.scale)


class Bias(nn.Module):
    """A trainable bias (rows,); int32 is so fine that its rounding need not be trained."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())

    def forward(self) -> torch.Tensor:
        return self.value


class Int32Bias(nn.Module):
    """A bias as int32 (rows,), in units of input scale times weight scale: those of the sum it is added to."""

    def __init__(self, integers: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)

    def forward(self) -> torch.Tensor:
        return self.integers.float() * self.scale


class Rows(nn.Module):
    """A matrix that is computed anew each time, seen as int8 will see it."""

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return fake_quantize_rows(matrix)


class Int8Rows(nn.Module):
    """A matrix that is computed from a file's tables, rounded to int8 by the scale (rows,) of each row."""

    def __init__(self, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return from_integers(to_integers(matrix, self.scale), self.scale)


class Observer:
    """The histogram of an activation: first its extremes, then, after `settle`, the counts between them."""

    def __init__(self) -> None:
        self.low, self.high, self.counts = 0.0, 0.0, None

    def add(self, x: torch.Tensor) -> None:
        if self.counts is None:
            low, high = x.detach().aminmax()
            self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        elif self.high > self.low:
            self.counts += torch.histc(x.detach().float().cpu(), BINS, self.low, self.high).double().numpy()

    def settle(self) -> None:
        self.counts = np.zeros(BINS)

    def best_range(self) -> tuple[float, float]:
        """The range around 0 within which 256 steps have the least squared error."""
        if not self.high > self.low:
            return 0.0, 1.0
        edges = np.linspace(self.low, self.high, BINS + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        highs = self.high * np.linspace(NARROWEST, 1, 36) if self.high else [0.0]
        lows = self.low * np.linspace(NARROWEST, 1, 36) if self.low else [0.0]
        tried = [(low, high) for low in lows for high in highs]
        return min(tried, key=lambda ends: self._error(centres, *ends))

    def _error(self, centres: np.ndarray, low: float, high: float) -> float:
        step = (high - low) / LARGEST_ACTIVATION
        zero = np.round(-low / step)
        rounded = (np.clip(np.round(centres / step) + zero, 0, LARGEST_ACTIVATION) - zero) * step
        return float(((rounded - centres) ** 2 * self.counts).sum())


class Activation(nn.Module):
    """Rounds a tensor to the 256 steps of its range; -8 … 8 until `calibrate` finds a better one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))
        self.observer: Observer | None = None
        self.observed = True
        self.set_range(-8.0, 8.0)

    def set_range(self, low: float, high: float) -> None:
        """Makes this the range, moved a little so that 0 is exactly one of the steps."""
        scale = max((high - low) / LARGEST_ACTIVATION, SMALLEST_SCALE)
        self.scale.fill_(scale)
        self.zero_point.fill_(round(-low / scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.observer is not None:
            self.observer.add(x)
            return x
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, 0, LARGEST_ACTIVATION)


class Uint8Activation(nn.Module):
    """Rounds a tensor as QuantizeLinear does: divided, to the nearest even, clipped to 0 … 255."""

    def __init__(self, scale: torch.Tensor, zero_point: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point.to(torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        zero = self.zero_point.float()
        return (((x / self.scale).round() + zero).clamp(0, LARGEST_ACTIVATION) - zero) * self.scale


class Convolution(nn.Module):
    """A convolution whose weight and bias are modules."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.weight = Weight(layer.weight)
        self.bias = Bias(torch.zeros(layer.out_channels) if layer.bias is None else layer.bias)
        self.settings = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight(), self.bias(), *self.settings)


class Matrix(nn.Module):
    """A linear layer whose weight (out, in) and bias are modules."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.weight = Weight(layer.weight)
        self.bias = Bias(torch.zeros(layer.out_features) if layer.bias is None else layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight(), self.bias())


class Comparison(nn.Module):
    """x (N, width) times each row of a matrix (classes, width) that is itself computed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = Rows()

    def forward(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.rows(matrix))


class LSTM(nn.Module):
    """An LSTM of one layer, batch first, with rounded weights and float steps: (N, steps, in) to (N, steps, out)."""

    def __init__(self, layer: nn.LSTM):
        super().__init__()
        if layer.num_layers != 1 or not layer.batch_first or not layer.bias or layer.proj_size:
            raise ValueError("only an LSTM of one layer, batch first, with biases and without projection is known")
        self.hidden_size, self.bidirectional = layer.hidden_size, layer.bidirectional
        self.ways = nn.ModuleList()
        for way in ("", "_reverse")[: 1 + layer.bidirectional]:
            weights = (Weight(getattr(layer, f"weight_{kind}_l0{way}")) for kind in ("ih", "hh"))
            biases = (Bias(getattr(layer, f"bias_{kind}_l0{way}")) for kind in ("ih", "hh"))
            self.ways.append(nn.ModuleList([*weights, *biases]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        start = x.new_zeros(len(self.ways), len(x), self.hidden_size)
        flat = [part() for way in self.ways for part in way]
        learns = torch.is_grad_enabled()  # cuDNN goes back only through what it computed as training
        states, *last = torch.lstm(x, (start, start), flat, True, 1, 0.0, learns, self.bidirectional, True)
        return states, tuple(last)


TABLES = ("components", "places", "sides", "first_sides")


class RoundedPrototypes(nn.Module):
    """Trained prototypes whose tables are rounded to int8; their codes, and the check of them, are theirs."""

    components, places, sides, first_sides = (property(lambda self, name=name: self.tables[name]()) for name in TABLES)
    kinds, members = (property(lambda self, name=name: getattr(self.codes, name)) for name in ("kinds", "members"))
    forward = Prototypes.forward

    def __init__(self, prototypes: Prototypes):
        super().__init__()
        self.tables = nn.ModuleDict({name: Weight(getattr(prototypes, name)) for name in TABLES})
        for name in TABLES:
            delattr(prototypes, name)
        self.codes = prototypes


REPLACED = {nn.Conv2d: Convolution, nn.Linear: Matrix, nn.LSTM: LSTM, Prototypes: RoundedPrototypes}


class Tracer(fx.Tracer):
    """Follows a model down to the modules without parts."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return super().is_leaf_module(module, name) or not any(module.children())


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(node.target) if node.op == "call_module" else None


def same_values(network: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node passes its input's values on, in another shape at most."""
    if node.op == "call_method":
        return node.target in SAME_VALUES_METHODS
    return isinstance(module_of(network, node), SAME_VALUES_MODULES) or node.target is torch.flatten


def source(network: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node that made the values of this one."""
    while same_values(network, node):
        node = node.args[0]
    return node


def fold_batch_norms(network: fx.GraphModule) -> None:
    """Puts each batch norm that follows a convolution or a linear layer into that layer's weight and bias."""
    for node in list(network.graph.nodes):
        norm = module_of(network, node)
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        before = source(network, node.args[0])
        layer = module_of(network, before)
        if not isinstance(layer, nn.Conv2d | nn.Linear) or len(before.users) != 1:
            continue
        if norm.num_features != layer.weight.shape[0]:
            continue
        fold = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
        layer.weight, layer.bias = fold(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        node.replace_all_uses_with(node.args[0])
        network.graph.erase_node(node)


def replace_layers(network: fx.GraphModule) -> None:
    """Puts this module's layers in place of PyTorch's, and a `Comparison` in place of a product of two tensors."""
    for node in list(network.graph.nodes):
        layer = module_of(network, node)
        if type(layer) in REPLACED:
            network.set_submodule(node.target, REPLACED[type(layer)](layer))
        elif node.op == "call_function" and node.target is F.linear and len(node.args) == 2:
            network.add_submodule(node.name, Comparison())
            with network.graph.inserting_after(node):
                new = network.graph.call_module(node.name, node.args)
            node.replace_all_uses_with(new)
            network.graph.erase_node(node)


def insert_activations(network: fx.GraphModule) -> None:
    """Rounds what convolutions give, and what convolutions, matrices and comparisons take, each tensor once."""
    for node in list(network.graph.nodes):
        if isinstance(module_of(network, node), Convolution):
            users = list(node.users)
            followed = len(users) == 1 and isinstance(module_of(network, users[0]), nn.ReLU)
            end = users[0] if followed else node
            new = rounded_node(network, end)
            end.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
    for node in list(network.graph.nodes):
        if isinstance(module_of(network, node), Convolution | Matrix | Comparison):
            taken = node.args[0]
            if not isinstance(module_of(network, taken), Activation):
                node.replace_input_with(taken, rounded_node(network, taken))


def rounded_node(network: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node that rounds this one's values; with the range of the tensor that they come from, if that has one."""
    for user in node.users:
        if isinstance(module_of(network, user), Activation):
            return user
    made_by = source(network, node)
    if isinstance(module_of(network, made_by), Activation):
        name = made_by.target
    else:
        name = f"{made_by.name}_range"
        if not hasattr(network, name):
            network.add_submodule(name, Activation())
        if made_by.op == "placeholder":  # an image: ink 1, paper 0, and no need to look
            network.get_submodule(name).set_range(0.0, 1.0)
            network.get_submodule(name).observed = False
    with network.graph.inserting_after(node):
        return network.graph.call_module(name, (node,))


def prepare(model: nn.Module) -> fx.GraphModule:
    """A copy of a float model, in evaluation mode for good, that computes as INT8 will and can be trained."""
    return prepare_in_place(copy.deepcopy(model))


def prepare_in_place(model: nn.Module) -> fx.GraphModule:
    """prepare, of a model that nobody needs any more."""
    model.eval()
    network = fx.GraphModule(model, Tracer().trace(model), "Int8" + type(model).__name__)
    fold_batch_norms(network)
    replace_layers(network)
    insert_activations(network)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    return network.eval()


@torch.no_grad()
def calibrate(network: fx.GraphModule, batches: list[torch.Tensor]) -> None:
    """Finds the range of every activation on these batches of images float32 (n, 1, 64, 64); then ranges stay."""
    activations = [m for m in network.modules() if isinstance(m, Activation) and m.observed]
    for activation in activations:
        activation.observer = Observer()
    for batch in batches:
        network(batch)
    for activation in activations:
        activation.observer.settle()
    for batch in batches:
        network(batch)
    for activation in activations:
        activation.set_range(*activation.observer.best_range())
        activation.observer = None


def convert(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of a prepared network whose weights, biases and ranges are integers."""
    return convert_in_place(copy.deepcopy(network).cpu())


@torch.no_grad()
def convert_in_place(network: fx.GraphModule) -> fx.GraphModule:
    """convert, of a network on the CPU that nobody needs any more."""
    for node in network.graph.nodes:
        layer = module_of(network, node)
        if isinstance(layer, Convolution | Matrix):
            convert_layer(layer, module_of(network, node.args[0]).scale)
    for name, module in list(network.named_modules()):
        if isinstance(module, Weight):
            scale = row_scales(module.value)
            network.set_submodule(name, Int8Weight(to_integers(module.value, scale), scale))
    compared = {}
    hooks = [
        m.register_forward_pre_hook(lambda module, inputs: compared.update({module: row_scales(inputs[1])}))
        for m in network.modules()
        if isinstance(m, Comparison)
    ]
    network(torch.zeros(1, 1, CANVAS, CANVAS))
    for hook in hooks:
        hook.remove()
    for comparison, scale in compared.items():
        comparison.rows = Int8Rows(scale)
    for name, module in list(network.named_modules()):
        if isinstance(module, Activation):
            network.set_submodule(name, Uint8Activation(module.scale, module.zero_point))
    return network.requires_grad_(False)


def convert_layer(layer: Convolution | Matrix, input_scale: torch.Tensor) -> None:
    """Makes a layer's weight int8 and its bias int32, with scales so large that the bias has room."""
    bias = layer.bias.value
    scale = torch.maximum(row_scales(layer.weight.value), bias.abs() / (input_scale * LARGEST_BIAS))
    layer.weight = Int8Weight(to_integers(layer.weight.value, scale), scale)
    bias_scale = input_scale * scale
    layer.bias = Int32Bias((bias.double() / bias_scale.double()).round().to(torch.int32), bias_scale)


def float_model_of(facts: dict, path: Path) -> tuple[Architecture, OptimizationConfig]:
    """The architecture and the settings that a float model's file names."""
    architecture = checkpoints.architecture_of(facts["script"], path)
    if architecture.name == "qat":
        raise InputError(f"{path} is quantised already: give a float model")
    try:
        return architecture, restored(architecture.config, facts["config"])
    except ValueError as error:
        raise InputError(f"{path} names settings that make no sense ({first_line(error)})") from None


def load_float(path: Path) -> tuple[nn.Module, dict]:
    """A trained float model and what its file says of it. Raises InputError for one that is quantised already."""
    model, facts = checkpoints.load_trained(path)
    if "quantization" in facts or facts["script"] == "train_qat":
        raise InputError(f"{path} is quantised already: give a float model")
    return model, facts


def calibration_images(dataset: PreparedDataset, count: int, held_out: str = "", seed: int = 0) -> list[torch.Tensor]:
    """Batches of training images float32 (n, 1, 64, 64), as many of each class as of any other, none held out."""
    split, random = dataset.splits["train"], np.random.default_rng(seed)
    shown = np.array([char not in held_out for char in dataset.classes])
    order = random.permutation(np.flatnonzero(shown[split.labels.numpy()]))
    labels = split.labels.numpy()[order]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.empty(len(order), np.int64)  # this sample is the how-manieth of its class
    turn[by_class] = np.arange(len(order)) - starts
    chosen = order[np.argsort(turn, kind="stable")[:count]]
    batches = np.array_split(split.positions[chosen], -(-len(chosen) // CALIBRATION_BATCH))
    return [dataset.images(positions).float() / 255 for positions in batches]


def integer_model(model: nn.Module) -> fx.GraphModule:
    """The integer network of a model that is used up, its integers yet to be loaded."""
    return convert_in_place(prepare_in_place(model))


def save_quantized(path: Path, network: fx.GraphModule, facts: dict, how: dict) -> None:
    """Writes a converted network with what its float model's file says about itself, and how it was quantised."""
    told = {name: facts.get(name) for name in ("script", "config", "classes", "source", "generator", "metrics")}
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoints.save(path, told | {"quantization": how, "model": tensors})


def load_quantized(path: Path) -> tuple[fx.GraphModule, dict]:
    """An INT8 file: the network that computes with its integers, and what the file says about itself.

    Raises InputError for a model file of another kind.
    """
    network, facts = checkpoints.load_trained(path)
    if "quantization" not in facts:
        raise InputError(
            f"{path} is a float model: make it INT8 with scripts/quantize_model.py or scripts/train_qat.py"
        )
    return network, facts
