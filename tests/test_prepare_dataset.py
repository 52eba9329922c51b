"""prepare_dataset.py on one stand-in file: what it writes, what it refuses and how it says so, what it keeps."""

import hashlib
import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import preflight_check
import prepare_dataset
from data import preparing
from data.prepared import PreparedDataset
from files import command_line
from images.normalization import normalize_frames
from records import etl9g
from records.etl9g import read_records, unpack_images

RECORD_BYTES = 8199
JIS_AT, IMAGE_AT = 2, 64  # within a record, counted from 0
CHUNK = "etl9g_dataset_chunk_01.npz"
BAD_JIS = bytes([0x24, 0x21])  # ぁ, which ETL9G does not have


def call(*arguments: object) -> int:
    """The exit code of the script, called in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prepare_dataset.py", *map(str, arguments)])
        try:
            command_line.run(prepare_dataset.main)
        except SystemExit as ended:
            return ended.code
    return 0


@pytest.fixture
def prepare(capsys) -> Callable[..., tuple[int, str, str]]:
    """A function that gives the script's exit code, stdout and stderr."""

    def prepare(raw: Path, output: Path, *more: str) -> tuple[int, str, str]:
        return call("--etl9g-dir", raw, "--output-dir", output, "--processes", 1, *more), *capsys.readouterr()

    return prepare


@pytest.fixture(scope="module")
def prepared(standin, tmp_path_factory) -> Path:
    """The dataset of the undamaged stand-in."""
    folder = tmp_path_factory.mktemp("prepared")
    assert call("--etl9g-dir", standin[0], "--output-dir", folder, "--processes", 2) == 0
    return folder


@pytest.fixture(scope="module")
def raw(standin, tmp_path_factory) -> Iterator[Path]:
    """A copy of the stand-in's file, to be damaged by `damaged` and whole again afterwards."""
    folder = tmp_path_factory.mktemp("raw")
    shutil.copy(standin[0] / "ETL9G_01", folder)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def damaged(raw: Path, changes: dict[int, bytes]) -> Iterator[None]:
    """Other bytes at these offsets of the file for the time of the block."""
    content = np.memmap(raw / "ETL9G_01", np.uint8, "r+")
    before = {offset: content[offset : offset + len(piece)].copy() for offset, piece in changes.items()}
    try:
        for offset, piece in changes.items():
            content[offset : offset + len(piece)] = np.frombuffer(piece, np.uint8)
        yield
    finally:
        for offset, piece in before.items():
            content[offset : offset + len(piece)] = piece


def at(record: int, offset: int = 0) -> int:
    return record * RECORD_BYTES + offset


def assert_refused(answer: tuple[int, str, str], output: Path, *says: str) -> None:
    """Exit code 2, one line, and nothing that could be taken for a dataset."""
    code, printed, error = answer
    assert (code, printed, error.count("\n")) == (2, "", 1)
    for words in says:
        assert words in error
    assert not list(output.glob("*.json"))
    assert not list(output.glob(".*"))


def test_the_chunk_holds_every_record_normalised(standin, prepared):
    records, _ = read_records(standin[0] / "ETL9G_01")
    with np.load(prepared / CHUNK) as chunk:
        images, labels, sets = (chunk[name] for name in ("images", "labels", "sets"))
    assert images.shape == (12144, 64, 64)
    assert images.dtype == np.uint8
    assert sets.tolist() == [s for s in range(4) for _ in range(3036)]
    some = np.array([0, 15, 1011, 1012, 3035, 3036, 12143])
    alone = normalize_frames(unpack_images(records[some]))
    assert np.abs(images[some].astype(int) - alone).max() <= 1  # sums round otherwise in other company

    table = json.loads((prepared / "character_mapping.json").read_text(encoding="utf-8"))["classes"]
    codes = [int(row["jis"], 16) for row in table]
    assert codes == sorted(set(codes))
    assert [row["label"] for row in table] == list(range(3036))
    for row, code in zip(table, codes, strict=True):
        assert row["character"].encode("euc_jp") == bytes([code >> 8 | 0x80, code & 0xFF | 0x80])
        assert row["code_point"] == f"U+{ord(row['character']):04X}"
    assert np.array_equal(np.array(codes)[labels], records["jis"])


