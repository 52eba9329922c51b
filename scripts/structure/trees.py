"""The trees of characters: two parts in an arrangement, each a component or a tree, from KanjiVG's groups."""

import contextlib
import functools
import hashlib
import json
import os
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from characters.jis import etl9g_classes
from files.atomic import write_text
from files.command_line import InputError
from structure.kanjivg import BOX, flatten_paths, kanjivg_version, model_files

VERSION = 3  # of the rules and the cached file here; a table of another version is not read
LEFT_RIGHT, TOP_BOTTOM, ENCLOSURE, OVERLAY = ARRANGEMENTS = "⿰⿱⿴⿻"
WORTH_KNOWING = 8  # a component that at least this many characters share is not taken apart
DEEPEST = 4  # levels below the root
OVERLAP = 0.3  # parts side by side may overlap by this share of the smaller one's extent
INSIDE = 0.85  # share of a part's box that must lie in another's for an enclosure
KVG = "{http://kanjivg.tagaini.net}"
OUTER = {"tare", "nyo", "kamae"}  # positions of KanjiVG that enclose their siblings
MARKS = {"\u3099": "゛", "\u309a": "゜"}  # combining voicing marks


@dataclass(frozen=True)
class Node:
    """A part of a character: a component, or two parts in one of ARRANGEMENTS. A component is a character, or strokes
    without a name of their own, such as ㇑㇕㇐."""

    name: str
    parts: tuple["Node", ...] = ()

    def __str__(self) -> str:
        """An ideographic description in prefix notation; components of several strokes stand in braces."""
        name = self.name if len(self.name) == 1 else f"{{{self.name}}}"
        return name + "".join(map(str, self.parts))

    def leaves(self) -> list[str]:
        """The components in reading order."""
        return [leaf for part in self.parts for leaf in part.leaves()] or [self.name]


@dataclass
class _Group:
    """A group of KanjiVG, or the strokes that lie loose between two groups (no element, no children)."""

    element: str | None = None
    position: str | None = None
    children: list["_Group"] = field(default_factory=list)
    strokes: list[int] = field(default_factory=list)  # numbers of the loose strokes in the character
    types: str = ""  # of the loose strokes, such as ㇐㇑

    @property
    def loose(self) -> bool:
        return not self.children and not self.element

    def all_strokes(self) -> list[int]:
        return self.strokes + [stroke for child in self.children for stroke in child.all_strokes()]

    def groups(self) -> list["_Group"]:
        """This group and all within it, outer ones first."""
        return [self] + [group for child in self.children for group in child.groups()]

    def names(self) -> set[str]:
        """The elements, and the types of loose strokes, of this group and all within it."""
        return ({self.element or self.types} - {""}).union(*(child.names() for child in self.children))


def group_tree(whole: ElementTree.Element) -> tuple[_Group, list[str]]:
    """The groups of a KanjiVG file below its outermost one, and the paths of its strokes in their order."""
    paths: list[str] = []
    split: dict[tuple, _Group] = {}  # components in several pieces, by element and number

    def walk(node) -> _Group | None:
        group, seen = _Group(node.get(KVG + "element"), node.get(KVG + "position")), False
        if part := node.get(KVG + "part"):
            key = group.element, node.get(KVG + "number")
            if seen := part != "1" and key in split:
                group = split[key]
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

    return walk(whole), paths


def read_groups(char: str) -> tuple[_Group, np.ndarray]:
    """The groups of a character, and the box (x0, y0, x1, y1) of each of its strokes."""
    top, paths = group_tree(ElementTree.parse(model_files(char)[0]).getroot().find("{*}g/{*}g"))
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
    """These groups as a part, `level` steps below the root; None if too deep, or for unnamed strokes that are rare."""
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
    """A character's tree; `shared_by` says how many characters have a component. Raises KeyError for a character that
    KanjiVG lacks."""
    groups, boxes = read_groups(char)
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

    def extended(self, characters: str) -> "StructureTable":
        """The table with further characters, whose parts count by those that it has. One that is built like an earlier
        one is a component itself. Raises InputError for a character that has no decomposition."""
        trees, seen = dict(self.trees), set(map(str, self.trees.values()))
        for char in dict.fromkeys(characters):
            if char not in trees:
                choices = (self.tree(char), Node(char), Node(char + "′"))  # 尸 is the whole tree of 尺
                trees[char] = next(node for node in choices if str(node) not in seen)
                seen.add(str(trees[char]))
        return StructureTable(trees, self.shared_by)

    def components(self) -> dict[str, int]:
        """Every component of the trees and how many characters it serves, the commonest first."""
        return dict(Counter(leaf for node in self.trees.values() for leaf in set(node.leaves())).most_common())


def build_table(characters: str) -> StructureTable:
    """The table of these characters, in seconds for thousands. Raises KeyError for one that KanjiVG lacks."""
    shared_by = dict(Counter(name for char in characters for name in read_groups(char)[0].names()))
    trees = {char: tree_of(char, shared_by) for char in characters}
    number = Counter(map(str, trees.values()))
    return StructureTable({c: node if number[str(node)] == 1 else Node(c) for c, node in trees.items()}, shared_by)


def cache_file(characters: str, kind: str = "") -> Path:
    """Where the table of these characters is kept between runs: named by all that it depends on."""
    rules = [VERSION, WORTH_KNOWING, DEEPEST, OVERLAP, INSIDE, kanjivg_version()]
    depends_on = [*rules, characters, *filter(None, [kind])]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etl9g-character-structure"
    return folder / f"{hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]}.txt"


def _node(name: str, parts: list) -> Node:
    return Node(name, tuple(_node(**part) for part in parts))


@functools.cache
def structure_table(characters: str = "") -> StructureTable:
    """The table of these characters (default: ETL9G's), from the cache or built and put there."""
    characters = characters or etl9g_classes()
    return _kept(cache_file(characters), lambda: build_table(characters))


@functools.cache
def table_for(classes: str) -> StructureTable:
    """ETL9G's table, extended to all of these classes. Raises InputError for one that has no decomposition."""
    table = structure_table()
    if table.trees.keys() >= set(classes):
        return table
    return _kept(cache_file(classes, "extended"), lambda: table.extended(classes))


def _kept(path: Path, build: Callable[[], StructureTable]) -> StructureTable:
    """A table from its file, or built and written there."""
    with contextlib.suppress(OSError, ValueError):  # it is missing, or no text
        digest, content = path.read_text(encoding="utf-8").split("\n", 1)
        if digest == hashlib.sha256(content.encode()).hexdigest():
            table = json.loads(content)
            return StructureTable({char: _node(**node) for char, node in table["trees"].items()}, table["shared_by"])
    table = build()
    source = f"KanjiVG {kanjivg_version()}, CC BY-SA 3.0"
    content = json.dumps({"source": source} | asdict(table), ensure_ascii=False)
    with contextlib.suppress(OSError):  # in a home that cannot be written to the table is built each time, in seconds
        write_text(path, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")
    return table
