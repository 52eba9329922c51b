"""prepare_dataset.py --images: folders of pictures become a dataset, or join one, and copies stay on one side."""

import contextlib
import csv
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import prepare_dataset
from characters.jis import jis_code
from data import pictures
from data.duplicates import near_duplicates
from data.prepared import SPLITS, PreparedDataset
from data.samples import image_samples
from engine import training
from engine.run import Run
from etl_writer import Sample, record, shape
from evaluation.accuracy import report
from evaluation.measurement import evaluate_file
from files.command_line import InputError
from images.normalization import normalize
from images.reading import read_grey
from records import etl_sets
from script_runs import few_characters, run_script
from tiny_training import assert_identical, config, weights
from train_etl9g_model import ARCHITECTURE


def drawing(character: str, number: int) -> Image.Image:
    """A made-up shape that stands for a character, as another hand draws it for each number."""
    random = np.random.default_rng([ord(character), number])
    corners = np.random.default_rng(ord(character)).uniform(20, 180, (6, 2)) + random.normal(0, 9, (6, 2))
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).line([tuple(corner) for corner in corners], fill=20, width=7)
    return picture


def draw(path: Path, character: str, number: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing(character, number).save(path)
    return path


def draw_all(folder: Path, characters: str, count: int) -> Path:
    for character in characters:
        for number in range(count):
            draw(folder / character / f"{number}.png", character, number)
    return folder


def metadata_of(folder: Path) -> dict:
    return json.loads((folder / "metadata.json").read_text(encoding="utf-8"))


def sides(dataset: PreparedDataset) -> dict[bytes, str]:
    """The split of each sample, by what it looks like."""
    return {
        dataset.images(np.array([position])).numpy().tobytes(): name
        for name in SPLITS
        for position in dataset.splits[name].positions
    }


def test_folders_named_by_characters_become_a_dataset(tmp_path, prepare):
    drawn = draw_all(tmp_path / "drawn", "漢あ", 6)
    draw(drawn / "U+6F22" / "deeper" / "more.jpg", "漢", 6)
    draw(drawn / "か\u3099" / "が.bmp", "が", 0)
    for number in range(2):
        draw(drawn / "ア" / f"{number}.png", "ア", number)
    draw(drawn / "𠮟" / "0.png", "𠮟")
    Image.new("L", (50, 50), 255).save(drawn / "あ" / "blank.png")
    (drawn / "漢" / "broken.png").write_bytes((drawn / "漢" / "0.png").read_bytes()[:200])
    (drawn / "漢" / ".DS_Store").write_bytes(b"\0")
    (drawn / "README.md").write_text("mine")
    code, printed, error = prepare("--images", drawn, "--licence", "CC BY 4.0")
    assert (code, error) == (0, "")
    assert "14 images of 3,036 classes (drawn) in" in printed
    assert "drawn: 14 images of 3 characters, split by chance, near duplicates together" in printed
    assert "left out, of characters outside the class list: 3 (ア 2, 𠮟)" in printed
    assert "left out, without ink: 1 (あ/blank.png)" in printed
    assert "left out, that cannot be read: 1 (漢/broken.png)" in printed
    assert "characters with fewer than 3 different pictures, too few to test with: 1 (が)" in printed

    dataset = PreparedDataset(tmp_path / "dataset")
    own = dataset.classes.index("漢"), dataset.classes.index("が")
    assert np.count_nonzero(dataset.labels == own[0]) == 7
    image = dataset.images(np.flatnonzero(dataset.labels == own[1]))[0, 0].numpy()
    assert np.array_equal(image, (normalize(read_grey(drawn / "か\u3099" / "が.bmp"))[0] * 255 + 0.5).astype(np.uint8))
    assert own[1] not in {*dataset.splits["validation"].labels.tolist(), *dataset.splits["test"].labels.tolist()}
    assert (dataset.source, dataset.metadata["damaged_records"]) == ("drawn", 0)
    (source,) = dataset.metadata["sources"]
    assert source | {"left_out": None} == {
        "id": 1,
        "name": "drawn",
        "kind": "images",
        "licence": "CC BY 4.0",
        "samples": 14,
        "characters": 3,
        "split": "by chance, near duplicates together",
        "left_out": None,
    }
    assert source["left_out"]["outside"] == {"ア": 2, "𠮟": 1}
    assert set(dataset.sources.tolist()) == {1}


def test_pictures_whose_names_begin_with_their_character(tmp_path, prepare):
    names = {"漢": ("漢.png", "漢_1.png", "漢 (2).jpg"), "が": ("か\u3099_20261129_084512.png", "U+304C_1.bmp")}
    for char, files in names.items():
        for number, name in enumerate(files):
            draw(tmp_path / "drawn" / name, char, number)
    draw(tmp_path / "drawn" / "あ" / "in a folder.png", "あ")
    draw(tmp_path / "drawn" / "anna" / "い" / "漢_1.png", "い")  # a folder says more
    assert prepare("--images", tmp_path / "drawn")[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset")
    counts = dict(zip(*np.unique(np.array(list(dataset.classes))[dataset.labels], return_counts=True), strict=True))
    assert counts == {"漢": 3, "が": 2, "あ": 1, "い": 1}


def folders_of_writers(folder: Path, writers: int) -> None:
    for number in range(writers):
        for character in "漢あ":
            for time in range(3):
                draw(folder / f"writer {number:02d}" / character / f"{time}.png", character, 10 * number + time)


def list_of_writers(folder: Path, writers: int) -> None:
    rows = []
    for number in range(writers):
        for character in "漢あ":
            for time in range(3):
                name = f"{len(rows)}.png"
                draw(folder / "all" / name, character, 10 * number + time)
                rows.append([f"all/{name}", f"U+{ord(character):04X}", f"writer {number:02d}"])
    with (folder / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["file", "character", "writer"], *rows])


@pytest.mark.parametrize("write", [folders_of_writers, list_of_writers])
def test_known_writers_are_on_one_side_each(write, tmp_path, prepare):
    write(tmp_path / "drawn", 12)
    code, printed, _ = prepare("--images", tmp_path / "drawn")
    assert code == 0
    assert "72 images of 2 characters, split by writer (12)\n" in printed
    dataset = PreparedDataset(tmp_path / "dataset")
    writers = [dataset.writers(dataset.splits[name].positions) for name in SPLITS]
    assert sum(len(np.unique(part)) for part in writers) == len(np.unique(np.concatenate(writers))) == 12
    assert [len(part) % 6 for part in writers] == [0, 0, 0]  # each with all that they wrote
    assert all(len(part) for part in writers)
    labels = dataset.labels[dataset.splits["train"].positions]
    assert np.ptp(np.bincount(labels)[np.unique(labels)]) == 0
    assert len(np.unique(image_samples(tmp_path / "drawn").writers)) == 12


def test_both_ways_give_the_same_dataset_and_some_writers_may_be_unknown(tmp_path, prepare):
    folders_of_writers(tmp_path / "a", 4)
    list_of_writers(tmp_path / "b", 4)
    draw(tmp_path / "b" / "unlisted.png", "漢")
    assert prepare("--images", tmp_path / "a")[0] == 0
    splits = metadata_of(tmp_path / "dataset")["splits"]
    code, printed, _ = prepare("--images", tmp_path / "b")
    assert code == 0
    both = metadata_of(tmp_path / "dataset")["splits"]
    assert {name: both[name][: len(splits[name])] for name in SPLITS} == splits
    assert [len(both[name]) - len(splits[name]) for name in SPLITS] == [2, 1, 1]
    assert "left out, that labels.csv does not list: 1 (unlisted.png)" in printed
    dataset = PreparedDataset(tmp_path / "dataset")
    parts = [np.flatnonzero(dataset.sources == number) for number in (1, 2)]
    assert [len(part) for part in parts] == [24, 24]
    assert dataset.sets[parts[0]].max() < dataset.sets[parts[1]].min()
    assert sorted(dataset.sets[parts[0]] % 100_000) == sorted(dataset.sets[parts[1]] % 100_000)
    for number in range(3):
        draw(tmp_path / "a" / "あ" / f"{number}.png", "あ", 100 + number)
    code, printed, _ = prepare("--images", tmp_path / "a")
    assert code == 0
    assert "split by writer (4); 3 pictures without one by chance, near duplicates together" in printed


def copies(picture: Image.Image, folder: Path, name: str) -> None:
    """The picture, smaller, larger, and encoded again."""
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{name}.png")
    picture.resize((130, 130), Image.Resampling.LANCZOS).save(folder / f"{name}_small.png")
    picture.resize((310, 310), Image.Resampling.BICUBIC).save(folder / f"{name}_large.webp")
    picture.save(folder / f"{name}.jpg", quality=40)


@pytest.mark.parametrize("split", ["writer", "random"])
def test_copies_of_a_picture_stay_on_one_side_also_in_another_source(split, tmp_path, prepare):
    for number in range(40):
        copies(drawing("漢", number), tmp_path / "drawn" / "漢", str(number))
        again = drawing("漢", number).resize((170, 170), Image.Resampling.LANCZOS)
        (tmp_path / "sent" / "漢").mkdir(parents=True, exist_ok=True)
        again.save(tmp_path / "sent" / "漢" / f"{number}.jpg", quality=60)
    assert prepare("--images", tmp_path / "drawn")[0] == 0
    assert prepare("--images", tmp_path / "sent")[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset", split)
    side = np.empty(len(dataset.labels), object)
    for name in SPLITS:
        side[dataset.splits[name].positions] = name
    first = [f"{number}{end}" for number in range(40) for end in (".jpg", ".png", "_large.webp", "_small.png")]
    names = [*sorted(first), *sorted(f"{number}.jpg" for number in range(40))]  # in the order of their paths
    assert len(names) == len(side) == 200
    of_drawing = [{side[i] for i in range(200) if names[i].split(".")[0].split("_")[0] == str(n)} for n in range(40)]
    assert all(len(found) == 1 for found in of_drawing)
    assert {name for (name,) in of_drawing} == set(SPLITS)


def test_near_duplicates_are_copies_and_not_whoever_writes_alike():
    images = np.stack([normalize(np.asarray(drawing("漢", n), np.float32))[0] for n in range(30)])
    copied = np.stack([normalize(np.asarray(drawing("漢", n).resize((140, 140)), np.float32))[0] for n in range(30)])
    pixels = (np.concatenate([images, copied]) * 255 + 0.5).astype(np.uint8)
    assert near_duplicates(pixels).tolist() == [*range(30), *range(30)]
    bars = np.zeros((40, 64, 64), np.uint8)  # hardly to be told apart, as 一 of several hands
    for number, bar in enumerate(bars):
        bar[30 - number % 3 : 34, 6:58] = 255 - 2 * number
    assert np.bincount(near_duplicates(bars)).max() <= 20
    assert near_duplicates(np.repeat(bars[:1], 40, axis=0)).tolist() == [0] * 40
    assert near_duplicates(bars[:0]).tolist() == []


def test_what_comes_later_moves_nothing(tmp_path, prepare):
    drawn = draw_all(tmp_path / "drawn", "漢あ亜", 30)
    assert prepare("--images", drawn)[0] == 0
    (chunk,) = (tmp_path / "dataset").glob("source_*.npz")
    before, content, written = (
        sides(PreparedDataset(tmp_path / "dataset")),
        chunk.read_bytes(),
        chunk.stat().st_mtime_ns,
    )
    metadata = (tmp_path / "dataset" / "metadata.json").read_bytes()
    assert prepare("--images", drawn)[0] == 0
    assert chunk.stat().st_mtime_ns == written
    assert (tmp_path / "dataset" / "metadata.json").read_bytes() == metadata

    draw_all(tmp_path / "more", "あ腕", 20)
    code, printed, _ = prepare("--images", tmp_path / "more", "--licence", "mine")
    assert code == 0
    assert "130 images of 3,036 classes (drawn + more)" in printed
    assert chunk.read_bytes() == content
    for number in range(30, 60):
        drawing("漢", number).save(drawn / "漢" / f"{number}.png")
    drawing("漢", 0).save(drawn / "漢" / "again.jpg")
    assert prepare("--images", drawn)[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset")
    assert len(dataset.labels) == 90 + 31 + 40
    assert before.items() <= sides(dataset).items()
    assert not chunk.exists()  # replaced by the one with more pictures
    assert [(row["id"], row["name"], row["licence"]) for row in dataset.metadata["sources"]] == [
        (1, "drawn", None),
        (2, "more", "mine"),
    ]


def test_characters_with_few_pictures_are_trained_on(tmp_path, prepare):
    """None of them is only tested; with more pictures they are, and the first stay where they were."""
    drawn = draw_all(tmp_path / "drawn", "亜唖娃阿哀愛挨姶逢葵茜穐悪握渥旭葦芦鯵梓", 2)
    draw_all(drawn, "漢", 30)
    code, printed, _ = prepare("--images", drawn)
    assert code == 0
    assert "characters with fewer than 3 different pictures, too few to test with: 20 (亜, 唖, 娃, …)" in printed
    dataset = PreparedDataset(tmp_path / "dataset")
    before = sides(dataset)
    assert np.bincount(dataset.splits["train"].labels)[[dataset.classes.index(c) for c in "亜梓"]].tolist() == [2, 2]
    assert {*dataset.splits["test"].labels.tolist()} == {dataset.classes.index("漢")}
    draw_all(drawn, "亜", 40)
    assert prepare("--images", drawn)[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset")
    assert before.items() <= sides(dataset).items()
    assert dataset.classes.index("亜") in dataset.splits["test"].labels


def test_a_chunk_of_another_source_is_noticed(tmp_path, prepare):
    assert prepare("--images", *(draw_all(tmp_path / name, "漢", 4) for name in "ab"))[0] == 0
    first, second = sorted((tmp_path / "dataset").glob("source_*.npz"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=r"source_01_.*npz is damaged, or of another file"):
        PreparedDataset(tmp_path / "dataset")


def test_folders_of_the_same_name_are_two_sources(tmp_path, prepare):
    folders = [draw_all(tmp_path / parent / "drawn", "漢", 5 + number) for number, parent in enumerate("ab")]
    assert prepare("--images", *folders)[0] == 0
    assert [row["name"] for row in metadata_of(tmp_path / "dataset")["sources"]] == ["drawn", "drawn (2)"]
    assert metadata_of(tmp_path / "dataset")["samples"] == 11


WRONG = {
    "missing": ({}, "missing is missing or holds no images"),
    "empty": ({"readme.txt": "x"}, "empty is missing or holds no images"),
    "flat": ({"漢_1.png": "漢", "1.png": "漢"}, "flat/1.png lies in no folder that names its character, nor does its"),
    "word": ({"漢字.png": "漢"}, "word/漢字.png lies in no folder that names its character, nor does its name: put it"),
    "words": ({"kanji/a.png": "漢"}, "words/kanji is named neither by a character"),
    "both": ({"A/漢/a.png": "漢"}, "both/A/漢: both folders are named by a character"),
    "others": ({"ア/a.png": "ア"}, "its pictures show no character of the dataset but others: 1 (ア)"),
    "broken": ({"漢/a.png": None}, "none of its pictures can be used: left out, that cannot be read: 1 (漢/a.png)"),
    "columns": ({"labels.csv": "name,char\na.png,漢\n"}, "has no columns file and character"),
    "no csv": ({"labels.csv": b"file,character\n\xff\xfe,\x8a\n"}, "labels.csv is no CSV file in UTF-8"),
    "no character": ({"labels.csv": "file,character\na.png,漢\nb.png,漢字\n"}, "line 3: 漢字 is no character"),
    "no file": ({"labels.csv": "file,character\n,漢\n"}, "line 2: a row without a file is no character"),
    "twice": ({"labels.csv": "file,character\na.png,漢\na.png,字\n"}, "line 3: a.png is listed twice"),
    "only a header": ({"labels.csv": "file,character\n"}, "labels.csv lists no pictures"),
    "lost": (
        {"labels.csv": "file,character\na.png,漢\n"},
        "none of its pictures can be used: left out, that cannot be read: 1 (a.png)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_one_line_and_costs_nothing(case, tmp_path, prepare):
    assert prepare("--images", draw_all(tmp_path / "good", "漢", 4))[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "dataset").iterdir()}
    contents, says = WRONG[case]
    for name, content in contents.items():
        path = tmp_path / case / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png" and content:
            draw(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else (content or "no image").encode())
    code, printed, error = prepare("--images", tmp_path / case)
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert says in error
    assert {path.name: path.read_bytes() for path in (tmp_path / "dataset").iterdir()} == before


def test_a_folder_that_is_missing_is_named_before_anything_is_drawn(tmp_path, prepare, monkeypatch):
    monkeypatch.setattr(prepare_dataset, "prepare_drawn", lambda *_: pytest.fail("drew samples first"))
    code, _, error = prepare("--synthetic", 3, "--images", tmp_path / "missing")
    assert code == 2
    assert "missing is missing or holds no images" in error


def test_a_licence_is_that_of_what_is_added(tmp_path, prepare):
    (tmp_path / "ETL9G").mkdir()
    (tmp_path / "ETL9G" / "ETL9G_01").touch()
    code, _, error = prepare("--licence", "mine", "--etl9g-dir", tmp_path / "ETL9G")
    assert code == 2
    assert error.splitlines()[-1].endswith("--licence is that of pictures, or of another set than ETL9G")


def test_a_chunk_that_is_missing_can_be_made_again(tmp_path, prepare):
    drawn, more = draw_all(tmp_path / "drawn", "漢", 4), draw_all(tmp_path / "more", "あ", 4)
    assert prepare("--images", drawn, more)[0] == 0
    chunk = sorted((tmp_path / "dataset").glob("source_01_*.npz"))[0]
    content = chunk.read_bytes()
    chunk.unlink()
    code, _, error = prepare("--images", more)
    assert code == 2
    assert f"{chunk.name} is missing: prepare its source again" in error
    assert prepare("--images", drawn)[0] == 0
    assert chunk.read_bytes() == content


@pytest.mark.parametrize("content", ["[]", '{"sources": [{"id": 1}]}', '{"sources": 3}', "{"])
def test_a_damaged_list_of_sources(content, tmp_path, prepare):
    drawn = draw_all(tmp_path / "drawn", "漢", 4)
    assert prepare("--images", drawn)[0] == 0
    (tmp_path / "dataset" / "sources.json").write_text(content)
    code, _, error = prepare("--images", drawn)
    assert code == 2
    assert "sources.json is damaged" in error


def test_pictures_come_in_chunks_of_whole_characters(tmp_path, prepare, monkeypatch):
    drawn = draw_all(tmp_path / "drawn", "漢あ亜腕", 5)
    assert prepare("--images", drawn)[0] == 0
    whole = sides(PreparedDataset(tmp_path / "dataset"))
    shutil.rmtree(tmp_path / "dataset")
    monkeypatch.setattr(pictures, "PART", 8)
    assert prepare("--images", drawn)[0] == 0
    dataset = PreparedDataset(tmp_path / "dataset")
    assert [row["records"] for row in dataset.metadata["files"]] == [10, 10]
    assert sides(dataset) == whole


@contextlib.contextmanager
def small_etl9b() -> Iterator[None]:
    """Twenty characters, and an ETL9B of one file with ten data sets of six records."""
    whole, places = etl_sets.SETS["ETL9B"], functools.partial(etl_sets.by_place, size=6, of_file=10)
    etl_sets.SETS["ETL9B"] = whole._replace(files={"ETL9B_1": 61}, writers=places)
    with few_characters(20):
        yield


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A dataset of twenty classes: a stand-in of twelve sets, pictures of ten of them by six writers, and ETL9B."""
    base, few, random = (
        tmp_path_factory.mktemp("mixed"),
        functools.partial(few_characters, 20),
        np.random.default_rng(0),
    )
    raw = ["--sets", 12, "--out", base / "ETL9G", "--seed", 5, "--processes", 2]
    made = run_script("synthesize_etl9g", *raw, within=few)
    assert made.returncode == 0, made.stderr
    for number in range(6):
        for character in "亜唖娃阿哀愛挨姶逢葵":
            draw(base / "drawn" / f"writer {number}" / character / "0.png", character, number)
    (base / "ETL9B").mkdir()
    of_etl9b = [Sample(jis_code("亜唖娃阿哀愛"[i % 6]), shape("9B", random), sheet=1 + i) for i in range(60)]
    content = bytes(576) + b"".join(record("9B", sample) for sample in of_etl9b)
    (base / "ETL9B" / "ETL9B_1").write_bytes(content)
    prepared = run_script("prepare_dataset", "--etl9g-dir", base / "ETL9G", "--output-dir", base / "alone", within=few)
    assert prepared.returncode == 0, prepared.stderr
    shutil.copytree(base / "alone", base / "dataset")
    words = ["--images", base / "drawn", "--raw", base / "ETL9B", "--output-dir", base / "dataset", "--processes", 2]
    joined = run_script("prepare_dataset", *words, within=small_etl9b)
    assert joined.returncode == 0, joined.stderr
    assert "(KanjiVG stand-in + ETL9B + drawn)" in joined.stdout
    return base


def test_pictures_join_etl9g_without_touching_it(mixed):
    for path in (mixed / "alone").glob("*.npz"):
        assert (mixed / "dataset" / path.name).read_bytes() == path.read_bytes()
    alone, both = PreparedDataset(mixed / "alone"), PreparedDataset(mixed / "dataset")
    assert not (mixed / "alone" / "sources.json").exists()
    assert "sources" not in alone.metadata
    assert set(alone.sources.tolist()) == {0}
    count = len(alone.labels)
    assert np.array_equal(both.labels[:count], alone.labels)
    for name in SPLITS:
        own = both.splits[name].positions
        assert np.array_equal(own[own < count], alone.splits[name].positions)
    assert np.array_equal(both.writers(np.arange(count)), alone.writers(np.arange(count)))
    assert both.source_names == {0: "KanjiVG stand-in", 1: "ETL9B", 2: "drawn"}
    for number, samples, writers in ((1, 60, 60), (2, 60, 6)):
        own = np.flatnonzero(both.sources == number)
        assert (len(own), len(np.unique(both.writers(own)))) == (samples, writers)


def test_etl9g_that_was_begun_and_not_finished_is_not_passed_over(mixed, tmp_path):
    """What else is in the dataset comes back when it is prepared to its end."""
    few = functools.partial(few_characters, 20)
    folder = shutil.copytree(mixed / "dataset", tmp_path / "dataset")
    whole = (folder / "metadata.json").read_bytes()
    (folder / "metadata.json").unlink()
    (folder / "etl9g_dataset_chunk_02.npz").unlink()
    begun = run_script("prepare_dataset", "--images", mixed / "drawn", "--output-dir", folder, within=few)
    assert begun.returncode == 2
    assert "is not prepared to its end yet: give --etl9g-dir too" in begun.stderr
    assert not (folder / "metadata.json").exists()
    done = run_script("prepare_dataset", "--etl9g-dir", mixed / "ETL9G", "--output-dir", folder, within=few)
    assert done.returncode == 0, done.stderr
    assert (folder / "metadata.json").read_bytes() == whole


def test_a_mixed_dataset_trains_resumes_bit_for_bit_and_is_evaluated_by_source(mixed, tmp_path, monkeypatch):
    one = {"epochs": 2, "hiragana_repeats": 1, "batch_size": 32}
    training.fit(ARCHITECTURE, config(mixed / "dataset", tmp_path / "whole", **one))
    honest, taken = Run.train_step, []

    def stopping(self, rows):
        if len(taken) == 8:
            raise KeyboardInterrupt  # as sudden as kill -9: nothing is saved
        taken.append(1)
        return honest(self, rows)

    settings = config(mixed / "dataset", tmp_path / "parts", **one, checkpoint_minutes=1e-9)
    monkeypatch.setattr(Run, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.fit(ARCHITECTURE, settings)
    monkeypatch.setattr(Run, "train_step", honest)
    training.fit(ARCHITECTURE, dataclasses.replace(settings, resume_from="auto"))
    assert_identical(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    figures = evaluate_file(tmp_path / "whole" / "best_kanji_model.pth", tmp_path / "out", mixed / "dataset")
    assert figures["sources"].keys() == {"KanjiVG stand-in", "ETL9B", "drawn"}
    counts = [row["samples"] for row in figures["sources"].values()]
    assert sum(counts) == figures["samples"]
    assert all(counts)
    printed = report(figures)
    assert all(f"\n{name:<20}" in printed for name in figures["sources"])
