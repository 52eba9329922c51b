"""How characters are built: a tree of arrangements and components for each, from KanjiVG's groups.

    python scripts/character_structure.py 鬱 語
    python scripts/character_structure.py --count

An inner node arranges two parts: left-right ⿰, top-bottom ⿱, enclosure ⿴ (the outer part first) or overlay ⿻; a
leaf is a component. The pieces of a component that was split (衣 in 裏, 行 in 街) are put together. A tree goes down to
components that WORTH_KNOWING characters share, or to what KanjiVG does not divide into parts with a name. No two
characters have the same tree: where two would, each is its own component, as every hiragana is but the voiced ones.
Source: KanjiVG (Ulrich Apel and contributors, CC BY-SA 3.0).
"""

import argparse
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atomic_file import write_text
from command_line import InputError, run
from etl9g_format import etl9g_classes
from kanjivg_strokes import BOX, flatten_paths, model_files
from plain_json import read_json

LEFT_RIGHT, TOP_BOTTOM, ENCLOSURE, OVERLAY = ARRANGEMENTS = "⿰⿱⿴⿻"
WORTH_KNOWING = 8  # a component that so many characters share is not taken apart
DEEPEST = 4  # levels below the root
OVERLAP = 0.3  # parts side by side may overlap by this share of the smaller one's extent
INSIDE = 0.85  # share of a part's box that must lie in another's for an enclosure
VERSION = 1  # of the rules here; a cached table of another version is built anew
KVG = "{http://kanjivg.tagaini.net}"
OUTER = {"tare", "nyo", "kamae"}  # positions of KanjiVG that enclose their siblings
MARKS = {"\u3099": "゛", "\u309a": "゜"}  # combining voicing marks


@dataclass(frozen=True)
class Node:
    """A part of a character: a component, or two parts in one of ARRANGEMENTS.

    A component is a character, or strokes without a name of their own, such as ㇑㇕㇐.
    """

    name: str
    parts: tuple["Node", ...] = ()

    def __str__(self) -> str:
        """An ideographic description in prefix notation; components of several strokes stand in braces."""
        name = self.name if len(self.name) == 1 else f"{{{self.name}}}"
        return name + "".join(map(str, self.parts))

    def leaves(self) -> list[str]:
        """The components in reading order."""
        return [leaf for part in self.parts for leaf in part.leaves()] or [self.name]

    def depth(self) -> int:
        return 1 + max(part.depth() for part in self.parts) if self.parts else 0


def parse(description: str) -> Node:
    """The tree that `str(node)` describes. Raises ValueError for a text that is no such description."""
    letters = iter(re.findall(r"\{[^{}]+\}|.", description))

    def read() -> Node:
        letter = next(letters)
        if letter in "{}":
            raise ValueError(f"{description!r} is not a tree: a brace stands alone")
        return Node(letter, (read(), read())) if letter in ARRANGEMENTS else Node(letter.strip("{}"))

    try:
        node = read()
    except StopIteration:
        raise ValueError(f"{description!r} is not a tree: it ends too early") from None
    if rest := "".join(letters):
        raise ValueError(f"{description!r} is not a tree: {rest!r} is too much")
    return node


@dataclass
class _Group:
    """A group of KanjiVG, or the strokes that lie loose between two groups (no element, no children)."""

    element: str | None = None
    position: str | None = None
    children: list["_Group"] = None
    strokes: list[int] = None  # numbers of the loose strokes in the character
    types: str = ""  # of the loose strokes, such as ㇐㇑

    def __post_init__(self):
        self.children, self.strokes = self.children or [], self.strokes or []

    @property
    def loose(self) -> bool:
        return not self.children and not self.element

    def all_strokes(self) -> list[int]:
        return self.strokes + [stroke for child in self.children for stroke in child.all_strokes()]

    def names(self) -> set[str]:
        """The elements, and the types of loose strokes, of this group and all within it."""
        return ({self.element or self.types} - {""}).union(*(child.names() for child in self.children))


