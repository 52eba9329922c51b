"""INT8 for any architecture: fake-quantised to be trained or calibrated, then converted to integers.

Integer-only inference (Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342): weights int8 in
-64 … 64 with a scale for each row, activations uint8 with a scale and a zero point for each tensor, biases int32, batch
norm folded into the layer before it. Every convolution's output is quantised, and every input of a matrix; logits and
what lies between (layer norm, softmax, GELU, the products of the attention, the steps of an LSTM) stay float.
"""

import copy

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from engine.layers import StochasticDepth
from images.normalization import CANVAS
from quantization.rounding import LSTM, Activation, Comparison, Convolution, Layer, Matrix, Observer, Weight

SAME_VALUES_MODULES = (nn.Flatten, nn.Dropout, nn.Identity, StochasticDepth)  # in evaluation mode
SAME_VALUES = {torch.flatten, "flatten", "float", "reshape", "view", "transpose", "permute", "contiguous"}
REPLACED = {nn.Conv2d: Convolution, nn.Linear: Matrix, nn.LSTM: LSTM}


class Tracer(fx.Tracer):
    """Follows a model down to the modules without parts."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return super().is_leaf_module(module, name) or not any(module.children())


def module_of(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(node.target) if node.op == "call_module" else None


def source(network: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node that made the values of this one, before others passed them on, in another shape at most."""
    while isinstance(module_of(network, node), SAME_VALUES_MODULES) or (
        node.op in {"call_method", "call_function"} and node.target in SAME_VALUES
    ):
        node = node.args[0]
    return node


def fold_batch_norms(network: fx.GraphModule) -> None:
    """Puts each batch norm that follows a convolution or a linear layer into that layer's weight and bias."""
    fold = {nn.Conv2d: fuse_conv_bn_eval, nn.Linear: fuse_linear_bn_eval}
    for node in list(network.graph.nodes):
        if isinstance(module_of(network, node), nn.BatchNorm1d | nn.BatchNorm2d):
            before = source(network, node.args[0])
            norm, layer = module_of(network, node), module_of(network, before)
            if type(layer) in fold and len(before.users) == 1 and norm.num_features == len(layer.weight):
                network.set_submodule(before.target, fold[type(layer)](layer, norm))
                node.replace_all_uses_with(node.args[0])
                network.graph.erase_node(node)


def replace_layers(network: fx.GraphModule) -> None:
    """Puts layers that round in place of PyTorch's, and a `Comparison` in place of a product of two tensors.

    A module of a model's own, if it has no parts, may say how it is quantised: its `quantized(weight)` returns the
    module that takes its place, in which `weight(table)` is the module that rounds a table (rows, …).
    """
    for node in list(network.graph.nodes):
        layer = module_of(network, node)
        if type(layer) in REPLACED:
            network.set_submodule(node.target, REPLACED[type(layer)](layer))
        elif hasattr(layer, "quantized"):
            network.set_submodule(node.target, layer.quantized(Weight))
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
            first, *others = node.users
            end = first if not others and isinstance(module_of(network, first), nn.ReLU) else node
            new = rounded_node(network, end)
            end.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
    for node in list(network.graph.nodes):
        takes_integers = isinstance(module_of(network, node), Layer | Comparison)
        if takes_integers and not isinstance(module_of(network, node.args[0]), Activation):
            node.replace_input_with(node.args[0], rounded_node(network, node.args[0]))


def rounded_node(network: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node that rounds this one's values; with the range of the tensor that they come from, if that has one."""
    for user in node.users:
        if isinstance(module_of(network, user), Activation):
            return user
    made_by = source(network, node)
    rounded = isinstance(module_of(network, made_by), Activation)
    name = made_by.target if rounded else f"{made_by.name}_range"
    if not rounded and not hasattr(network, name):
        network.add_submodule(name, Activation(of_images=made_by.op == "placeholder"))
    with network.graph.inserting_after(node):
        return network.graph.call_module(name, (node,))


def prepare(model: nn.Module) -> fx.GraphModule:
    """A copy of a float network, in evaluation mode for good, that rounds as INT8 will and can be trained."""
    model = copy.deepcopy(model).eval()
    network = fx.GraphModule(model, Tracer().trace(model))
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
    activations = [m for m in network.modules() if isinstance(m, Activation) and not m.of_images]
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


@torch.no_grad()
def convert(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of a prepared network, on the CPU, whose weights, biases and ranges are integers."""
    network = copy.deepcopy(network).cpu()
    for node in network.graph.nodes:
        layer = module_of(network, node)
        if isinstance(layer, Layer):
            layer.convert(module_of(network, node.args[0]).scale)
    for name, module in list(network.named_modules()):
        if isinstance(module, Weight | Activation):
            network.set_submodule(name, module.integers())
        elif isinstance(module, Comparison):
            module.rows.scale = torch.empty(0)
    network(torch.zeros(1, 1, CANVAS, CANVAS))  # for the scales of comparisons, whose matrix no image changes
    return network.requires_grad_(False)


def integer_model(model: nn.Module) -> fx.GraphModule:
    """The integer network of a float one, made to load a file's integers into."""
    return convert(prepare(model))
