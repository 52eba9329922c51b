"""The decomposition trees: characters worked out by hand, properties of the whole table, the cache, the command."""

from pathlib import Path

import pytest

import character_structure
from characters.jis import etl9g_classes
from script_runs import run_script
from structure import trees
from structure.codes import PLACES, nodes_of
from structure.trees import ARRANGEMENTS, WORTH_KNOWING, build_table, structure_table

SCRIPT = Path(character_structure.__file__)


@pytest.fixture(scope="module")
def table():
    return build_table(etl9g_classes())  # not from the cache, which knows nothing of changes to the code


# By hand, from looking at the characters; the pieces of 衣, 行 and 二 are put together. 曖 is not in the table.
BY_HAND = """
語⿰言⿱五口 晴⿰日青 清⿰氵青 道⿴⻌首 国⿴囗⿴王丶 間⿴門日 庵⿴广⿱大电 裏⿱衣里 術⿴行⿴木丶 品⿱口⿰口口
器⿱⿰口口⿱大⿰口口 響⿱⿰⿰乡艮⻏音 警⿱⿰⿱艹句攵言 凶⿴凵乂 一一 本本 ああ が⿻か゛ ぱ⿻は゜ 曖⿰日⿱⺤⿱⿻冖心夂
"""


def test_trees_worked_out_by_hand(table):
    assert [f"{entry[0]}{table.tree(entry[0])}" for entry in BY_HAND.split()] == BY_HAND.split()


def test_every_class_has_a_tree_of_its_own(table):
    assert list(table.trees) == list(etl9g_classes())
    assert len({str(node) for node in table.trees.values()}) == len(table.trees)
    assert max(place for node in table.trees.values() for place, *_ in nodes_of(node)) == PLACES - 1
    assert not set("".join(table.components())) & set(ARRANGEMENTS)


def test_components_are_worth_knowing(table):
    """Strokes without a name of their own are components only where several characters share them."""
    components = table.components()
    for name in components:
        if "㇀" <= name[0] <= "㇣":
            assert table.shared_by[name] >= WORTH_KNOWING // 2, name
    assert len(components) < 600
    assert sum(components.values()) == sum(len(set(node.leaves())) for node in table.trees.values())
    assert components["口"] > 200
    assert table.tree("青").parts  # a component of others, itself taken apart


def test_two_that_kanjivg_builds_alike_become_their_own_components():
    alike = build_table("己巳語").trees
    assert (str(alike["己"]), str(alike["巳"])) == ("己", "巳")


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    structure_table.cache_clear()
    yield tmp_path
    structure_table.cache_clear()


def test_the_table_is_built_once_and_then_read(fresh_cache, monkeypatch):
    built = structure_table("語晴")
    (file,) = fresh_cache.rglob("*.txt")
    assert "CC BY-SA 3.0" in file.read_text(encoding="utf-8")
    structure_table.cache_clear()
    monkeypatch.setattr(trees, "build_table", lambda characters: pytest.fail("built again"))
    assert structure_table("語晴") == built


def test_a_damaged_cache_is_built_again(fresh_cache):
    built = structure_table("語晴")
    (file,) = fresh_cache.rglob("*.txt")
    good = file.read_bytes()
    for broken in (b"", b"{", b"\xff\xfe", good[:-9], good.replace("⿰".encode(), "⿱".encode())):
        file.write_bytes(broken)
        structure_table.cache_clear()
        assert structure_table("語晴") == built
        assert file.read_bytes() == good


def test_a_home_that_cannot_be_written_to_is_no_obstacle(fresh_cache, monkeypatch):
    blocked = fresh_cache / "a file, not a folder"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert str(structure_table("晴").tree("晴")) == "⿰日⿱龶月"  # few share 青 here


def test_the_command(table):
    shown = run_script(SCRIPT, "晴", "語")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[:3] == ["晴  ⿰日青", "   ⿰ left-right", f"      日 in {table.components()['日']} characters"]
    assert "語  ⿰言⿱五口" in lines
    refused = run_script(SCRIPT, "🈚")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: KanjiVG has no decomposition of 🈚 (U+1F21A)\n"
    assert run_script(SCRIPT).returncode == 2