def _read(char: str) -> tuple[_Group, np.ndarray]:
    """The groups of a character, and the box (x0, y0, x1, y1) of each of its strokes."""
    paths: list[str] = []
    split: dict[tuple, _Group] = {}  # components in several pieces, by element and number

    def walk(node) -> _Group | None:
        group, seen = _Group(node.get(KVG + "element"), node.get(KVG + "position")), False
        if part := node.get(KVG + "part"):
            key = group.element, node.get(KVG + "number")
            seen = key in split and part != "1"
            group = split[key] if seen else split.setdefault(key, group) if part != "1" else group
            split[key] = group
        for child in node:
            if not child.tag.endswith("path"):
                if inner := walk(child):
                    group.children.append(inner)
                continue
            if not group.children or not group.children[-1].loose:
                group.children.append(_Group())
            group.children[-1].strokes.append(len(paths))
            group.children[-1].types += (child.get(KVG + "type") or "?")[0]
            paths.append(child.get("d"))
        return None if seen or not group.all_strokes() else group

    top = walk(next(iter(ElementTree.parse(model_files(char)[0]).getroot().find("{*}g"))))
    points = flatten_paths(paths) / BOX
    return top, np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _arrange(parts: list[_Group], boxes: np.ndarray) -> tuple[str, list[_Group], list[_Group]]:
    """Two or more parts as an arrangement of two: by the positions that KanjiVG gives, else by where their ink is."""
    outer = [p for p in parts if p.position in OUTER]
    if outer and len(outer) < len(parts):
        return ENCLOSURE, outer, [p for p in parts if p.position not in OUTER]
    for first, second, arrangement in (("left", "right", LEFT_RIGHT), ("top", "bottom", TOP_BOTTOM)):
        if {p.position for p in parts} == {first, second}:
            return arrangement, *([p for p in parts if p.position == side] for side in (first, second))
    inks = [boxes[part.all_strokes()] for part in parts]
    spans = np.array([[*ink[:, :2].min(axis=0), *ink[:, 2:].max(axis=0)] for ink in inks])
    return _side_by_side(parts, spans) or _enclosed(parts, spans) or (OVERLAY, parts[:1], parts[1:])


def _side_by_side(parts: list[_Group], spans: np.ndarray) -> tuple[str, list[_Group], list[_Group]] | None:
    """The cut between the parts, upright or level, with the widest gap or the least overlap; None if all overlap."""
    best, widest = None, -OVERLAP
    for axis, arrangement in enumerate((LEFT_RIGHT, TOP_BOTTOM)):
        low, high = spans[:, axis], spans[:, axis + 2]
        order = np.argsort(low + high, kind="stable")
        for cut in range(1, len(parts)):
            a, b = np.sort(order[:cut]), np.sort(order[cut:])
            extent = min(high[a].max() - low[a].min(), high[b].max() - low[b].min())
            gap = (low[b].min() - high[a].max()) / max(extent, 0.05)
            if gap > widest:
                best, widest = (arrangement, [parts[i] for i in a], [parts[i] for i in b]), gap
    return best


def _enclosed(parts: list[_Group], spans: np.ndarray) -> tuple[str, list[_Group], list[_Group]] | None:
    """The part in whose box the others lie, and the others; None if there is no such part."""
    for i, own in enumerate(spans):
        others = np.delete(spans, i, axis=0)
        rest = np.array([*others[:, :2].min(axis=0), *others[:, 2:].max(axis=0)])
        shared = np.prod(np.maximum(np.minimum(own[2:], rest[2:]) - np.maximum(own[:2], rest[:2]), 0))
        area = np.prod(rest[2:] - rest[:2])
        if np.prod(own[2:] - own[:2]) > area and shared >= INSIDE * area:
            return ENCLOSURE, [parts[i]], parts[:i] + parts[i + 1 :]
    return None


def _tree(groups: list[_Group], boxes: np.ndarray, shared_by: dict[str, int], level: int = 0) -> Node | None:
    """One part of a character, made of these groups, `level` steps below the root.

    None if it would need strokes without a name that few characters share, or more levels than DEEPEST.
    """
    if len(groups) > 1:
        arrangement, *sides = _arrange(groups, boxes)
        parts = [_tree(side, boxes, shared_by, level + 1) for side in sides] if level < DEEPEST else [None]
        return Node(arrangement, tuple(parts)) if all(parts) else None
    (group,) = groups
    if group.loose:
        return Node(group.types) if shared_by.get(group.types, 0) >= WORTH_KNOWING // 2 else None
    whole = Node(group.element) if group.element else None
    known = level > 0 and shared_by.get(group.element, 0) >= WORTH_KNOWING
    if whole and (known or any(child.loose for child in group.children)):
        return whole
    return _tree(group.children, boxes, shared_by, level) or whole


def tree_of(char: str, shared_by: dict[str, int]) -> Node:
    """A character's tree; `shared_by` tells how many characters have a component.

    Raises KeyError for a character that KanjiVG lacks.
    """
    groups, boxes = _read(char)
    plain, *marks = unicodedata.normalize("NFD", char)
    if marks and marks[0] in MARKS:
        return Node(OVERLAY, (Node(plain), Node(MARKS[marks[0]])))
    return _tree([groups], boxes, shared_by) or Node(char)


