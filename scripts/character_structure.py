"""How characters are built: a tree of arrangements and components for each, from KanjiVG's groups.

    python scripts/character_structure.py 鬱 語
    python scripts/character_structure.py --count

An inner node arranges two parts: left-right ⿰, top-bottom ⿱, enclosure ⿴ (the outer part first) or overlay ⿻; a
leaf is a component. A component that was split (衣 in 裏) is put together. A tree goes down to components that several
characters share, or that KanjiVG does not divide. Where two characters would have the same tree, each is its own
component, as every hiragana is but the voiced ones. Source: KanjiVG (Ulrich Apel and contributors, CC BY-SA 3.0).
"""

from collections import Counter

from files.command_line import parser, run
from structure.kanjivg import kanjivg_version
from structure.trees import ARRANGEMENTS, Node, StructureTable, structure_table

NAMES = dict(zip(ARRANGEMENTS, ("left-right", "top-bottom", "enclosure", "overlay"), strict=True))


def draw(node: Node, components: dict[str, int], indent: str = "   ") -> None:
    """Prints a tree, a level deeper an indent further; components with the number of characters they serve."""
    served = f"in {components.get(node.name, 0):,} characters"
    print(f"{indent}{node.name} {NAMES[node.name] if node.parts else served}")
    for part in node.parts:
        draw(part, components, indent + "   ")


def count(table: StructureTable, components: dict[str, int]) -> None:
    """Prints how many components there are, how deep the trees, how many characters a component serves."""
    print(f"{len(table.trees):,} characters, {len(components):,} components (KanjiVG {kanjivg_version()})")
    depths = Counter(node.depth() for node in table.trees.values())
    print("characters by depth of the tree:", ", ".join(f"{d}: {n:,}" for d, n in sorted(depths.items())))
    for low, high in ((1, 1), (2, 3), (4, 7), (8, 15), (16, 63), (64, len(table.trees))):
        serving = [name for name, n in components.items() if low <= n <= high]
        span = str(low) if low == high else f"{low} to {high:,}"
        print(f"components that serve {span:<9} {len(serving):4}: {' '.join(serving[:18])}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("characters", nargs="*", metavar="CHARACTER", help="characters to show")
    options.add_argument("--count", action="store_true", help="count components and depths")
    given = options.parse_args()
    if not given.characters and not given.count:
        options.error("name some characters, or ask for --count")
    table = structure_table()
    components = table.components()
    for char in "".join(given.characters):
        node = table.tree(char)
        print(f"{char}  {node}")
        if node.parts:
            draw(node, components)
    if given.count:
        count(table, components)


if __name__ == "__main__":
    run(main)
