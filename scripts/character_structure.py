"""Show what characters are built of: a tree of components for each.

    python scripts/character_structure.py 鬱 語

An inner node arranges two parts: left-right ⿰, top-bottom ⿱, enclosure ⿴ (the outer part first) or overlay ⿻. A
leaf is a component: a part that several characters share, or that KanjiVG does not divide. The pieces of a split
component (衣 in 裏) are put together. Where two characters would have the same tree, each is a component of its own,
as most hiragana are. Source: KanjiVG (Ulrich Apel and contributors, CC BY-SA 3.0).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from files.command_line import parser, run
from structure.trees import ARRANGEMENTS, Node, structure_table

NAMES = dict(zip(ARRANGEMENTS, ("left-right", "top-bottom", "enclosure", "overlay"), strict=True))


def draw(node: Node, components: dict[str, int], indent: str = "   ") -> None:
    """Prints a tree, a level deeper an indent further; components with the number of characters they serve."""
    served = f"in {components.get(node.name, 0):,} characters"
    print(f"{indent}{node.name} {NAMES[node.name] if node.parts else served}")
    for part in node.parts:
        draw(part, components, indent + "   ")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("characters", nargs="+", metavar="CHARACTER", help="characters to show")
    characters, table = options.parse_args().characters, structure_table()
    components = table.components()
    for char in "".join(characters):
        node = table.tree(char)
        print(f"{char}  {node}")
        if node.parts:
            draw(node, components)


if __name__ == "__main__":
    run(main)