def test_the_metadata_says_what_was_made_of_what(standin, prepared):
    metadata = json.loads((prepared / "metadata.json").read_text(encoding="utf-8"))
    content = (standin[0] / "ETL9G_01").read_bytes()
    assert metadata["source"] == "KanjiVG stand-in"
    assert metadata["generator"].endswith("/0")  # the seed
    assert (metadata["samples"], metadata["classes"], metadata["damaged_records"]) == (12144, 3036, 0)
    assert metadata["splits"] == {"train": [0, 1], "validation": [2], "test": [3]}
    (file,) = metadata["files"]
    assert (file["file"], file["sha256"]) == ("ETL9G_01", hashlib.sha256(content).hexdigest())
    assert (file["records"], file["damaged"], file["out_of_order"]) == (12144, 0, 0)
    dataset = PreparedDataset(prepared)
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [6072, 3036, 3036]
    assert np.unique(dataset.splits["test"].labels).tolist() == list(range(3036))


def test_a_second_run_keeps_what_is_finished_and_clears_what_is_stale(standin, prepared, prepare):
    """Finished is an undamaged chunk of the same raw file, made by the same rules."""
    (sha,) = (row["sha256"] for row in json.loads((prepared / "metadata.json").read_text(encoding="utf-8"))["files"])
    facts = {"file": "ETL9G_01", "sha256": sha}
    assert preparing.finished_chunk(prepared / CHUNK, facts)["records"] == 12144
    assert preparing.finished_chunk(prepared / CHUNK, facts | {"sha256": "other"}) is None
    assert preparing.finished_chunk(prepared / CHUNK, facts | {"file": "ETL9G_02"}) is None  # with other sets
    assert preparing.finished_chunk(prepared / "metadata.json", facts) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "CONTRACT_VERSION", preparing.CONTRACT_VERSION + 1)
        assert preparing.finished_chunk(prepared / CHUNK, facts) is None
    before = (prepared / CHUNK).stat().st_mtime_ns, (prepared / "metadata.json").read_text(encoding="utf-8")
    stale = prepared / "etl9g_dataset_chunk_02.npz"
    stale.write_bytes(b"of a raw file that is gone")
    code, printed, error = prepare(standin[0], prepared)
    assert (code, error) == (0, "")
    assert "12,144 images of 3,036 classes from 1 files (KanjiVG stand-in)" in printed
    assert ((prepared / CHUNK).stat().st_mtime_ns, (prepared / "metadata.json").read_text(encoding="utf-8")) == before
    assert not stale.exists()


def test_damaged_records_are_left_out_and_counted_if_asked(raw, prepared, prepare, tmp_path, monkeypatch):
    """Record 3 has a code outside ETL9G, record 5000 no ink, 10 and 11 have changed places; the old chunk is remade."""
    monkeypatch.setattr(preparing, "normalize_frames", lambda frames: frames[:, :64, :64])  # takes no time
    (tmp_path / CHUNK).hardlink_to(prepared / CHUNK)
    content = (raw / "ETL9G_01").read_bytes()
    ten, eleven = content[at(10) : at(11)], content[at(11) : at(12)]
    changes = {at(3, JIS_AT): BAD_JIS, at(5000, IMAGE_AT): bytes(8128), at(10): eleven, at(11): ten}
    with damaged(raw, changes):
        code, printed, error = prepare(raw, tmp_path, "--skip-damaged")
        assert (code, error) == (0, "")
        assert "12,142 images" in printed
        assert "2 damaged records left out" in printed
        assert "2 records do not stand at their known place" in printed
        metadata = json.loads((tmp_path / "metadata.json").read_text(encoding="utf-8"))
        assert (metadata["samples"], metadata["damaged_records"]) == (12142, 2)
        with np.load(prepared / CHUNK) as whole, np.load(tmp_path / CHUNK) as left:
            assert left["images"].shape == (12142, 64, 64)
            good = np.delete(np.arange(12144), [3, 5000])
            good[9:11] = 11, 10  # where 10 and 11 stand after record 3 has gone
            for name in ("labels", "sets"):
                assert np.array_equal(left[name], whole[name][good])

        made, metadata = (tmp_path / CHUNK).stat().st_mtime_ns, (tmp_path / "metadata.json").read_bytes()
        assert prepare(raw, tmp_path, "--skip-damaged")[0] == 0
        assert (tmp_path / CHUNK).stat().st_mtime_ns == made
        answer = prepare(raw, tmp_path)  # the chunk without the damaged records is not what this asks for
        assert answer[0] == 2
        assert "record 3" in answer[2]
        assert (tmp_path / CHUNK).stat().st_mtime_ns == made  # what was there stays as it was
        assert (tmp_path / "metadata.json").read_bytes() == metadata


