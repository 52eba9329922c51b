"""Codes, component sets and the published list of kanji to leave out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from characters.class_lists import class_list
from characters.jis import etl9g_classes
from characters.kinds import is_hiragana
from files.command_line import InputError
from structure.codes import component_targets, encode, nodes_of, symbols_of
from structure.trees import ARRANGEMENTS, Node, StructureTable, structure_table

SCRIPTS = Path(__file__).parents[1] / "scripts"
LEFT, RIGHT, TOP, BOTTOM = 1, 2, 3, 4  # sides, by the order of ARRANGEMENTS


def test_a_tree_on_a_binary_tree_by_hand():
    assert nodes_of(structure_table().tree("語")) == [
        (0, 0, 0, "⿰"),
        (1, LEFT, LEFT, "言"),
        (2, RIGHT, RIGHT, "⿱"),
        (5, TOP, RIGHT, "五"),
        (6, BOTTOM, RIGHT, "口"),
    ]
    assert nodes_of(Node("一")) == [(0, 0, 0, "一")]


def test_a_code_says_all_of_a_tree():
    """The nodes of a tree can be read from the numbers of its code alone."""
    table = structure_table()
    symbols = symbols_of()
    kinds, members = encode(etl9g_classes(), table, symbols)
    for row, char in list(enumerate(etl9g_classes()))[::97]:
        nodes = kinds[members[row][members[row] < len(kinds)]].tolist()
        assert {(*where, symbols[number]) for *where, number in nodes} == set(nodes_of(table.tree(char)))
    assert len({row.tobytes() for row in np.sort(members)}) == len(etl9g_classes())
    assert members.itemsize == kinds.itemsize == 2


def test_two_characters_with_one_code_and_an_unknown_component_are_refused():
    tree = Node("⿰", (Node("言"), Node("五")))
    with pytest.raises(InputError, match="誤 and 語 have the same code"):
        encode("語誤", StructureTable({"語": tree, "誤": tree}, {}), [*ARRANGEMENTS, "言", "五"])
    symbols = [symbol for symbol in symbols_of() if symbol != "青"]
    with pytest.raises(InputError, match="晴 has the component 青"):
        encode("語晴", structure_table(), symbols)


def test_which_components_a_character_has():
    sets = component_targets("品晴語", structure_table())
    components = "五口日言青"  # in the order of their code points
    assert [{c for c, has in zip(components, row, strict=True) if has} for row in sets] == [
        *map(set, ("口", "日青", "言五口"))
    ]


def test_the_published_list():
    """It holds kanji made of parts, each of whose components is left in the classes that are shown."""
    characters = class_list(str(SCRIPTS / "structure/held_out_500.txt"))
    assert len(characters) == 500
    assert set(characters) < set(etl9g_classes())
    trees = structure_table().trees
    left = Counter(leaf for char, node in trees.items() if char not in characters for leaf in set(node.leaves()))
    for char in characters:
        assert not is_hiragana(char)
        assert trees[char].parts
        assert all(left[leaf] >= 2 for leaf in trees[char].leaves()), char
