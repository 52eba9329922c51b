"""The other ETL sets, written byte by byte as the specification says, since none of their files may be had: each field
at its place, the published facts, and a dataset made of them."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from characters import jis_x_0201
from characters.jis import character_of_code, jis_code
from data import etl_files, sources
from data.prepared import SPLITS, PreparedDataset
from etl_writer import SHAPES, SIZES, TYPES, Sample, record, shape
from images.normalization import normalize_frames
from records import etl_sets

CO59 = {0o0101: "一", 0o1277: "亜"}
CODES = {  # of あ or ア, or what else the set has
    **dict.fromkeys(("ETL1", "ETL4", "ETL5", "ETL6", "ETL7"), 177),
    **{name: jis_code("亜") for name in ("ETL8B2", "ETL8G", "ETL9B")},
    "ETL2": 0o1277,
    "ETL3": ord("7"),
}


def random_sample(name: str, random: np.random.Generator) -> Sample:
    height, width, darkest = SHAPES[TYPES[name]]
    numbers = {"sheet": 60000, "serial": 60000, "sex": 3, "age": 99, "industry": 9999, "occupation": 9999}
    image = random.integers(0, darkest + 1, (height, width), dtype=np.uint8)
    return Sample(CODES[name], image, **{field: int(random.integers(1, end)) for field, end in numbers.items()})


@pytest.mark.parametrize("name", etl_sets.SETS)
def test_a_record_anywhere_in_a_whole_file_is_what_was_written(name, tmp_path):
    random, kind = np.random.default_rng(list(name.encode())), etl_sets.SETS[name].kind
    for file, count in random.permutation(list(etl_sets.SETS[name].files.items()))[:3].tolist():
        place, sample = int(random.integers(int(count))), random_sample(name, random)
        with (tmp_path / file.lower()).open("wb") as stream:
            stream.truncate(int(count) * SIZES[TYPES[name]])  # takes no room
            stream.seek(place * SIZES[TYPES[name]])
            stream.write(record(TYPES[name], sample))
        records, problem = etl_sets.read_records(tmp_path / file.lower(), name)
        assert (len(records), problem) == (int(count), None)
        one = records[place : place + 1]
        assert np.array_equal(kind.frames(one)[0], sample.image)
        assert kind.codes(one).tolist() == [sample.code]
        assert kind.sheets(one).tolist() == [sample.serial if name == "ETL2" else sample.sheet]
        if TYPES[name] in "MC":
            assert kind.people(one).tolist() == [[sample.sex, sample.age, sample.industry, sample.occupation]]
        around = np.concatenate([records[max(place - 1, 0) : place], records[place + 1 : place + 2]])
        assert not kind.frames(around).any()  # not a bit of it lies beside it
        assert not kind.codes(around).any()


# Files, records without dummies, and bytes where AIST states them.
PUBLISHED = {
    "ETL1": (13, 141_319, {"ETL1C_01": 11_560 * 2052}),
    "ETL2": (5, 52_796, {}),
    "ETL3": (2, 9_600, {}),
    "ETL4": (1, 6_120, {"ETL4C": 18_066_240}),
    "ETL5": (1, 10_608, {"ETL5C": 31_314_816}),
    "ETL6": (12, 157_662, {}),
    "ETL7": (4, 2 * 16_800, {}),
    "ETL8B2": (3, 956 * 160 + 956, {"ETL8B2C1": 51_201 * 512}),
    "ETL8G": (33, 956 * 160 + 956, {"ETL8G_01": 5 * 956 * 8199}),
    "ETL9B": (5, 3036 * 200 + 3036, {"ETL9B_5": (1 + 40 * 3036 + 3036) * 576}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_records_and_bytes_are_the_published_ones(name):
    each, (files, records, sizes) = etl_sets.SETS[name], PUBLISHED[name]
    assert len(each.files) == files
    assert sum(each.files.values()) - each.dummies * files == records
    assert each.kind.record.itemsize == SIZES[TYPES[name]]
    for file, size in sizes.items():
        assert each.files[file] * each.kind.record.itemsize == size
    assert etl_sets.SETS.keys() == PUBLISHED.keys()


def test_codes_of_one_byte():
    katakana = "ヲァヰゥヱォャュョッーアイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホ"
    katakana += "マミムメモヤユヨラリルレロワン゛゜"
    assert "".join(map(jis_x_0201.character, range(0xA6, 0xE0))) == katakana
    hiragana = "".join(jis_x_0201.character(code, hiragana=True) for code in range(0xA6, 0xE0))
    assert hiragana.replace("ー", "") == "".join(
        char if char in "゛゜" else unicodedata.lookup(unicodedata.name(char).replace("KATAKANA", "HIRAGANA"))
        for char in katakana
        if char != "ー"
    )
    assert "".join(map(jis_x_0201.character, b"0A*\\~")) == "0A*¥‾"
    assert [jis_x_0201.character(code) for code in (0, 0x20, 0x7F, 0x80, 0xA0, 0xE0, 0xFF)] == [None] * 7


def test_codes_of_two_bytes():
    assert [character_of_code(code) for code in (0x3021, 0x2422, 0x4F53, 0x2122)] == list("亜あ腕、")
    assert [character_of_code(code) for code in (0, 0x2120, 0x7E7E, 0x2921, 0xB0A1, 0x30A1)] == [None] * 6


CLASSES = "アイあい一亜唖"  # of the dataset that the sets below go into
FEW = {name: each._replace(files=dict.fromkeys(each.files, 60), models={}) for name, each in etl_sets.SETS.items()}
OF_SET = {
    **dict.fromkeys(("ETL1", "ETL4", "ETL5", "ETL6", "ETL7"), (177, 178, 193)),  # the last is in no class
    **{name: tuple(map(jis_code, "亜唖腕")) for name in ("ETL8B2", "ETL8G", "ETL9B")},
    "ETL2": (0o0101, 0o1277, 0o7777),
    "ETL3": (ord("7"), ord("A"), ord("B")),
}


def write_file(path: Path, name: str, count: int = 60) -> list[Sample]:
    """A file of a few samples, every third of a character outside the classes. Ten people wrote six in a row each, on
    two sheets."""
    random, kind = np.random.default_rng(list(path.name.encode())), TYPES[name]
    samples = [
        Sample(OF_SET[name][i % 3], shape(kind, random), sheet=1 + i // 3, serial=1 + i, age=20 + i // 6)
        for i in range(count)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(record(kind, sample) for sample in samples))
    return samples


@pytest.fixture
def prepare(prepare, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """The same on small files, into a dataset of CLASSES."""
    monkeypatch.setattr(etl_sets, "SETS", FEW)
    monkeypatch.setattr(sources, "etl9g_classes", lambda: CLASSES)
    return prepare


def co59(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    text = "\n".join(f"{char}:{code >> 6},{code & 63}" for code, char in CO59.items())
    (folder / "euc_co59.dat").write_text(text, encoding="euc_jp")


@pytest.mark.parametrize("name", [name for name in etl_sets.SETS if name != "ETL3"])
def test_a_set_becomes_a_dataset(name, tmp_path, prepare):
    raw, files = tmp_path / "raw", list(FEW[name].files)[:2]
    if name == "ETL2":
        co59(raw)
    samples = [write_file(raw / file.lower(), name) for file in files]
    (raw / f"{name}INFO").write_text("what else comes with it")
    code, printed, error = prepare("--raw", raw)
    assert (code, error) == (0, "")
    dataset = PreparedDataset(tmp_path / "dataset", "random")
    first = FEW[name].dummies
    expected = [sample for part in samples for sample in part[first:] if sample.code != OF_SET[name][2]]
    assert len(dataset.labels) == len(expected)
    characters = {"ETL4": "あい", "ETL7": "あい", "ETL2": "一亜"}.get(
        name, "アイ" if OF_SET[name][0] == 0xB1 else "亜唖"
    )
    shown = dict(zip(OF_SET[name], characters, strict=False))
    assert [dataset.classes[label] for label in dataset.labels] == [shown[sample.code] for sample in expected]
    alone = np.concatenate([normalize_frames(sample.image[None]) for sample in expected])
    assert np.abs(dataset.images(np.arange(len(alone)))[:, 0].numpy().astype(int) - alone).max() <= 1
    assert dataset.source == name
    outside = {"ETL2": "code 0xFFF"}.get(name, {0xC1: "チ"}.get(OF_SET[name][2], "腕"))
    outside = "ち" if characters == "あい" else outside
    count = 20 * len(files)
    assert f"left out, of characters outside the class list: {count} ({outside} {count})" in printed
    assert f"{name}: {len(expected):,} images of 2 characters, split {FEW[name].how_split}" in printed


@pytest.mark.parametrize("name", ["ETL1", "ETL4", "ETL5", "ETL6", "ETL7", "ETL8G", "ETL9B", "ETL8B2"])
def test_no_writer_is_on_two_sides(name, tmp_path, prepare, monkeypatch):
    of_ten = {"ETL8G": (6, 10), "ETL9B": (6, 10)}  # samples of a data set, data sets of a file
    if name in of_ten:
        place = etl_sets.partial(etl_sets.by_place, size=of_ten[name][0], of_file=of_ten[name][1])
        monkeypatch.setitem(FEW, name, FEW[name]._replace(writers=place, dummies=0))
    files = list(FEW[name].files)[:2]
    for file in files:
        write_file(tmp_path / "raw" / file, name)
    assert prepare("--raw", tmp_path / "raw")[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset", "random" if name == "ETL8B2" else "writer")
    writers = dataset.writers(np.arange(len(dataset.labels)))
    # A data set and a sheet are a writer, or a sheet alone, which both files have, or a person.
    count = {"ETL8G": 40, "ETL9B": 40, "ETL5": 10, "ETL7": 10}.get(name, 20)
    assert len(np.unique(writers)) == count or name == "ETL8B2"
    if name != "ETL8B2":
        parts = [np.unique(dataset.writers(dataset.splits[split].positions)) for split in SPLITS]
        assert all(len(part) for part in parts)
        assert sum(map(len, parts)) == count


def test_the_data_sets_of_etl8b2():
    """Its records are sorted by character. Sheets tell the data sets, ten a set; where they start anew, the order."""
    kind, count = etl_sets.SETS["ETL8B2"].kind, 3 * 160
    records = np.zeros(count, kind.record)
    records["sheet"] = np.tile(10 * np.arange(160) + 4, 3)
    assert etl_sets.by_tens(records, kind, 0)[0].tolist() == [*range(160)] * 3
    records["sheet"] = 4
    assert etl_sets.by_tens(records, kind, 0)[0].tolist() == [*range(160)] * 3


def test_binary_and_grey_records_of_one_data_set_are_on_one_side():
    """ETL9B shows what ETL9G shows: data set 7 of the one is data set 7 of the other."""
    records = np.zeros(2 * 3036, etl_sets.SETS["ETL9B"].kind.record)
    sets, _ = etl_sets.SETS["ETL9B"].writers(records, etl_sets.SETS["ETL9B"].kind, 1)
    assert sets[[0, 3035, 3036]].tolist() == [40, 40, 41]
    assert sources.SETS % 20 == 0  # by which data sets are split


def test_models_and_dummies_are_no_samples(tmp_path, prepare, monkeypatch):
    monkeypatch.setitem(FEW, "ETL9B", FEW["ETL9B"]._replace(models={"ETL9B_5": 12}))
    samples = write_file(tmp_path / "raw" / "ETL9B_5", "ETL9B")
    code, printed, _ = prepare("--raw", tmp_path / "raw")
    assert code == 0
    assert "left out, models that the writers were shown: 12 (ETL9B_5 12)" in printed
    assert len(PreparedDataset(tmp_path / "dataset", "random").labels) == sum(i % 3 < 2 for i in range(1, 48))
    assert len(samples) == 60


def test_records_without_ink_and_unknown_codes_are_counted(tmp_path, prepare):
    samples = write_file(tmp_path / "raw" / "ETL4C", "ETL4")
    samples[3].image[:] = 0
    samples[4].code = 0
    (tmp_path / "raw" / "ETL4C").write_bytes(b"".join(record("C", sample) for sample in samples))
    code, printed, _ = prepare("--raw", tmp_path / "raw")
    assert code == 0
    assert "left out, without ink: 1 (ETL4C, record 3)" in printed
    assert "class list: 21 (ち 20, code 0x0)" in printed
    assert len(PreparedDataset(tmp_path / "dataset", "random").labels) == 38


def cut(path: Path, size: int) -> None:
    with path.open("rb+") as file:
        file.truncate(size)


REFUSED = {
    "short": (
        "ETL1",
        "ETL1C_01",
        lambda p: cut(p, 30 * 2052),
        "ETL1C_01 is short: 61,560 bytes where a file ETL1C_01 has",
    ),
    "cut": ("ETL7", "ETL7LC_1", lambda p: cut(p, 30 * 2052 + 9), "first bad record is record 30 (offset 61,560)"),
    "long": ("ETL5", "ETL5C", lambda p: cut(p, 60 * 2952 + 1), "ETL5C is too long: 177,121 bytes"),
    "empty": ("ETL8G", "ETL8G_01", lambda p: cut(p, 0), "ETL8G_01 is short: 0 bytes"),
    "other code": (
        "ETL8B2",
        "ETL8B2C1",
        lambda p: p.write_bytes(bytes(60 * 512)),
        "or a file of another set: 59 of its 59",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_what_it_should_be(case, tmp_path, prepare):
    name, file, change, says = REFUSED[case]
    write_file(tmp_path / "raw" / file, name)
    change(tmp_path / "raw" / file)
    code, printed, error = prepare("--raw", tmp_path / "raw")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert says in error
    assert not list((tmp_path / "dataset").iterdir())


def test_what_there_is_of_a_short_file_is_taken_if_asked(tmp_path, prepare):
    write_file(tmp_path / "raw" / "ETL4C", "ETL4")
    cut(tmp_path / "raw" / "ETL4C", 31 * 2952 + 5)
    code, printed, _ = prepare("--raw", tmp_path / "raw", "--skip-damaged")
    assert code == 0
    assert "29 damaged records left out" in printed
    assert len(PreparedDataset(tmp_path / "dataset", "random").labels) == 21


def test_images_four_bytes_late_are_told_apart(tmp_path, prepare, monkeypatch):
    """As in a file of ETL9G records under ETL8G's name."""
    monkeypatch.setitem(FEW, "ETL8G", FEW["ETL8G"]._replace(files={"ETL8G_01": 240}))
    write_file(tmp_path / "raw" / "ETL8G_01", "ETL8G", 240)
    assert prepare("--raw", tmp_path / "raw")[0] == 0
    content = np.fromfile(tmp_path / "raw" / "ETL8G_01", np.uint8).reshape(240, 8199)
    content[:, 64:8192] = content[:, 60:8188].copy()
    (tmp_path / "raw" / "ETL8G_01").write_bytes(content.tobytes())
    code, _, error = prepare("--raw", tmp_path / "raw")
    assert code == 2
    assert "ETL8G_01: the images sit 8 pixels too far right, as in ETL9G files; this reads ETL8G" in error


