"""Class lists as text files: what they hold, a dataset drawn for one, and models whose classes begin with others'."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from characters.class_lists import LISTS, class_list
from characters.jis import etl9g_classes, row_of_jis
from characters.kinds import detailed_kind, level_2, of_script
from characters.same_shape import group_numbers, groups, twins
from data import drawn
from data.prepared import PreparedDataset, map_member
from engine import training
from engine.pretrained import copy_weights
from evaluation.measurement import evaluate_file
from files.command_line import InputError
from handwriting import standin
from images.normalization import normalize_frames
from script_runs import run_script
from structure.codes import encode, symbols_of
from structure.kanjivg import has_strokes
from structure.trees import structure_table, table_for
from test_evaluate import linear_model
from tiny_training import config
from train_etl9g_model import ARCHITECTURE, CNN, CNNConfig
from train_hiercode import HierCode, HierCodeConfig

JOYO_OUTSIDE = "曖彙鬱楷諧毀嗅惧憬錮傲刹恣摯𠮟羞箋踪緻嘲塡貪丼剝訃璧哺頰喩瘍拉辣慄籠"  # of the list of 2010


def test_the_lists_hold_what_the_standards_say():
    lists = {name: class_list(name) for name in LISTS}
    assert lists["etl9g"] == etl9g_classes()
    assert {c for c in lists["joyo"] if detailed_kind(c).endswith("kanji") or "level 2" in detailed_kind(c)} == {
        *etl9g_classes()[71:],
        *JOYO_OUTSIDE,
    }
    kanji = "".join(row_of_jis(row) for row in range(0x30, 0x75))
    assert len(kanji) == 6355
    assert set(kanji) | set(row_of_jis(0x24) + row_of_jis(0x25)) | set("ゔー") == set(lists["jis"])
    assert set("0123456789azAZ々𠮟") < set(lists["all"])
    assert set("⺉亻\uf92e゛") & set(lists["all"]) == set()  # radicals, parts, compatibility forms, marks alone
    assert set(lists["etl9g"]) < set(lists["joyo"]) and set(lists["kana"]) < set(lists["jis"]) < set(lists["all"])
    for characters in lists.values():
        assert len(set(characters)) == len(characters)
        assert all(map(has_strokes, characters))
    assert all(lists[name].startswith(etl9g_classes()) for name in ("joyo", "jis", "all"))


def test_a_list_of_ones_own(tmp_path):
    (tmp_path / "more.txt").write_text("\ufeff髙 か\u3099\n", encoding="utf-8")
    own = tmp_path / "own.txt"
    own.write_text("# mine\n+ more.txt\nあが 漢 # twice: が\n+ kana", encoding="utf-8")
    characters = class_list(str(own))
    assert characters[:4] == "髙があ漢"
    assert set(characters) == set(class_list("kana")) | set("髙漢")
    own.write_text("+ kana\n- more.txt\nー\n", encoding="utf-8")
    assert set(class_list(str(own))) == set(class_list("kana")) - {"が"}
    with pytest.raises(InputError, match=r"髙 \(U\+9AD9\)"):
        drawn.check_drawable("髙" + characters)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# nothing\n", "lists no characters"),
        (b"\xff\xfe", "no text in UTF-8"),
        ("か\u3099 \u3099".encode(), r"U\+3099, which is no character that can be written by itself"),
        (b"+ own.txt\n", "includes itself"),
    ],
)
def test_what_is_no_list_is_refused(content, said, tmp_path):
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        class_list(str(tmp_path / "own.txt"))
    with pytest.raises(FileNotFoundError, match="one of etl9g, kana, joyo, jis, all"):
        class_list("jiss")


def test_groups_of_one_shape_by_hand():
    assert group_numbers("ロ一口囗人ー").tolist() == [0, 1, 0, 0, 4, 1]
    assert (twins("口"), twins("人")) == ("ロ囗", "")
    assert set("".join(groups())) <= set(class_list("all"))
    assert all(len(group) > 1 and reason for group, reason in groups().items())
    assert group_numbers(etl9g_classes()).tolist() == [*range(len(etl9g_classes()))]  # it has none of one shape


def test_kinds_and_scripts():
    assert [detailed_kind(c) for c in "あアー亜弌𠮟A1々"] == [
        *("hiragana", "katakana", "katakana", "kanji", "kanji of level 2", "rarer kanji", "Latin, digits"),
        *("Latin, digits", "marks"),
    ]
    assert [of_script(s, "あアー亜弌A1") for s in ("kana", "kanji", "latin", "1亜x")] == ["あアー", "亜弌", "A1", "亜1"]


def test_every_class_has_a_code_and_those_of_etl9g_keep_theirs():
    classes = class_list("all")
    table, symbols = table_for(classes), symbols_of(classes)
    kinds, members = encode(classes, table, symbols)  # refuses two characters with one code
    assert len(members) == len(classes)
    assert symbols[: len(symbols_of())] == symbols_of()
    assert {char: table.trees[char] for char in etl9g_classes()} == structure_table().trees
    own, own_members = encode(etl9g_classes(), structure_table(), symbols_of())
    assert np.array_equal(kinds[: len(own)], own)
    inside = own_members < len(own)
    assert np.array_equal(members[: len(own_members), : own_members.shape[1]][inside], own_members[inside])
    assert str(table.tree("嗚")) == "嗚"  # built like 鳴, which came first
    assert set(level_2()) <= set(classes)


@pytest.mark.parametrize("model", [CNN, HierCode])
def test_more_classes_begin_with_the_weights_of_fewer(model, tmp_path):
    few, more = "あ一人語", "あ一人語ア弌籠𠮟"
    settings = {"width": 0.25, "embedding": 16} if model is CNN else {"width": 0.25, "dimensions": 16}
    kind = CNNConfig if model is CNN else HierCodeConfig
    old, new = model(kind(**settings), few), model(kind(**settings), more)
    left = copy_weights(new, more, {"classes": few, "model": old.state_dict(), "script": ""}, tmp_path)
    images = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(new.eval()(images)[:, :4], old.eval()(images))
    assert left  # what has rows for the new ones is named
    other = model(kind(**settings), "人一あ語ア弌籠")
    before = other.state_dict()
    copy_weights(other, "人一あ語ア弌籠", {"classes": few, "model": old.state_dict(), "script": ""}, tmp_path)
    changed = [name for name in left if not torch.equal(before[name], other.state_dict()[name])]
    assert changed == []  # another order: no row is another character's


@pytest.fixture
def own_list(tmp_path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("あア亜弌A1々っ", encoding="utf-8")
    return path


def prepare(tmp_path: Path, *words: object):
    return run_script("prepare_dataset", *words, "--output-dir", tmp_path / "dataset", cwd=tmp_path)


def test_a_dataset_is_drawn_for_a_list_and_trained_on(own_list, tmp_path):
    done = prepare(tmp_path, "--synthetic", 3, "--characters", own_list, "--seed", 5)
    assert (done.returncode, done.stderr) == (0, "")
    assert "KanjiVG stand-in, drawn: 24 images of 8 characters, split by writer" in done.stdout
    dataset = PreparedDataset(tmp_path / "dataset")
    assert dataset.classes == "あア亜弌A1々っ"
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [8, 8, 8]
    assert dataset.metadata["generator"].endswith("/5")
    mapping = json.loads((tmp_path / "dataset" / "character_mapping.json").read_text(encoding="utf-8"))["classes"]
    assert [row["jis"] for row in mapping] == [
        *("0x2422", "0x2522", "0x3021", "0x5021", None, None, "0x2139", "0x2443")
    ]
    chunks = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").glob("*.npz")}
    assert prepare(tmp_path, "--synthetic", 3, "--seed", 5).returncode == 0  # the dataset knows its classes
    assert chunks == {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").glob("*.npz")}
    assert prepare(tmp_path, "--synthetic", 4, "--seed", 6).returncode == 0
    assert not chunks.keys() & {*(tmp_path / "dataset").glob("*.npz")}  # other people take their place

    settings = {"fresh": 1, "drawing_processes": 1, "batch_size": 4, "epochs": 1}
    training.fit(ARCHITECTURE, config(tmp_path / "dataset", tmp_path / "models", **settings))
    result = evaluate_file(tmp_path / "models" / "best_kanji_model.pth", tmp_path, tmp_path / "dataset")
    assert {*result["kinds"]} == {"hiragana", "katakana", "kanji", "kanji of level 2", "Latin, digits", "marks"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--characters", "missing.txt"), "missing.txt is missing: give a text file of characters, or one of"),
        (("--synthetic", 3, "--characters", "own.txt"), r"KanjiVG has no strokes for 髙 (U+9AD9)"),
        (("--synthetic", 0), "--synthetic"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words, said, tmp_path):
    (tmp_path / "own.txt").write_text("あ髙", encoding="utf-8")
    (tmp_path / "ETL9G").mkdir()
    done = prepare(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "dataset" / "metadata.json").exists()


def test_another_list_than_the_datasets_is_refused(own_list, tmp_path):
    assert prepare(tmp_path, "--synthetic", 3, "--characters", own_list).returncode == 0
    done = prepare(tmp_path, "--synthetic", 3, "--characters", "kana")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has 8 other classes than --characters: give another --output-dir" in done.stderr


def test_no_set_of_a_dataset_is_one_that_training_draws(tmp_path, monkeypatch):
    numbers = []
    monkeypatch.setattr(standin, "random_of", lambda _seed, _stream, index: numbers.append(index))
    monkeypatch.setattr(standin, "new_hand", lambda rng: None)
    monkeypatch.setattr(standin, "draw_sheet", lambda *_: np.zeros((1, 127, 128), np.uint8))
    standin.draw_samples(0, drawn.APART, 0, "あ")
    assert min(numbers) == drawn.APART << 20  # blocks of 12 sets reach this after 350 million epochs
    assert normalize_frames(np.zeros((1, 127, 128), np.uint8)).max() == 0


def test_a_chunk_says_who_wrote_what(own_list, tmp_path):
    assert prepare(tmp_path, "--synthetic", 3, "--characters", own_list).returncode == 0
    writers = [map_member(path, "writers", "i") for path in sorted((tmp_path / "dataset").glob("source_*.npz"))]
    assert len(np.unique(np.concatenate(writers))) == 3 * 2  # あ and 亜 on their sheet of ETL9G, the others on one
    dataset = PreparedDataset(tmp_path / "dataset")
    assert len(np.unique(dataset.writers(np.arange(24)))) == 6


def test_top1_is_counted_by_shape_too(tmp_path, tiny_dataset):
    """A model that always says ロ, on samples of ロ, 口 and 人."""
    weights = np.zeros((3, 64, 64))
    weights[0] = 1
    folder = tiny_dataset("ロ口人")
    figures = evaluate_file(linear_model(tmp_path / "m.onnx", weights, "ロ口人"), tmp_path, folder)
    assert figures["top1"] == pytest.approx(100 / 3)
    assert figures["top1_by_shape"] == pytest.approx(200 / 3)
    assert figures["calibration"]["known_and_right"] == pytest.approx(200 / 3)
