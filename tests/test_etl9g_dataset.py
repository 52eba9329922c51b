"""The prepared dataset: rows from memory-mapped chunks, splits that part writers, and damage that is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from characters.jis import etl9g_classes
from data.prepared import CHUNK_NAME, MAPPING_FILE, METADATA_FILE, SPLITS, PreparedDataset, mapping_row, split_sets
from files.command_line import InputError

CLASSES = "あいう亜腕"


@pytest.fixture(scope="module")
def ten_sets(tiny_dataset) -> Path:
    return tiny_dataset(CLASSES, sets=10, samples_per_set=2)


@pytest.fixture
def folder(ten_sets, tmp_path) -> Path:
    """A dataset of ten sets in three chunks, for the test alone."""
    return shutil.copytree(ten_sets, tmp_path / "dataset")


def test_images_come_from_the_right_rows_of_every_chunk(folder):
    chunks = [np.load(folder / CHUNK_NAME.format(number)) for number in (1, 2, 3)]
    everything = np.concatenate([chunk["images"] for chunk in chunks])
    dataset = PreparedDataset(folder)
    assert dataset.classes == CLASSES
    assert dataset.labels.tolist() == np.concatenate([chunk["labels"] for chunk in chunks]).tolist()
    assert len(everything) == len(dataset.labels) == 100
    positions = np.array([99, 0, 39, 40, 79, 80, 40, 5])  # out of order, twice, and the ends of the chunks
    images = dataset.images(positions)
    assert images.shape == (8, 1, 64, 64)
    assert images.dtype == torch.uint8
    assert np.array_equal(images[:, 0].numpy(), everything[positions])
    assert dataset.images(np.array([], np.int64)).shape == (0, 1, 64, 64)


def test_images_are_mapped_and_not_read(folder):
    dataset = PreparedDataset(folder)
    with (folder / CHUNK_NAME.format(1)).open("rb+") as file:  # what is written later is seen: nothing was copied
        content = file.read()
        at = content.index(dataset.images(np.array([0])).numpy().tobytes())
        file.seek(at)
        file.write(bytes([123]) * 4096)
    assert (dataset.images(np.array([0])) == 123).all()


def test_splits_by_writer_share_no_set_and_lose_nothing(folder):
    dataset = PreparedDataset(folder)
    sets = {name: set(dataset.sets[dataset.splits[name].positions].tolist()) for name in SPLITS}
    assert sets["train"] | sets["validation"] | sets["test"] == set(range(10))
    assert sum(map(len, sets.values())) == 10
    assert all(sets.values())
    recorded = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))["splits"]
    for name in SPLITS:
        split = dataset.splits[name]
        assert sets[name] == set(recorded[name])
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == dataset.labels[split.positions].tolist()
        assert set(split.labels.tolist()) == set(range(5))  # every class on every side


def test_a_writer_is_a_sheet_of_a_data_set(tiny_dataset):
    dataset = PreparedDataset(tiny_dataset("あうえ亜腕漢"))
    positions = np.random.default_rng(0).permutation(len(dataset.labels))
    sheets = np.array([1, 1, 2, 1, 20, 3])[dataset.labels[positions]]  # where these characters stand in every data set
    sets, writers = dataset.sets[positions], dataset.writers(positions)
    assert len(np.unique(writers)) == 6 * 4
    for writer in np.unique(writers):
        own = writers == writer
        assert len(set(sets[own])) == len(set(sheets[own])) == 1


def test_a_random_split_takes_a_tenth_and_a_twentieth(folder, tiny_dataset):
    kanji = "".join(etl9g_classes()[100:400])
    large = PreparedDataset(tiny_dataset(kanji, sets=20, samples_per_set=1), "random")
    shares = [len(large.splits[name]) / len(large.labels) for name in SPLITS]
    assert shares == pytest.approx([0.85, 0.05, 0.1], abs=0.02)  # of 6,000; the largest standard error is 0.005
    dataset = PreparedDataset(folder, "random", seed=1)
    parts = [dataset.splits[name].positions.tolist() for name in SPLITS]
    assert sorted(position for part in parts for position in part) == list(range(100))
    again = PreparedDataset(folder, "random", seed=1)
    other = PreparedDataset(folder, "random", seed=2)
    assert [again.splits[name].positions.tolist() for name in SPLITS] == parts
    assert [other.splits[name].positions.tolist() for name in SPLITS] != parts
    writers = [set(dataset.sets[part].tolist()) for part in parts]
    assert writers[0] & writers[2]  # this is what a split by writer avoids


def test_a_sample_stays_on_its_side_when_the_dataset_grows(tiny_dataset):
    """A model of the smaller one has then not been trained on what the larger one tests with."""
    small, large = (PreparedDataset(tiny_dataset(CLASSES, sets=sets, samples_per_set=2), "random") for sets in (6, 20))
    assert large.labels[: len(small.labels)].tolist() == small.labels.tolist()
    for name in SPLITS:
        positions = large.splits[name].positions
        assert positions[positions < len(small.labels)].tolist() == small.splits[name].positions.tolist()
        assert len(small.splits["test"])


@pytest.mark.parametrize(("count", "validation", "test"), [(3, 1, 1), (4, 1, 1), (19, 1, 1), (20, 1, 2), (200, 10, 20)])
def test_split_sets(count, validation, test):
    splits = split_sets(list(range(count)))
    assert (len(splits["validation"]), len(splits["test"])) == (validation, test)


@pytest.mark.parametrize("sets", [range(4, 12), range(20), range(40, 100), range(12)])
def test_a_set_stays_on_its_side_when_others_come_or_go(sets):
    whole, splits = split_sets(list(range(200))), split_sets(list(sets))
    assert not set(splits["train"]) & {*whole["validation"], *whole["test"]}


def test_no_split_is_ever_empty_or_shared():
    for count in range(3, 201):
        sets = [4 * i for i in range(count)]  # numbers may have gaps
        splits = split_sets(sets)
        assert all(splits.values())
        assert sorted(splits["train"] + splits["validation"] + splits["test"]) == sets


@pytest.mark.parametrize("count", [0, 1, 2])
def test_one_or_two_sets_cannot_be_split(count, tiny_dataset):
    assert split_sets(list(range(count))) == {"train": list(range(count)), "validation": [], "test": []}
    if count:
        folder = tiny_dataset(sets=count)
        with pytest.raises(InputError, match=r"too few data sets to split by writer .* --split random"):
            PreparedDataset(folder)
        assert len(PreparedDataset(folder, "random").splits["train"])


Damage = Callable[[Path], None]  # does it to a folder
ONE, TWO, THREE = (CHUNK_NAME.format(number) for number in (1, 2, 3))


def arrays(chunk: str, compressed: bool = False, **changes: np.ndarray) -> Damage:
    """A chunk with some of its arrays replaced."""

    def apply(folder: Path) -> None:
        with np.load(folder / chunk) as old:
            content = {name: old[name] for name in old.files} | changes
        (np.savez_compressed if compressed else np.savez)(folder / chunk, **content)

    return apply


def cut(chunk: str, begin: int, end: int | None) -> Damage:
    return lambda folder: (folder / chunk).write_bytes((folder / chunk).read_bytes()[begin:end])


def flipped(folder: Path, name: str) -> None:
    """One bit of an array in the second chunk; its checksum stays."""
    content, values = (folder / TWO).read_bytes(), np.load(folder / TWO)[name]
    at = content.index(values.tobytes())
    (folder / TWO).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def swapped(folder: Path) -> None:
    content = (folder / ONE).read_bytes()
    (folder / TWO).replace(folder / ONE)
    (folder / TWO).write_bytes(content)


def claimed(name: str) -> Damage:
    """The header of an array claims ten gigabytes."""

    def apply(folder: Path) -> None:
        whole, shape = (folder / ONE).read_bytes(), str(np.load(folder / ONE)[name].shape).encode()
        huge = b"(9999999999, 64, 64)" if name == "images" else b"(9999999999,)"
        at = whole.index(shape, whole.index(f"{name}.npy".encode()))
        content = whole[:at] + huge + whole[at + len(shape) :].replace(b" " * (len(huge) - len(shape)), b"", 1)
        assert len(content) == len(whole)
        (folder / ONE).write_bytes(content)

    return apply


WRONG = "chunk_01.npz is damaged"
CHUNKS: list[tuple[Damage, str]] = [
    (arrays(TWO, labels=np.full(40, 5, np.int16)), f"the labels and {MAPPING_FILE} disagree"),
    (arrays(TWO, labels=np.full(40, -1, np.int16)), f"the labels and {MAPPING_FILE} disagree"),
    (arrays(ONE, compressed=True), "chunk_01.npz is compressed: make it again"),
    (arrays(ONE, images=np.zeros((40, 32, 32), np.uint8)), WRONG),
    (arrays(ONE, images=np.zeros((39, 64, 64), np.uint8)), WRONG),
    (arrays(ONE, images=np.zeros((40, 64, 64), np.uint16)), WRONG),
    (arrays(ONE, images=np.zeros((40, 64, 64), np.int8)), WRONG),
    (arrays(ONE, images=np.zeros((64, 64, 40), np.uint8).T), WRONG),
    (arrays(ONE, sets=np.zeros(41, np.int16)), WRONG),
    (arrays(ONE, sets=np.zeros(40, "U1")), WRONG),
    (arrays(ONE, labels=np.zeros(40)), WRONG),
    (arrays(ONE, labels=np.zeros((40, 1), np.int16)), WRONG),
    (arrays(ONE, labels=np.array([{}] * 40, object)), WRONG),
    (lambda folder: np.savez(folder / ONE, images=np.zeros((40, 64, 64), np.uint8)), WRONG),
    (cut(ONE, 0, 0), WRONG),
    (cut(ONE, 0, 5000), WRONG),
    (cut(ONE, 0, -1), r"chunk_01.npz is damaged \(.*run scripts/prepare_dataset.py again"),
    (cut(ONE, 9, None), WRONG),
    (swapped, "chunk_01.npz holds data sets of another raw file"),
    *((claimed(name), rf"{WRONG} \({name} is not what its header says\)") for name in ("images", "labels", "sets")),
    (lambda folder: flipped(folder, "labels"), r"chunk_02.npz is damaged \(labels does not fit its checksum\)"),
]


@pytest.mark.parametrize(("damage", "message"), CHUNKS)
def test_a_damaged_chunk(damage, message, folder):
    damage(folder)
    with pytest.raises(InputError, match=message):
        PreparedDataset(folder)


def test_images_are_compared_with_their_checksums_if_asked(folder):
    flipped(folder, "images")
    dataset = PreparedDataset(folder)
    with pytest.raises(InputError, match=r"chunk_02.npz is damaged \(images does not fit its checksum\)"):
        dataset.check_images()


@pytest.mark.parametrize("name", [TWO, MAPPING_FILE, METADATA_FILE])
def test_a_missing_file(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r": run scripts/prepare_dataset.py --output-dir"):
        PreparedDataset(folder)


@pytest.mark.parametrize("name", [MAPPING_FILE, METADATA_FILE])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (b"[]", "it is a list"),
        (b"{}", "is missing"),
        (b"\xff\xfe", ""),
        (b'{"classes": 3, "files": 3}', "not iterable"),
        (b'{"classes": ' + b"[" * 100_000, "recursion"),
        (b"{}" + b" " * 17_000_000, "more than 16,000,000 bytes"),
    ],
    ids=lambda value: f"{value[:20]}",
)
def test_json_that_is_damaged(name, content, reason, folder):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is damaged \(.*{reason}.*\): prepare it again"):
        PreparedDataset(folder)


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


FILES, SETS = "no files, a file twice, or files of other names", "the splits are not lists of data sets"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": []}, FILES),
        ({"files": [{"file": "ETL9G_01/../../ETL9G_02"}]}, FILES),
        ({"files": [{"file": "ETL9G_01"}, {"file": "ETL9G_01"}]}, FILES),
        ({"files": {"file": "ETL9G_01"}}, "indices"),
        ({"splits": {}}, "'train' is missing"),
        ({"splits": {"train": [0, 1], "validation": [2], "test": [1]}}, SETS),  # a writer on two sides
        ({"splits": {"train": [0, 1.5], "validation": [2], "test": [3]}}, SETS),
        ({"splits": {"train": "0", "validation": [2], "test": [3]}}, SETS),
        ({"source": None}, "its source is no text"),
        ({"classes": 6}, f"it has 6 classes, {MAPPING_FILE} 5"),
    ],
)
def test_metadata_that_makes_no_sense(change, reason, folder):
    change_json(folder / METADATA_FILE, lambda metadata: metadata.update(change))
    with pytest.raises(InputError, match=rf"metadata.json is damaged \(.*{reason}.*\): prepare it again"):
        PreparedDataset(folder)


def test_metadata_that_does_not_fit_the_chunks(folder):
    change_json(folder / METADATA_FILE, lambda metadata: metadata["splits"]["train"].remove(3))
    with pytest.raises(InputError, match=r"has data set 3 in no split"):
        PreparedDataset(folder)
    change_json(folder / METADATA_FILE, lambda metadata: metadata.update(samples=101))
    with pytest.raises(InputError, match=r"not whole: 100 samples are there, metadata.json names 101"):
        PreparedDataset(folder)


OTHERS = "at label {} has the label or the codes of another character"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.append(mapping_row(5, "あ")), "it names no class, or one twice"),
        (lambda rows: rows.clear(), "it names no class, or one twice"),
        (lambda rows: rows.reverse(), "腕 " + OTHERS.format(0)),
        (lambda rows: rows.pop(0), "い " + OTHERS.format(0)),
        (lambda rows: rows[2].update(character="え"), "え " + OTHERS.format(2)),
        (lambda rows: rows[2].update(code_point="U+3048"), "う " + OTHERS.format(2)),
        (lambda rows: rows[2].update(jis="0x2428"), "う " + OTHERS.format(2)),
        (lambda rows: rows[2].update(character="うえ"), "'うえ' at label 2 is no character"),
        (lambda rows: rows[2].update(character="\ud842"), "at label 2 is no character"),
        (lambda rows: rows[2].update(character=3), "3 at label 2 is no character"),
        (lambda rows: rows[3].pop("character"), "'character' is missing"),
        (lambda rows: rows.insert(0, None), "NoneType"),
    ],
)
def test_a_mapping_that_contradicts_itself(change, reason, folder):
    change_json(folder / MAPPING_FILE, lambda content: change(content["classes"]))
    with pytest.raises(InputError, match=f"{MAPPING_FILE} is damaged .*{reason}"):
        PreparedDataset(folder)


@pytest.mark.parametrize(("split", "seed"), [("sets", 0), (None, 0), ("random", "0"), ("random", -1), ("writer", 0.5)])
def test_a_split_that_there_is_none_of(split, seed, folder):
    with pytest.raises(InputError, match="split by writer or random"):
        PreparedDataset(folder, split, seed)
