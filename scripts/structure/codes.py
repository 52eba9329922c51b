"""Character structure as numbers: codes for HierCode, components for the radical RNN.

A character's tree is laid on a binary tree. Each of its nodes becomes (place, side, first side, symbol): the place in
the binary tree (root 0, children of p at 2p + 1 and 2p + 2), which side of which arrangement the node is, the same for
its ancestor below the root (is it part of the left or of the bottom half?), and the symbol, a component or an
arrangement. The code of a character is the set of its nodes.
"""

import numpy as np

from files.command_line import InputError
from structure.trees import ARRANGEMENTS, DEEPEST, Node, StructureTable, structure_table, table_for

PLACES = 2 ** (DEEPEST + 1) - 1
SIDES = 1 + 2 * len(ARRANGEMENTS)  # 0 for the root


def symbols_of(classes: str = "") -> list[str]:
    """Every symbol of the classes' codes: the arrangements, the components of ETL9G's characters in the order of their
    code points, then further ones that these classes have, in the same order."""
    known = [*ARRANGEMENTS, *sorted(structure_table().components())]
    return known + sorted(table_for(classes).components().keys() - set(known))


def nodes_of(tree: Node, place: int = 0, side: int = 0, first: int = 0) -> list[tuple[int, int, int, str]]:
    """The nodes of a tree as (place, side, first side, symbol), the root first."""
    nodes = [(place, side, first, tree.name)]
    for which, part in enumerate(tree.parts):
        of = 1 + 2 * ARRANGEMENTS.index(tree.name) + which
        nodes += nodes_of(part, 2 * place + 1 + which, of, first or of)
    return nodes


def encode(characters: str, table: StructureTable, symbols: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The codes of n characters: `kinds` (k, 4), every distinct node as (place, side, first side, symbol number), and
    `members` (n, most), for each character the numbers of its nodes' kinds, filled up with k. The smallest signed type
    that fits. Raises InputError for a component that is not among the symbols, and for two characters with one code."""
    number = {symbol: i for i, symbol in enumerate(symbols)}
    kind_number: dict[tuple, int] = {}
    rows, seen = [], {}
    for char in characters:
        nodes = nodes_of(table.tree(char))
        if unknown := [symbol for *_, symbol in nodes if symbol not in number]:
            raise InputError(f"{char} has the component {unknown[0]}, which no character of the model's table has")
        row = [kind_number.setdefault((*where, number[symbol]), len(kind_number)) for *where, symbol in nodes]
        if (other := seen.setdefault(frozenset(row), char)) != char:
            raise InputError(f"{char} and {other} have the same code")
        rows.append(row)
    most = max(map(len, rows))
    members = np.array([row + [len(kind_number)] * (most - len(row)) for row in rows], np.int64)
    arrays = np.array(list(kind_number), np.int64).reshape(-1, 4), members
    return tuple(array.astype(np.min_scalar_type(-1 - array.max(initial=0))) for array in arrays)


def component_targets(characters: str, table: StructureTable) -> np.ndarray:
    """Which components each of n characters has, in the order of their code points: bool (n, components)."""
    leaves = [table.tree(char).leaves() for char in characters]
    components = sorted({leaf for row in leaves for leaf in row})
    return np.array([[component in row for component in components] for row in map(set, leaves)])