def test_files_of_several_sets_and_the_same_file_twice(tmp_path, prepare):
    write_file(tmp_path / "raw" / "ETL6C_01", "ETL6")
    write_file(tmp_path / "raw" / "ETL7LC_1", "ETL7")
    code, _, error = prepare("--raw", tmp_path / "raw")
    assert code == 2
    assert "holds files of several sets, ETL6 and ETL7: give each a folder of its own" in error
    (tmp_path / "raw" / "ETL7LC_1").rename(tmp_path / "raw" / "ETL9G_01")
    assert "several sets, ETL6 and ETL9G" in prepare("--raw", tmp_path / "raw")[2]
    (tmp_path / "raw" / "ETL9G_01").unlink()
    (tmp_path / "raw" / "ETL6C_02").write_bytes((tmp_path / "raw" / "ETL6C_01").read_bytes())
    code, _, error = prepare("--raw", tmp_path / "raw")
    assert code == 2
    assert "ETL6C_02 and ETL6C_01 have the same content: get one of them again" in error


def test_a_set_without_a_character_of_the_dataset(tmp_path, prepare):
    write_file(tmp_path / "raw" / "ETL3C_1", "ETL3")
    code, _, error = prepare("--raw", tmp_path / "raw")
    assert (code, error.count("\n")) == (2, 1)
    assert "no record of ETL3 shows a character of the dataset (left out, of characters outside the" in error
    assert "class list: 60 (7 20, A 20, B 20))" in error
    (tmp_path / "dataset").mkdir(exist_ok=True)
    facts = etl_files.make_chunk(tmp_path / "raw" / "ETL3C_1", "ETL3", tmp_path / "dataset", 1, "7A", False)
    assert (facts["records"], facts["labels"]) == (40, [0, 1])