@dataclass(frozen=True)
class StructureTable:
    """The trees of a set of characters, and how many of these have each named part of KanjiVG."""

    trees: dict[str, Node]
    shared_by: dict[str, int]

    def tree(self, char: str) -> Node:
        """The tree of any character, of the table or not. Raises InputError for one that has no decomposition."""
        try:
            return self.trees.get(char) or tree_of(char, self.shared_by)
        except KeyError:
            raise InputError(f"KanjiVG has no decomposition of {char} (U+{ord(char):04X})") from None

    def components(self) -> dict[str, int]:
        """Every component of the trees and how many characters it serves, the commonest first."""
        return dict(Counter(leaf for node in self.trees.values() for leaf in set(node.leaves())).most_common())


def build_table(characters: str) -> StructureTable:
    """The table of these characters, in seconds for thousands. Raises KeyError for one that KanjiVG lacks."""
    shared_by = Counter(name for char in characters for name in _read(char)[0].names())
    trees = {char: tree_of(char, shared_by) for char in characters}
    number = Counter(map(str, trees.values()))
    return StructureTable({c: node if number[str(node)] == 1 else Node(c) for c, node in trees.items()}, shared_by)


def kanjivg_version() -> str:
    return importlib.metadata.version("kanjivg")


def cache_file(characters: str) -> Path:
    """Where the table of these characters is kept between runs: named by all that it depends on."""
    depends_on = json.dumps([VERSION, WORTH_KNOWING, DEEPEST, OVERLAP, INSIDE, kanjivg_version(), characters])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etl9g-character-structure"
    return folder / f"{hashlib.sha256(depends_on.encode()).hexdigest()[:16]}.json"


def _digest(trees: dict[str, str], shared_by: dict[str, int]) -> str:
    return hashlib.sha256(json.dumps([trees, shared_by]).encode()).hexdigest()


def _load(path: Path, characters: str) -> StructureTable | None:
    """The table of these characters from its cache file; None if that is missing or damaged."""
    try:
        content = read_json(path, "")
        if content["sha256"] != _digest(content["trees"], content["shared_by"]):
            return None
        trees = {char: parse(text) for char, text in content["trees"].items()}
        whole = list(trees) == list(characters) and max(node.depth() for node in trees.values()) <= DEEPEST
        counted = all(type(count) is int for count in content["shared_by"].values())
        return StructureTable(trees, content["shared_by"]) if whole and counted else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@functools.cache
def structure_table(characters: str = "") -> StructureTable:
    """The table of these characters (default: ETL9G's), from the cache or built and put there."""
    characters = characters or etl9g_classes()
    path = cache_file(characters)
    if table := _load(path, characters):
        return table
    try:
        table = build_table(characters)
    except KeyError as error:
        raise InputError(str(error.args[0])) from None
    trees = {char: str(node) for char, node in table.trees.items()}
    content = {
        "source": f"KanjiVG {kanjivg_version()}, CC BY-SA 3.0",
        "sha256": _digest(trees, table.shared_by),
        "trees": trees,
        "shared_by": table.shared_by,
    }
    try:
        write_text(path, json.dumps(content, ensure_ascii=False, indent=0) + "\n")
    except OSError:  # a home that cannot be written to: the table is built each time, in seconds
        return table
    return table


def drawing(node: Node, table: StructureTable, indent: str = "") -> Iterator[str]:
    """A tree as lines, a level deeper an indent further; components with the number of characters they serve."""
    names = dict(zip(ARRANGEMENTS, ("left-right", "top-bottom", "enclosure", "overlay"), strict=True))
    served = table.components().get(node.name, 0)
    yield f"{indent}{node.name} {names[node.name] if node.parts else f'in {served:,} characters'}"
    for part in node.parts:
        yield from drawing(part, table, indent + "   ")


def counts(table: StructureTable) -> Iterator[str]:
    """Lines that say how many components there are, how deep the trees, how many characters a component serves."""
    components = table.components()
    yield f"{len(table.trees):,} characters, {len(components):,} components (KanjiVG {kanjivg_version()})"
    depths = Counter(node.depth() for node in table.trees.values())
    yield "characters by depth of the tree: " + ", ".join(f"{d}: {n:,}" for d, n in sorted(depths.items()))
    for low, high in ((1, 1), (2, 3), (4, 7), (8, 15), (16, 63), (64, len(table.trees))):
        serving = [name for name, n in components.items() if low <= n <= high]
        yield f"components that serve {low if low == high else f'{low} to {high:,}':<9} {len(serving):4}: " + " ".join(
            serving[:18]
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("characters", nargs="*", metavar="CHARACTER", help="characters to show")
    parser.add_argument("--count", action="store_true", help="count components and depths")
    arguments = parser.parse_args()
    if not arguments.characters and not arguments.count:
        parser.error("name some characters, or ask for --count")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    table = structure_table()
    for char in "".join(arguments.characters):
        node = table.tree(char)
        print(f"{char}  {node}")
        if node.parts:
            print("\n".join(drawing(node, table, "   ")))
    if arguments.count:
        print("\n".join(counts(table)))


if __name__ == "__main__":
    run(main)
