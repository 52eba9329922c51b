"""Codes, component sets and the published lists of held-out classes."""

from collections import Counter

import numpy as np
import pytest

from characters.jis import etl9g_classes
from characters.kinds import is_hiragana
from files.command_line import InputError
from structure.codes import (
    HELD_OUT,
    component_sequences,
    component_sets,
    encode,
    held_out,
    nodes_of,
    symbols_of,
)
from structure.table import StructureTable, structure_table
from structure.trees import ARRANGEMENTS, Node, parse

LEFT, RIGHT, TOP, BOTTOM = 1, 2, 3, 4  # sides, by the order of ARRANGEMENTS


def test_a_tree_on_a_binary_tree_by_hand():
    assert nodes_of(parse("⿰言⿱五口")) == [
        (0, 0, 0, "⿰"),
        (1, LEFT, LEFT, "言"),
        (2, RIGHT, RIGHT, "⿱"),
        (5, TOP, RIGHT, "五"),
        (6, BOTTOM, RIGHT, "口"),
    ]
    assert nodes_of(Node("一")) == [(0, 0, 0, "一")]


def decode(codes, row: int, symbols: list[str]) -> set[tuple]:
    """The nodes of a code, from its numbers alone."""
    numbers = [number for number in codes.members[row] if number < len(codes.kinds)]
    return {(*map(int, codes.kinds[number][:3]), symbols[codes.kinds[number][3]]) for number in numbers}


def test_a_code_says_all_of_a_tree():
    table = structure_table()
    symbols = symbols_of(table)
    codes = encode(etl9g_classes(), table, symbols)
    for row in range(0, len(etl9g_classes()), 97):
        assert decode(codes, row, symbols) == set(nodes_of(table.tree(etl9g_classes()[row])))
    assert len({row.tobytes() for row in np.sort(codes.members)}) == len(etl9g_classes())
    assert codes.members.itemsize == codes.kinds.itemsize == 2


def test_two_characters_with_one_code_are_refused():
    table = StructureTable({"語": parse("⿰言五"), "誤": parse("⿰言五")}, {})
    with pytest.raises(InputError, match="誤 and 語 have the same code"):
        encode("語誤", table, [*ARRANGEMENTS, "言", "五"])


def test_an_unknown_component_is_refused():
    table = structure_table()
    symbols = [symbol for symbol in symbols_of(table) if symbol != "青"]
    with pytest.raises(InputError, match="晴 has the component 青"):
        encode("語晴", table, symbols)


def test_components_as_sets_and_sequences():
    components, sets = component_sets("品晴語", structure_table())
    assert {components[i] for i in np.flatnonzero(sets[0])} == {"口"}
    assert {components[i] for i in np.flatnonzero(sets[1])} == {"日", "青"}
    sequences = component_sequences("品晴語", structure_table(), components)
    assert [[components[i - 1] for i in row if i] for row in sequences] == [
        ["口"] * 3,
        ["日", "青"],
        ["言", "五", "口"],
    ]


@pytest.mark.parametrize("count", HELD_OUT)
def test_the_published_lists(count):
    """They hold kanji made of parts, each of whose components is left in the classes that are shown."""
    characters = held_out(count, etl9g_classes())
    assert len(characters) == len(set(characters)) == count
    trees = structure_table().trees
    left = Counter(leaf for char, node in trees.items() if char not in characters for leaf in set(node.leaves()))
    for char in characters:
        assert not is_hiragana(char)
        assert trees[char].parts
        assert all(left[leaf] >= 2 for leaf in trees[char].leaves()), char


def test_the_shorter_list_is_part_of_the_longer():
    assert set(held_out(500, etl9g_classes())) < set(held_out(1000, etl9g_classes()))
    assert held_out(0, etl9g_classes()) == ""


def test_lists_that_do_not_exist_or_do_not_fit_are_refused():
    with pytest.raises(InputError, match="500 or 1000 held-out classes, not of 7"):
        held_out(7, etl9g_classes())
    with pytest.raises(InputError, match=r"held_out_500\.txt names ., which is not among the 4 classes"):
        held_out(500, "語晴清青")