@pytest.mark.parametrize(
    ("record", "offset", "piece", "says"),
    [
        (0, JIS_AT, BAD_JIS, "JIS code 0x2421 is not a class of ETL9G"),
        (1012, IMAGE_AT, bytes(8128), "the image has no ink"),
    ],
)
def test_a_damaged_record_is_named_with_its_offset(record, offset, piece, says, raw, prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "normalize_frames", lambda frames: frames[:, :64, :64])  # takes no time
    later = at(record + 7, JIS_AT)  # the first of two is named
    with damaged(raw, {at(record, offset): piece, later: BAD_JIS}):
        answer = prepare(raw, tmp_path)
    where = f"ETL9G_01 is damaged: record {record} (offset {record * 8199:,}): {says}"
    assert_refused(answer, tmp_path, where, "--skip-damaged")
    assert not list(tmp_path.iterdir())


def test_images_that_start_four_bytes_early_are_told_apart(raw, prepare, tmp_path):
    """As in a file of ETL8G records: everything sits 8 pixels too far left."""
    records, _ = read_records(raw / "ETL9G_01")
    images = np.roll(records["image"][:1012], -4, axis=2)
    with damaged(raw, {at(i, IMAGE_AT): image.tobytes() for i, image in enumerate(images)}):
        answer = prepare(raw, tmp_path)
    assert_refused(answer, tmp_path, "ETL9G_01: the images sit 8 pixels too far left, as in ETL8G files")


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0, "is short: 0 bytes where an ETL9G file has 99,568,656; first bad record is record 0 (offset 0)"),
        (at(2000), "is short: 16,398,000 bytes where an ETL9G file has 99,568,656; first bad record is record 2000 "),
        (at(2000, 99), "first bad record is record 2000 (offset 16,398,000)"),
        (at(12144, 1), "is too long: 99,568,657 bytes where an ETL9G file has 99,568,656; first bad record is record "),
    ],
)
def test_a_file_of_another_size_is_named(size, says, prepare, tmp_path):
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    raw.mkdir()
    with (raw / "ETL9G_01").open("wb") as file:
        file.truncate(size)
    assert_refused(prepare(raw, output), output, "ETL9G_01", says)
    assert not list(output.glob("*"))


def test_what_there_is_of_a_short_file_is_taken_if_asked(standin, prepared, prepare, tmp_path):
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    raw.mkdir()
    with (standin[0] / "ETL9G_01").open("rb") as file:
        content = bytearray(file.read(at(500, 99)))
    content[at(7, JIS_AT) : at(7, JIS_AT) + 2] = BAD_JIS
    (raw / "ETL9G_01").write_bytes(content)
    code, printed, _ = prepare(raw, output, "--skip-damaged")
    assert code == 0
    assert f"{12144 - 499:,} damaged records left out" in printed
    with np.load(prepared / CHUNK) as whole, np.load(output / CHUNK) as part:
        expected = {name: np.delete(whole[name][:500], 7, axis=0) for name in ("images", "labels", "sets")}
        assert np.array_equal(part["labels"], expected["labels"])
        assert np.array_equal(part["sets"], expected["sets"])
        assert np.abs(part["images"].astype(int) - expected["images"]).max() <= 1  # in other company, as above


