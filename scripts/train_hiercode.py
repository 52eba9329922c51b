"""Train HierCode (arXiv:2403.13761): characters recognised by their parts.

    python scripts/train_hiercode.py --data-dir dataset

Every character has a code: the nodes of its tree (structure/codes.py). Components and places have learned vectors; a
character's prototype is the sum over its nodes of component times place, and the picture's feature is compared with
all prototypes. A code, without a picture, is enough to be recognised: add_classes.py adds characters.

From the paper: trees on a binary tree as multi-hot codes, prototypes instead of a classifier, classes never seen.
This project's reading: trees from KanjiVG instead of ideographic description sequences, prototypes as sums of products
compared by the cosine, and the light convolutional network in front.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from engine.architecture import Architecture
from engine.layers import convolutional_features, scaled
from engine.training import train
from files.command_line import InputError
from optimization_config import OptimizationConfig, option
from structure.codes import PLACES, SIDES, encode, nodes_of, symbols_of
from structure.kanjivg import has_strokes, kanjivg_version
from structure.trees import table_for

WIDTHS = (32, 64, 96, 128, 160)
TABLES = ("components", "places", "sides", "first_sides")  # of learned vectors


@dataclass
class HierCodeConfig(OptimizationConfig):
    width: float = option(1.0, "factor on the number of channels", within="(0, inf)")
    dimensions: int = option(256, "of the feature and the prototypes", within="[1, inf)")
    code_dropout: float = option(0.1, "share of a code's nodes left out in a step", within="[0, 1)")


class Codes(nn.Module):
    """The codes of the classes: `kinds` (k, 4), every distinct node; `members` (classes, most), the nodes of each."""

    def __init__(self, classes: str):
        super().__init__()
        self.symbols = symbols_of(classes)
        self.register_buffer("kinds", torch.empty(0))
        self.register_buffer("members", torch.empty(0))
        self.set_classes(classes)
        self.register_load_state_dict_pre_hook(_check_codes)

    def set_classes(self, classes: str) -> None:
        """Makes these the classes, whatever they were: only their codes are needed. Raises InputError for a character
        without a decomposition or with a component that the model has no vector of."""
        self.classes, codes = classes, encode(classes, table_for(classes), self.symbols)
        self.kinds, self.members = (torch.from_numpy(numbers).to(self.kinds.device) for numbers in codes)

    def nodes(self, table: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """A vector (k, dimensions) for every distinct node; `table` gives each of TABLES."""
        place, side, first, symbol = self.kinds.long().T.contiguous()
        where = F.embedding(place, table("places")) + F.embedding(side, table("sides"))
        return F.embedding(symbol, table("components")) * (where + F.embedding(first, table("first_sides")))

    def sums(self, nodes: torch.Tensor) -> torch.Tensor:
        """A vector (classes, dimensions) for every class: the sum of its nodes'."""
        nodes = F.pad(nodes, (0, 0, 0, 1))  # the filling counts nothing
        return sum(nodes[column] for column in self.members.long().unbind(1))


def _check_codes(codes: Codes, state: dict, prefix: str, *_) -> None:
    """Refuses weights that were trained with other codes than those of the table in force."""
    theirs = {name: state.get(prefix + name, own) for name, own in codes.named_buffers()}
    if not all(torch.equal(theirs[name].long().cpu(), own.long().cpu()) for name, own in codes.named_buffers()):
        raise RuntimeError(f"its codes are not those of the structure table of KanjiVG {kanjivg_version()}")


class Prototypes(Codes):
    """A vector (classes, dimensions) for every class, made from its code."""

    def __init__(self, classes: str, dimensions: int, dropout: float):
        super().__init__(classes)
        self.dropout = dropout
        self.components = nn.Parameter(0.1 * torch.randn(len(self.symbols), dimensions))
        self.places = nn.Parameter(1 + 0.3 * torch.randn(PLACES, dimensions))
        self.sides = nn.Parameter(0.3 * torch.randn(SIDES, dimensions))
        self.first_sides = nn.Parameter(0.3 * torch.randn(SIDES, dimensions))

    def quantized(self, weight: Callable[[torch.Tensor], nn.Module]) -> nn.Module:
        """The same with tables that `weight` makes (what quantization.network asks of a module of its own kind)."""
        return RoundedPrototypes(self, weight)

    def forward(self) -> torch.Tensor:
        nodes = self.nodes(lambda name: getattr(self, name))
        if not self.training:
            return self.sums(nodes)
        members = self.members.long()
        real = members < len(nodes)
        kept = (torch.rand(int(real.sum()), device=nodes.device) >= self.dropout).float()
        ends = real.sum(dim=1).cumsum(0)
        starts = F.pad(ends, (1, -1))
        return F.embedding_bag(members[real], nodes, starts, mode="sum", per_sample_weights=kept)


