"""The table of the trees of a set of characters, built from KanjiVG once and kept in the user's cache."""

import contextlib
import functools
import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from characters.jis import etl9g_classes
from files.atomic import write_text
from files.command_line import InputError
from structure.kanjivg import kanjivg_version
from structure.trees import DEEPEST, INSIDE, OVERLAP, WORTH_KNOWING, Node, parse, read_groups, tree_of

VERSION = 2  # of the rules and the file here; a cached table of another version is not read


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
    shared_by = Counter(name for char in characters for name in read_groups(char)[0].names())
    trees = {char: tree_of(char, shared_by) for char in characters}
    number = Counter(map(str, trees.values()))
    return StructureTable({c: node if number[str(node)] == 1 else Node(c) for c, node in trees.items()}, shared_by)


def cache_file(characters: str) -> Path:
    """Where the table of these characters is kept between runs: named by all that it depends on."""
    depends_on = json.dumps([VERSION, WORTH_KNOWING, DEEPEST, OVERLAP, INSIDE, kanjivg_version(), characters])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etl9g-character-structure"
    return folder / f"{hashlib.sha256(depends_on.encode()).hexdigest()[:16]}.txt"


def _load(path: Path) -> StructureTable | None:
    """The table in a cache file; None if the file is missing or damaged."""
    try:
        digest, content = path.read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):
        return None
    if digest != hashlib.sha256(content.encode()).hexdigest():
        return None
    table = json.loads(content)
    return StructureTable({char: parse(text) for char, text in table["trees"].items()}, table["shared_by"])


@functools.cache
def structure_table(characters: str = "") -> StructureTable:
    """The table of these characters (default: ETL9G's), from the cache or built and put there."""
    characters = characters or etl9g_classes()
    path = cache_file(characters)
    if table := _load(path):
        return table
    try:
        table = build_table(characters)
    except KeyError as error:
        raise InputError(str(error.args[0])) from None
    source = f"KanjiVG {kanjivg_version()}, CC BY-SA 3.0"
    trees = {char: str(node) for char, node in table.trees.items()}
    content = json.dumps({"source": source, "trees": trees, "shared_by": table.shared_by}, ensure_ascii=False, indent=0)
    with contextlib.suppress(OSError):  # in a home that cannot be written to the table is built each time, in seconds
        write_text(path, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")
    return table
