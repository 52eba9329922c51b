"""The prepared dataset: rows from memory-mapped chunks, splits that part writers, and damage that is named."""

import json
import shutil
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
    with (folder / CHUNK_NAME.format(1)).open("rb+") as file:  # what is written later is seen: nothing was copied
        file.seek(file.read().index(everything[0].tobytes()))
        file.write(bytes([123]) * 4096)
    assert (dataset.images(np.array([0])) == 123).all()


def test_splits_by_writer_share_no_set_and_lose_nothing(folder):
    dataset = PreparedDataset(folder)
    recorded = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))["splits"]
    assert sorted(number for name in SPLITS for number in recorded[name]) == list(range(10))
    for name in SPLITS:
        split = dataset.splits[name]
        assert set(dataset.sets[split.positions].tolist()) == set(recorded[name])
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
    datasets = [PreparedDataset(folder, "random", seed) for seed in (1, 1, 2)]
    parts, again, other = ([data.splits[name].positions.tolist() for name in SPLITS] for data in datasets)
    assert sorted(position for part in parts for position in part) == list(range(100))
    assert parts == again != other
    writers = [set(datasets[0].sets[part].tolist()) for part in parts]
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
    sets = [4 * i for i in range(count)]  # numbers may have gaps
    splits = split_sets(sets)
    assert all(splits.values())
    assert sorted(splits["train"] + splits["validation"] + splits["test"]) == sets


@pytest.mark.parametrize("sets", [range(4, 12), range(20), range(40, 100), range(12)])
def test_a_set_stays_on_its_side_when_others_come_or_go(sets):
    whole, splits = split_sets(list(range(200))), split_sets(list(sets))
    assert not set(splits["train"]) & {*whole["validation"], *whole["test"]}


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_sets_cannot_be_split(count, tiny_dataset):
    assert split_sets(list(range(count))) == {"train": list(range(count)), "validation": [], "test": []}
    folder = tiny_dataset(sets=count)
    with pytest.raises(InputError, match=r"too few data sets to split by writer .* --split random"):
        PreparedDataset(folder)
    assert len(PreparedDataset(folder, "random").splits["train"])


ONE, TWO = (CHUNK_NAME.format(number) for number in (1, 2))


def rewrite(chunk: Path, compressed: bool = False, **changes: np.ndarray) -> None:
    """A chunk with some of its arrays replaced."""
    with np.load(chunk) as old:
        content = {name: old[name] for name in old.files} | changes
    (np.savez_compressed if compressed else np.savez)(chunk, **content)


def flip(chunk: Path, name: str) -> None:
    """One bit of an array; its checksum stays."""
    content, values = bytearray(chunk.read_bytes()), np.load(chunk)[name]
    content[content.index(values.tobytes())] ^= 1
    chunk.write_bytes(content)


def claim(chunk: Path) -> None:
    """The headers of the labels and sets say that they have ten gigabytes."""
    content = chunk.read_bytes()
    chunk.write_bytes(content.replace(b"(40,), }" + 8 * b" ", b"(9999999999,), }"))
    assert chunk.stat().st_size == len(content)


@pytest.mark.parametrize(
    "damage",
    [
        *({"images": np.zeros(s, t)} for s, t in [((40, 32, 32), "u1"), ((39, 64, 64), "u1"), ((40, 64, 64), "u2")]),
        {"images": np.zeros((64, 64, 40), np.uint8).T},  # in Fortran's order
        {"sets": np.zeros(41, np.int16)},
        {"sets": np.full(40, 4, np.int16)},  # of the second raw file
        {"labels": np.zeros(40)},
        {"labels": np.array([{}] * 40, object)},
        {"compressed": True},
        *(lambda chunk, end=end: chunk.write_bytes(chunk.read_bytes()[:end]) for end in (0, 5000, -1)),
        claim,
        lambda chunk: flip(chunk, "labels"),
        lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-3] + b"\x7f\0\0"),  # its parts begin before the file
    ],
)
def test_a_damaged_chunk(damage, folder):
    damage(folder / ONE) if callable(damage) else rewrite(folder / ONE, **damage)
    with pytest.raises(
        InputError, match=r"chunk_01.npz is damaged.*: delete it and run scripts/prepare_dataset.py again"
    ):
        PreparedDataset(folder)


def test_images_are_compared_with_their_checksums_if_asked(folder):
    flip(folder / TWO, "images")
    dataset = PreparedDataset(folder)
    with pytest.raises(InputError, match=r"chunk_02.npz is damaged \(Bad CRC"):
        dataset.check_images()


@pytest.mark.parametrize("name", [TWO, MAPPING_FILE, METADATA_FILE])
def test_a_missing_file(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r": run scripts/prepare_dataset.py --output-dir"):
        PreparedDataset(folder)


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


SETS, OTHER = "its splits do not name each data set once", f"{MAPPING_FILE} is that of another dataset"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": []}, ""),
        ({"files": {"file": "ETL9G_01"}}, "indices"),
        ({"splits": {}}, "'train' is missing"),
        ({"splits": {"train": [*range(9)], "validation": [9], "test": [1]}}, SETS),  # a writer on two sides
        ({"splits": {"train": [0, 1], "validation": [2], "test": [3]}}, SETS),
        ({"classes": 6}, OTHER),
    ],
)
def test_metadata_that_makes_no_sense(change, reason, folder):
    change_json(folder / METADATA_FILE, lambda metadata: metadata.update(change))
    with pytest.raises(InputError, match=rf"metadata.json is damaged \(.*{reason}.*\): prepare it again"):
        PreparedDataset(folder)


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_of_other_classes(label, folder):
    rewrite(folder / TWO, labels=np.full(40, label, np.int16))
    with pytest.raises(InputError, match=OTHER):
        PreparedDataset(folder)


ROWS = "a class stands there twice, or with the label or the codes of another"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.append(mapping_row(5, "あ")), ROWS),
        (lambda rows: rows.clear(), ROWS),
        (lambda rows: rows.pop(0), ROWS),
        (lambda rows: rows[2].update(character="え"), ROWS),
        (lambda rows: rows[2].update(code_point="U+3048"), ROWS),
        (lambda rows: rows[2].update(character="うえ"), ROWS),
        (lambda rows: rows[2].update(character=3), "expected str"),
        (lambda rows: rows[3].pop("character"), "'character' is missing"),
    ],
)
def test_a_mapping_that_contradicts_itself(change, reason, folder):
    change_json(folder / MAPPING_FILE, lambda content: change(content["classes"]))
    with pytest.raises(InputError, match=f"{MAPPING_FILE} is damaged .*{reason}"):
        PreparedDataset(folder)


@pytest.mark.parametrize(("split", "seed"), [("sets", 0), ("random", "0"), ("random", -1)])
def test_a_split_that_there_is_none_of(split, seed, folder):
    with pytest.raises(InputError, match="split by writer or random"):
        PreparedDataset(folder, split, seed)
