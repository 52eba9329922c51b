"""The network of this folder, with PyTorch and safetensors alone.

    from modeling import Model

    model = Model(".")
    logits = model(images)  # float32 (N, 1, 64, 64), ink 1 on paper 0, to (N, classes)
    characters = [model.classes[number] for number in logits.argmax(1)]

It computes what the toolkit's training scripts define; the toolkit compared the two when it made the folder.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

STRIDES = (2, 2, 1, 1, 2, 1, 2)  # of the convolutions that the CNN, the radical RNN and HierCode begin with


class Model:
    """The model of a folder on a device: `classes`, `settings`, `weights`, and the logits of images.

    Raises FileNotFoundError for a folder without the model, KeyError for a model that this file does not know."""

    def __init__(self, folder: str | Path = ".", device: str = "cpu"):
        facts = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.classes, self.settings = facts["classes"], facts["config"]
        self.weights = load_file(Path(folder) / "model.safetensors", device)
        self.forward = NETWORKS[facts["script"]]

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward(images, self.weights, self.settings)


def linear(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def batch_norm(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    return F.batch_norm(x, *(weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def layer_norm(x: torch.Tensor, weights: dict, name: str) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def convolutions(x: torch.Tensor, weights: dict, name: str, strides: tuple[int, ...] = STRIDES) -> torch.Tensor:
    """3 x 3 convolutions with batch norm and ReLU."""
    for number, stride in enumerate(strides):
        x = F.conv2d(x, weights[f"{name}.{number}.0.weight"], stride=stride, padding=1)
        x = F.relu(batch_norm(x, weights, f"{name}.{number}.1"))
    return x


def embedding(x: torch.Tensor, weights: dict) -> torch.Tensor:
    return batch_norm(linear(x.flatten(1), weights, "embed.1"), weights, "embed.2")


def cnn(images: torch.Tensor, weights: dict, settings: dict) -> torch.Tensor:
    return linear(embedding(convolutions(images, weights, "features"), weights), weights, "classify.1")


def prototypes(weights: dict) -> torch.Tensor:
    """HierCode's vector for each class: the sum over the nodes of its tree of component times place."""
    tables = [weights[f"prototypes.{name}"] for name in ("places", "sides", "first_sides", "components")]
    numbers = weights["prototypes.kinds"].long().T
    place, side, first, symbol = (table[number] for table, number in zip(tables, numbers, strict=True))
    nodes = F.pad(symbol * (place + side + first), (0, 0, 0, 1))  # the last one fills up short codes
    return sum(nodes[column] for column in weights["prototypes.members"].long().unbind(1))


def hiercode(images: torch.Tensor, weights: dict, settings: dict) -> torch.Tensor:
    x = F.conv2d(convolutions(images, weights, "features"), weights["describe.0.weight"])
    window = weights["describe.3.weight"]
    x = F.conv2d(F.relu(batch_norm(x, weights, "describe.1")), window, groups=len(window)).flatten(1)
    feature, classes = (F.normalize(x, dim=1) for x in (batch_norm(x, weights, "describe.5"), prototypes(weights)))
    return weights["log_scale"].exp() * F.linear(feature, classes)


def radical_rnn(images: torch.Tensor, weights: dict, settings: dict) -> torch.Tensor:
    features, hidden = convolutions(images, weights, "features"), weights["read.lstm.weight_hh_l0"].shape[1]
    lstm = nn.LSTM(features.shape[1], hidden, batch_first=True, bidirectional=True, device=images.device)
    lstm.load_state_dict({name: weights[f"read.lstm.{name}"] for name in lstm.state_dict()})
    states, _ = lstm(features.flatten(2).transpose(1, 2))
    found = linear(states, weights, "read.name").amax(dim=1)[:, 1:].sigmoid()
    both = linear(features.flatten(1), weights, "see") + linear(states.flatten(1), weights, "follow")
    return linear(batch_norm(both + linear(found, weights, "compose"), weights, "norm"), weights, "classify")


def vit(images: torch.Tensor, weights: dict, settings: dict) -> torch.Tensor:
    side, heads = settings["patch_size"], settings["heads"]
    tokens = convolutions(images, weights, "stem", (*[2] * (side.bit_length() - 2), 1, 2))
    x = tokens.flatten(2).transpose(1, 2) + weights["position"]  # (N, tokens, width)
    n, count, width = x.shape
    for name in (f"blocks.{number}" for number in range(settings["depth"])):
        qkv = linear(layer_norm(x, weights, f"{name}.norm_1"), weights, f"{name}.qkv")
        q, k, v = qkv.view(n, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        attended = (q @ k.transpose(2, 3) * (width // heads) ** -0.5).softmax(dim=3) @ v
        x = x + linear(attended.transpose(1, 2).reshape(n, count, width), weights, f"{name}.project")
        hidden = F.gelu(linear(layer_norm(x, weights, f"{name}.norm_2"), weights, f"{name}.mlp.0"))
        x = x + linear(hidden, weights, f"{name}.mlp.3")
    return linear(embedding(layer_norm(x, weights, "norm"), weights), weights, "classify")


NETWORKS = {"train_etl9g_model": cnn, "train_hiercode": hiercode, "train_radical_rnn": radical_rnn, "train_vit": vit}