def test_files_without_one_good_record_are_refused(standin, prepare, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    record = (standin[0] / "ETL9G_01").read_bytes()[:8199]
    (raw / "ETL9G_01").write_bytes(record[:JIS_AT] + BAD_JIS + record[JIS_AT + len(BAD_JIS) :])
    answer = prepare(raw, tmp_path / "dataset", "--skip-damaged")
    assert_refused(answer, tmp_path / "dataset", f"every record in {raw} is damaged")


def test_real_files_and_a_stand_in_are_not_mixed(standin, prepare, tmp_path):
    """Nor does a file beside them that is too short cost a dataset that is there already."""
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    raw.mkdir()
    output.mkdir()
    (output / "metadata.json").write_text("whole")
    (raw / "ETL9G_01").hardlink_to(standin[0] / "ETL9G_01")
    with (raw / "ETL9G_02").open("wb") as file:
        file.truncate((standin[0] / "ETL9G_01").stat().st_size)
    for more, says in (([], "mixes files of several sources: KanjiVG stand-in"), (["ETL9G_03"], "ETL9G_03")):
        for name in more:
            (raw / name).write_bytes(b"short")
        code, _, error = prepare(raw, output)
        assert code == 2
        assert says in error
        assert [path.name for path in output.iterdir() if path.name != ".lock"] == ["metadata.json"]


@pytest.mark.parametrize("name", ["ETL9G_51", "ETL9G_00", "ETL9G_1", "ETL8G_34", "ETL9G_01.bak"])
def test_names_that_no_raw_file_has_are_refused(name, prepare, tmp_path):
    (tmp_path / name).write_bytes(b"")
    output = tmp_path / "dataset"
    assert_refused(prepare(tmp_path, output), output, f"{name}: not a name of an ETL9G raw file")


def test_the_real_files_win_over_the_stand_in_and_there_must_be_some(prepare, tmp_path):
    output = tmp_path / "dataset"
    assert_refused(prepare(tmp_path / "nowhere", output), output, "nowhere is missing", "--etl9g-dir")
    says = "holds no ETL9G_01", f"--out {tmp_path / 'standin'}"
    assert_refused(prepare(tmp_path, output), output, *says)
    assert not output.exists()
    (tmp_path / "standin").mkdir()
    (tmp_path / "standin" / "ETL9G_01").write_bytes(b"")
    assert etl9g.find_raw(tmp_path) == [tmp_path / "standin" / "ETL9G_01"]
    beside = (
        "ETL9G.zip",
        "ETL9G_50.gz",
        "ETL9INFO",
        "ETL9GINFO",
        "ETL9G_INFO.TXT",
        "ETL9G.pdf",
        "README.md",
        "._ETL9G_07",
    )
    for name in ("etl9g_50", "ETL9G_07", *beside):
        (tmp_path / name).write_bytes(b"")
    assert etl9g.find_raw(tmp_path) == [tmp_path / "ETL9G_07", tmp_path / "etl9g_50"]
    assert [etl9g.file_number(path) for path in etl9g.find_raw(tmp_path)] == [7, 50]
    (tmp_path / "ETL9G_50").write_bytes(b"")
    assert_refused(prepare(tmp_path, output), output, "ETL9G_50", "etl9g_50", "have the same number")


AS_DOWNLOADED = {
    "a folder in the folder": (
        ["ETL9G/ETL9G_01"],
        "",
        "they lie in {0}/ETL9G: move them up, or give --etl9g-dir {0}/ETL9G",
    ),
    "deeper": (["a/b/etl9g_50", "standin/ETL9G_01"], "", "{0} itself holds no raw files, they lie in {0}/a/b"),
    "the archive": (["ETL9G.zip"], "", "{0}/ETL9G.zip is packed: unpack it first"),
    "packed files": (["ETL9G_01", "ETL9G_02.gz"], "", "{0}/ETL9G_02.gz is packed: unpack it first"),
    "a file": (["ETL9G_01"], "ETL9G_01", "{0}/ETL9G_01 is a file: name its folder, --etl9g-dir {0}"),
    "the archive itself": (["etl9g.ZIP"], "etl9g.ZIP", "{0}/etl9g.ZIP is a file: unpack it first"),
}


@pytest.mark.parametrize("case", AS_DOWNLOADED)
def test_what_is_not_as_it_must_be_yet_is_told_what_to_do(case, prepare, tmp_path):
    names, given, says = AS_DOWNLOADED[case]
    for path in (tmp_path / "raw" / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    raw, output = tmp_path / "raw" / given, tmp_path / "dataset"
    assert_refused(prepare(raw, output), output, says.format(tmp_path / "raw"))
    folders = Namespace(etl9g_dir=raw, data_dir=output)
    check = preflight_check.raw_files(folders)
    assert (check.status, says.format(tmp_path / "raw") in check.finding) == ("MISSING", True)
    output.mkdir()
    (output / "metadata.json").touch()
    assert preflight_check.raw_files(folders).status == "note"


def test_a_file_named_in_small_letters_is_read(standin, prepare, tmp_path):
    (tmp_path / "etl9g_01").hardlink_to(standin[0] / "ETL9G_01")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "normalize_frames", lambda frames: frames[:, :64, :64])  # takes no time
        assert prepare(tmp_path, tmp_path / "dataset")[0] == 0
    assert (tmp_path / "dataset" / CHUNK).is_file()
