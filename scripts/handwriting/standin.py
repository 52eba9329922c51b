"""TODO doc: from synthesize_etl9g"""

import argparse
import hashlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from characters.jis import etl9g_classes
from files.atomic import atomic_write
from files.command_line import InputError
from files.workers import begin_worker
from handwriting.font_glyphs import Glyphs, write_glyph
from handwriting.page import write_character
from handwriting.statistics import REAL_STATISTICS, measure, preview
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.writer import GENERATOR_VERSION, Writer, new_writer
from records.etl9g import (
    RECORD,
    SETS_PER_FILE,
    STANDIN_MARK,
    new_records,
    raw_files,
    read_records,
    records_per_file,
    records_per_set,
    set_layout,
    standin_mark,
    unpack_images,
)

FONT_SHARE = 0.05  # of the sheets, for each font given
_models: dict[str, list[StrokeModel]] = {}  # what a worker process draws from
_glyphs: list[Glyphs] = []


def _start_worker(models: dict[str, list[StrokeModel]], fonts: list[Path]) -> None:
    begin_worker()
    _models.update(models)
    _glyphs.extend(Glyphs(font) for font in fonts)
    cv2.setNumThreads(1)


def random_of(seed: int, stream: int, index: int) -> np.random.Generator:
    """A generator for one record (stream 0) or writer (stream 1), the same on every machine and in every process."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream << 62 | index], np.uint64)))


def sheet_writer(seed: int, set_number: int, sheet: int) -> tuple[Writer, Glyphs | None]:
    """Who fills a sheet: a writer, and the font that he copies if he is one of the given fonts."""
    rng = random_of(seed, 1, set_number * 32 + sheet)
    writer = new_writer(rng)
    which = int(rng.random() / FONT_SHARE)
    return writer, _glyphs[which] if which < len(_glyphs) else None


def draw_set(seed: int, set_number: int, mark: bytes) -> np.ndarray:
    """The records of one whole set."""
    characters, sheets, _ = set_layout()
    frames = np.empty((len(characters), *RECORD["image"].shape[:1], 2 * RECORD["image"].shape[1]), np.uint8)
    writers = {sheet: sheet_writer(seed, set_number, sheet) for sheet in set(sheets.tolist())}
    for i, (char, sheet) in enumerate(zip(characters, sheets.tolist(), strict=True)):
        rng = random_of(seed, 0, set_number * len(characters) + i)
        writer, glyphs = writers[sheet]
        if glyphs and glyphs.has(char):
            frames[i] = write_glyph(char, glyphs, writer, rng)
        else:
            frames[i] = write_character(char, _models[char], writer, rng)
    return new_records(frames, set_number, np.arange(len(characters)), mark)


def _write_set(path: Path, seed: int, set_number: int, mark: bytes) -> int:
    """Draws a set into its place in an unfinished file."""
    records = draw_set(seed, set_number, mark)
    with path.open("rb+") as file:
        file.seek(set_number % SETS_PER_FILE * records.nbytes)
        file.write(records.tobytes())
    return len(records)


def check_folder(folder: Path, files: int, mark: bytes) -> list[int]:
    """The numbers of the files still to make; refuses a folder that holds anything else."""
    missing = set(range(1, files + 1))
    for path in raw_files(folder) if folder.is_dir() else []:
        records, problem = read_records(path)
        number, found = int(path.name[-2:]), standin_mark(records)
        if found is None:
            raise InputError(f"{path} was not made by this script and stays as it is: choose another --out")
        if found.encode() == mark and number > files and not problem:
            raise InputError(f"{path} is of this stand-in, which has more sets: give more --sets, or another --out")
        if found.encode() != mark or problem:
            raise InputError(f"{path} belongs to another stand-in ({found}): delete it or choose another --out")
        missing.discard(number)
    return sorted(missing)


def synthesize(arguments: argparse.Namespace) -> None:
    """Draws the files that are not there yet, and tells how they compare with real scans."""
    fonts = hashlib.sha256(b"".join(font.read_bytes() for font in arguments.font)).hexdigest()[:5]
    mark = STANDIN_MARK + f" {GENERATOR_VERSION}/{arguments.seed}{'/' + fonts if arguments.font else ''}".encode()
    files = arguments.sets // SETS_PER_FILE
    missing = check_folder(arguments.out, files, mark)
    for stale in arguments.out.glob(".ETL9G_*.part"):
        stale.unlink()
    paths = [arguments.out / f"ETL9G_{number:02d}" for number in range(1, files + 1)]
    begin = time.monotonic()
    if missing:
        with ProcessPoolExecutor(arguments.processes, initializer=begin_worker) as pool:
            models = dict(zip(etl9g_classes(), pool.map(stroke_models, etl9g_classes(), chunksize=64), strict=True))
        with (
            ProcessPoolExecutor(
                arguments.processes, initializer=_start_worker, initargs=(models, arguments.font)
            ) as pool,
            tqdm(
                total=len(missing) * records_per_file(),
                unit=" records",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for number in missing:
                first = (number - 1) * SETS_PER_FILE
                with atomic_write(paths[number - 1]) as temporary:
                    with temporary.open("wb") as file:
                        file.truncate(records_per_file() * RECORD.itemsize)
                    sets = range(first, first + SETS_PER_FILE)
                    for count in pool.map(
                        _write_set,
                        [temporary] * SETS_PER_FILE,
                        [arguments.seed] * SETS_PER_FILE,
                        sets,
                        [mark] * SETS_PER_FILE,
                    ):
                        bar.update(count)
    seconds = time.monotonic() - begin
    made = len(missing) * records_per_file()
    print(
        f"{files} files, {arguments.sets} sets, {files * records_per_file():,} records in {arguments.out} "
        f"({mark.decode()})"
    )
    if made:
        print(f"{made:,} drawn in {seconds:.1f} s, {made / seconds:,.0f} a second")
    records = read_records(paths[0])[0][: records_per_set() : 3]
    kana = np.array([jis < 0x3000 for jis in records["jis"]])
    print(f"{'one set in three characters':<30} {'made':>16} {'real (ETL8G)':>16}")
    for name, value in measure(unpack_images(records), kana).items():
        print(f"{name:<30} {value:>16} {REAL_STATISTICS[name]:>16}")
    if arguments.preview:
        sheet = preview(paths)
        with atomic_write(arguments.preview) as temporary:
            sheet.save(temporary, format="PNG")
        print(f"contact sheet: {arguments.preview}")