def test_etl2_needs_the_table_of_its_codes(tmp_path, prepare):
    write_file(tmp_path / "raw" / "ETL2_1", "ETL2")
    code, _, error = prepare("--raw", tmp_path / "raw")
    assert (code, error.count("\n")) == (2, 1)
    assert "ETL2 needs the table of its codes, euc_co59.dat or co59-utf8.txt: put it into" in error
    (tmp_path / "raw" / "co59-utf8.txt").write_text("not a table")
    assert "co59-utf8.txt is no table of CO-59 codes" in prepare("--raw", tmp_path / "raw")[2]
    (tmp_path / "raw" / "co59-utf8.txt").write_text("一:1,1 亜:10,63 ：:0,9", encoding="utf-8")
    assert prepare("--raw", tmp_path / "raw")[0] == 0


def test_several_sets_in_one_call_and_one_after_the_other(tmp_path, prepare):
    for name, file in (("ETL4", "ETL4C"), ("ETL5", "ETL5C"), ("ETL8G", "ETL8G_01")):
        write_file(tmp_path / name / file, name)
    assert prepare("--raw", tmp_path / "ETL4", tmp_path / "ETL5")[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "dataset").glob("*.npz")}
    code, printed, _ = prepare("--raw", tmp_path / "ETL8G", tmp_path / "ETL4", "--licence", "AIST's terms")
    assert code == 0
    assert "(ETL4 + ETL5 + ETL8G)" in printed
    assert (
        before.items() <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "dataset").glob("*.npz")}.items()
    )
    rows = PreparedDataset(tmp_path / "dataset", "random").metadata["sources"]
    assert {row["name"]: (row["id"], row["licence"]) for row in rows} == {
        "ETL4": (1, "AIST's terms"),
        "ETL5": (2, None),
        "ETL8G": (3, "AIST's terms"),
    }


def test_a_set_comes_from_one_folder(tmp_path, prepare):
    for folder, file in (("half", "ETL7LC_1"), ("rest", "ETL7LC_2"), ("all", "ETL7LC_1"), ("all", "ETL7LC_2")):
        write_file(tmp_path / folder / file, "ETL7")
    assert prepare("--raw", tmp_path / "half")[0] == 0
    metadata = (tmp_path / "dataset" / "metadata.json").read_bytes()
    code, _, error = prepare("--raw", tmp_path / "rest")
    assert code == 2
    assert "rest lacks ETL7LC_1, which the dataset has: put all of ETL7 into one folder" in error
    assert (tmp_path / "dataset" / "metadata.json").read_bytes() == metadata
    assert prepare("--raw", tmp_path / "all")[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset")
    assert (dataset.source, len(dataset.labels)) == ("ETL7", 80)
