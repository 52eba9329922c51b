"""synthesize_etl9g.py: the stand-in's records byte by byte, what they depend on, and what the script refuses."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image

import synthesize_etl9g
from characters.jis import etl9g_classes
from handwriting import standin as drawing
from handwriting.fonts import Fonts, Hands
from handwriting.page import draw_character, to_frame
from handwriting.strokes import stroke_models
from handwriting.writer import GENERATOR_VERSION
from records import etl9g
from records.etl9g import STANDIN_MARK, read_records, set_layout, unpack_images
from script_runs import run_script

SCRIPT = Path(synthesize_etl9g.__file__)
RECORD_BYTES = 8199
SEED = 0  # of the fixture `standin`
MARK = f"{STANDIN_MARK.decode()} {GENERATOR_VERSION}/{SEED}"
LATIN_FONT = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # has no Japanese characters


def synthesize(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the script."""
    done = run_script(SCRIPT, *arguments)
    return done.returncode, done.stdout, done.stderr


def test_a_file_is_laid_out_as_the_database_describes(standin):
    content = (standin[0] / "ETL9G_01").read_bytes()
    assert len(content) == 4 * 3036 * RECORD_BYTES

    def fields(record: int) -> tuple:
        return struct.unpack(">2H8sI4B4H2B34x8128s7x", content[record * RECORD_BYTES :][:RECORD_BYTES])

    sheet, jis, reading, serial, *_, x, y, image = fields(15)
    assert (sheet, jis, reading.rstrip(b"\0"), serial, x, y) == (1, 0x2422, b"HIRAGANA", 16, 15, 0)  # あ
    assert fields(0)[:2] == (1, 0x3021)  # 亜, the first kanji
    assert fields(3035)[:2] == (20, 0x4F53)  # 腕, the last
    in_second_set = fields(3036 + 2932)
    assert (in_second_set[:2], in_second_set[3], in_second_set[-3:-1]) == ((20, 0x2473), 3036 + 2933, (15, 2))  # ん
    pixels = np.frombuffer(image, np.uint8).reshape(127, 64)
    assert max(pixels.max() >> 4, (pixels & 15).max()) > 2


def test_every_set_holds_each_class_once(standin):
    records, problem = read_records(standin[0] / "ETL9G_01")
    assert problem is None
    for jis in records["jis"].reshape(4, 3036):
        characters = [bytes([code >> 8 | 0x80, code & 0xFF | 0x80]).decode("euc_jp") for code in jis.tolist()]
        assert sorted(characters) == sorted(etl9g_classes())
    assert len(set(records["serial"].tolist())) == len(records)
    assert set(records["sheet"].tolist()) == set(range(1, 21))
    assert {bytes(mark).rstrip(b"\0") for mark in records["undefined"]} == {MARK.encode()}
    assert len(f"{MARK}9999999/abcde") <= 34  # with the longest seed, and a font: all that fits into these bytes
    assert (unpack_images(records[::7]) > 2).any(axis=(1, 2)).all()


def test_a_record_depends_on_seed_set_and_place_alone(standin):
    """Two processes drew the file; one record drawn here by itself, beside the one before it on its sheet, is the same,
    with another seed it is not."""
    frames = unpack_images(read_records(standin[0] / "ETL9G_01")[0])
    characters, sheets, _ = set_layout()
    for set_number, place in ((0, 0), (0, 15), (1, 31), (1, 1517), (2, 2900), (3, 2), (3, 3035)):
        drawn = []
        for seed in (SEED, SEED + 1):
            writer, glyphs = drawing.sheet_writer(seed, set_number, int(sheets[place]))
            assert glyphs is None
            ink = None
            for number in (place - 1, place) if place and sheets[place - 1] == sheets[place] else (place,):
                char, rng = characters[number], drawing.random_of(seed, 0, set_number * 3036 + number)
                before, ink = ink, draw_character(char, stroke_models(char), writer, rng)
            drawn.append(to_frame(ink, writer, rng, before))
        assert np.array_equal(drawn[0], frames[set_number * 3036 + place])
        assert not np.array_equal(drawn[1], frames[set_number * 3036 + place])


