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

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_weights, fuse_linear_bn_weights

from engine.layers import StochasticDepth
from images.normalization import CANVAS
from quantization.integers import row_scales, to_integers
from quantization.layers import LSTM, Comparison, Convolution, Integers, Layer, Matrix, Weight, convert_layer
from quantization.ranges import Activation, Observer, Uint8Activation

SAME_VALUES_MODULES = (nn.Flatten, nn.Dropout, nn.Identity, StochasticDepth)  # in evaluation mode
SAME_VALUES_METHODS = {"flatten", "float", "reshape", "view", "transpose", "permute", "contiguous"}
REPLACED = {nn.Conv2d: Convolution, nn.Linear: Matrix, nn.LSTM: LSTM}


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
        foldable = isinstance(layer, nn.Conv2d | nn.Linear) and len(before.users) == 1
        if not foldable or norm.num_features != len(layer.weight):
            continue
        fold = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        layer.weight, layer.bias = fold(layer.weight, layer.bias, *statistics)
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
            convert_layer(layer, module_of(network, node.args[0]).scale)
    for name, module in list(network.named_modules()):
        if isinstance(module, Weight):
            scale = row_scales(module.value)
            network.set_submodule(name, Integers(to_integers(module.value, scale), scale))
        elif isinstance(module, Activation):
            network.set_submodule(name, Uint8Activation(module.scale, module.zero_point))
    comparisons = [module for module in network.modules() if isinstance(module, Comparison)]
    hooks = [comparison.register_forward_pre_hook(keep_scales) for comparison in comparisons]
    network(torch.zeros(1, 1, CANVAS, CANVAS))  # whatever the images, a comparison's matrix is the same
    for hook in hooks:
        hook.remove()
    return network.requires_grad_(False)


def keep_scales(comparison: Comparison, inputs: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Gives a comparison the scale of each row of the matrix that it takes."""
    comparison.rows.scale = row_scales(inputs[1])


def integer_model(model: nn.Module) -> fx.GraphModule:
    """The integer network of a float one, made to load a file's integers into."""
    return convert(prepare(model))