class RoundedPrototypes(nn.Module):
    """Prototypes whose tables are modules that round."""

    def __init__(self, prototypes: Prototypes, weight: Callable[[torch.Tensor], nn.Module]):
        super().__init__()
        self.tables = nn.ModuleDict({name: weight(getattr(prototypes, name)) for name in TABLES})
        self.codes = Codes(prototypes.classes)

    def forward(self) -> torch.Tensor:
        return self.codes.sums(self.codes.nodes(lambda name: self.tables[name]()))


class HierCode(nn.Module):
    """float32 (N, 1, 64, 64), ink 1 on paper 0, to logits (N, classes)."""

    def __init__(self, config: HierCodeConfig, classes: str):
        super().__init__()
        self.config = config
        widths = scaled(WIDTHS, config.width)
        self.features = convolutional_features(widths)
        # Each dimension looks at one mixture of channels through its own 4 x 4 window: a light kind of full matrix.
        self.describe = nn.Sequential(
            nn.Conv2d(widths[-1], config.dimensions, 1, bias=False),
            nn.BatchNorm2d(config.dimensions),
            nn.ReLU(),
            nn.Conv2d(config.dimensions, config.dimensions, 4, groups=config.dimensions, bias=False),
            nn.Flatten(),
            nn.BatchNorm1d(config.dimensions),
        )
        self.prototypes = Prototypes(classes, config.dimensions, config.code_dropout)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        feature = F.normalize(self.describe(self.features(images)).float(), dim=1)
        prototypes = self.frozen if hasattr(self, "frozen") else self.prototypes()
        return self.log_scale.exp() * F.linear(feature, F.normalize(prototypes, dim=1))

    def freeze(self) -> None:
        """Makes the prototypes once for all pictures: the weights change no more."""
        if hasattr(self, "prototypes"):
            self.frozen = nn.Parameter(self.prototypes())
            del self.prototypes

    def addable(self, characters: str) -> str:
        """Those of the characters that are no classes yet and of which the model has learned every component."""
        codes, drawn = self.prototypes, "".join(filter(has_strokes, dict.fromkeys(characters)))
        learned = {codes.symbols[number] for number in set(codes.kinds[:, 3].tolist())}
        table = table_for(codes.classes).extended(drawn)
        symbols = {char: {symbol for *_, symbol in nodes_of(table.tree(char))} for char in drawn}
        return "".join(char for char in drawn if char not in codes.classes and symbols[char] <= learned)

    def add_classes(self, characters: str) -> str:
        """Adds classes by their codes alone, at the end, and returns all classes; characters that are classes already
        change nothing. Raises InputError for a character without a decomposition or with a component of no class."""
        codes, learned = self.prototypes, set(self.prototypes.kinds[:, 3].tolist())
        before = len(codes.classes)
        codes.set_classes(codes.classes + "".join(dict.fromkeys(c for c in characters if c not in codes.classes)))
        for char, nodes in zip(codes.classes[before:], codes.members[before:].long(), strict=True):
            if new := set(codes.kinds[nodes[nodes < len(codes.kinds)], 3].tolist()) - learned:
                raise InputError(f"{char} has the component {codes.symbols[min(new)]}, which the model never learned")
        return codes.classes

    def restricted(self, classes: str) -> "HierCode":
        """A model of these of its classes alone, with the same logits for them. Raises InputError for another one."""
        if lacking := set(classes) - set(self.prototypes.classes):
            raise InputError(f"{min(lacking)} is not among the model's {len(self.prototypes.classes):,} classes")
        smaller, weights = HierCode(self.config, classes), self.state_dict()
        rows = [self.prototypes.symbols.index(symbol) for symbol in smaller.prototypes.symbols]
        weights["prototypes.components"] = weights["prototypes.components"][rows]
        weights |= {f"prototypes.{name}": numbers for name, numbers in smaller.prototypes.named_buffers()}
        smaller.load_state_dict(weights)
        return smaller.eval()


ARCHITECTURE = Architecture("hiercode", HierCodeConfig, HierCode)

if __name__ == "__main__":
    train(ARCHITECTURE)