def test_a_font_draws_what_it_has_and_strokes_the_rest(standin, square_font, monkeypatch):
    """The start of a set, every sheet by the font: only the font's two characters, and the edges of those that
    follow them, differ from what the file has."""
    start = [column[:40] for column in set_layout()]
    monkeypatch.setattr(etl9g, "set_layout", lambda: start)
    monkeypatch.setattr(drawing, "_hands", Hands(Fonts((square_font,), 1.0)))
    monkeypatch.setattr(drawing, "_models", {char: stroke_models(char) for char in start[0]})
    drawn = unpack_images(drawing.draw_set(SEED, 0, b""))
    frames = unpack_images(read_records(standin[0] / "ETL9G_01")[0][:40])
    differing = np.flatnonzero((drawn != frames).any(axis=(1, 2)))
    assert "".join(start[0][i] for i in differing).translate(str.maketrans("", "", "唖旭")) == "亜あ"
    differing = differing[np.isin([start[0][i] for i in differing], list("亜あ"))]
    for frame in drawn[differing]:
        y, x = (int(np.median(places)) for places in np.nonzero(frame > 2))
        assert (frame[y - 8 : y + 8, x - 8 : x + 8] > 0).all()  # a filled square: ink everywhere, however grainy


def test_fonts_that_cannot_be_used(tmp_path):
    for number, content in enumerate([b"not a font\n", b"", LATIN_FONT.read_bytes()[:3000]]):
        (tmp_path / f"{number}.ttf").write_bytes(content)
    for fonts, says in (
        ([LATIN_FONT], "has none of the characters"),
        (["nowhere.ttf"], "nowhere.ttf is missing or no font"),
        *(([tmp_path / f"{number}.ttf"], "is missing or no font") for number in range(3)),
    ):
        flags = [word for font in fonts for word in ("--font", font)]
        code, printed, error = synthesize("--out", tmp_path / "out", "--sets", 4, *flags)
        assert (code, printed, error.count("\n")) == (2, "", 1)
        assert says in error
        assert not (tmp_path / "out").exists()


def test_a_finished_file_is_not_drawn_again_and_can_be_looked_at(standin, tmp_path):
    path = standin[0] / "ETL9G_01"
    before = path.stat().st_mtime_ns
    picture = tmp_path / "sheet.png"
    code, printed, _ = synthesize("--out", standin[0], "--sets", 4, "--seed", SEED, "--preview", picture)
    assert code == 0
    assert "drawn in" not in printed
    assert path.stat().st_mtime_ns == before
    with Image.open(picture) as sheet:
        pixels = np.asarray(sheet)
    assert sheet.size == (4 * 64, 24 * 127 // 2)  # a column for each set, half size
    assert np.median(pixels) > 240  # dark ink on white paper
    assert pixels.min() < 160


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *((("--sets", sets), "--sets must be a multiple of 4, up to 200") for sets in (3, 0, 204)),
        *((("--seed", seed), "--seed must lie between") for seed in (-1, 100_000_000)),
        (("--processes", 0), "--processes: must be at least 1"),
    ],
)
def test_wrong_calls(arguments, says, tmp_path):
    code, printed, error = synthesize("--out", tmp_path, *arguments)
    assert (code, printed) == (2, "")
    assert says in error.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ETL9G_01", bytes(RECORD_BYTES), "was not made by this script"),
        ("ETL9G_01", b"", "was not made by this script"),
        ("ETL8G_01", b"", "not a name of an ETL9G raw file"),
    ],
)
def test_a_folder_that_holds_other_files_is_refused(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    code, _, error = synthesize("--out", tmp_path, "--sets", 4)
    assert (code, error.count("\n")) == (2, 1)
    assert says in error
    assert (tmp_path / name).read_bytes() == content


def test_a_folder_that_holds_another_stand_in_is_refused(standin, square_font, tmp_path):
    (tmp_path / "ETL9G_01").hardlink_to(standin[0] / "ETL9G_01")
    for other in (("--seed", SEED + 1), ("--seed", SEED, "--font", square_font)):
        code, _, error = synthesize("--out", tmp_path, "--sets", 4, *other)
        assert (code, error.count("\n")) == (2, 1)
        assert f"belongs to another stand-in ({MARK})" in error
    (tmp_path / "ETL9G_01").rename(tmp_path / "ETL9G_02")
    code, _, error = synthesize("--out", tmp_path, "--sets", 4, "--seed", SEED)
    assert (code, "ETL9G_02 belongs to another stand-in" in error) == (2, True)


def test_ctrl_c_leaves_nothing_half_drawn(tmp_path):
    command = [sys.executable, SCRIPT, "--sets", "4", "--out", tmp_path, "--processes", "2"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while run.poll() is None and not any(path.stat().st_blocks for path in tmp_path.iterdir()):
        time.sleep(0.02)  # until the first set is written into the unfinished file
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the script and its processes
    printed, error = run.communicate(timeout=60)
    assert (run.returncode, printed, error) == (130, "", "")
    assert not list(tmp_path.iterdir())
