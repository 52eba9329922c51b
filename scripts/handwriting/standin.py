"""Stand-ins for ETL9G: sets drawn by made-up writers, each record a function of seed, set and place alone."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from characters.jis import etl9g_classes
from characters.kinds import is_hiragana
from files.atomic import atomic_write
from files.command_line import InputError
from files.machine import begin_worker
from handwriting.fonts import Glyphs, draw_glyph
from handwriting.page import draw_character, to_frame
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.writer import GENERATOR_VERSION, Writer, new_writer
from records import etl9g

FONT_SHARE = 0.05  # of the sheets, for each font given
_models: dict[str, list[StrokeModel]] = {}  # what a worker process draws from
_glyphs: list[Glyphs] = []


def _start_worker(models: dict[str, list[StrokeModel]], fonts: list[Path]) -> None:
    begin_worker()
    _models.update(models)
    _glyphs.extend(map(Glyphs, fonts))
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
    """The records of one whole set, in its order."""
    characters, sheets, _ = etl9g.set_layout()
    frames = np.empty((len(characters), etl9g.IMAGE_HEIGHT, etl9g.IMAGE_WIDTH), np.uint8)
    writers, before = {sheet: sheet_writer(seed, set_number, sheet) for sheet in set(sheets.tolist())}, None
    for i, (char, sheet) in enumerate(zip(characters, sheets.tolist(), strict=True)):
        rng = random_of(seed, 0, set_number * len(characters) + i)
        writer, glyphs = writers[sheet]
        has_glyph = glyphs and glyphs.has(char)
        ink = draw_glyph(char, glyphs, writer, rng) if has_glyph else draw_character(char, _models[char], writer, rng)
        frames[i] = to_frame(ink, writer, rng, before if i and sheets[i] == sheets[i - 1] else None)
        before = ink
    return etl9g.new_records(frames, set_number, np.arange(len(characters)), mark)


def _write_set(path: Path, seed: int, set_number: int, mark: str) -> int:
    """Draws a set into its place in an unfinished file; a long answer, cut off by Ctrl-C, would be waited for."""
    records = draw_set(seed, set_number, mark.encode())
    with path.open("rb+") as file:
        file.seek(set_number % etl9g.SETS_PER_FILE * records.nbytes)
        file.write(records.tobytes())
    return len(records)


def check_fonts(fonts: list[Path]) -> None:
    """Raises InputError for a font that cannot be read or has none of the characters."""
    for font in fonts:
        if not any(map(Glyphs(font).has, etl9g_classes())):
            raise InputError(f"{font} has none of the characters")


def missing_files(folder: Path, files: int, mark: str) -> list[int]:
    """The numbers of the files still to draw. Raises InputError for a folder that holds anything else."""
    missing = set(range(1, files + 1))
    for path in etl9g.raw_files(folder):
        records, problem = etl9g.read_records(path)
        number, own_mark = etl9g.file_number(path), etl9g.standin_mark(records)
        if own_mark is None:
            raise InputError(f"{path} was not made by this script and stays as it is: choose another --out")
        if own_mark != mark or problem or number > files:
            raise InputError(f"{path} belongs to another stand-in ({own_mark}) or a larger one: choose another --out")
        missing.discard(number)
    return sorted(missing)


def synthesize(folder: Path, sets: int, seed: int, fonts: list[Path], processes: int) -> tuple[list[Path], str, int]:
    """Draws the files of a stand-in that are not in the folder yet: all its files, its mark, how many records are new.
    The mark stands in every record: generator, seed and fonts. Raises InputError for a folder that holds anything
    else."""
    mark = f"{etl9g.STANDIN_MARK.decode()} {GENERATOR_VERSION}/{seed}"
    if fonts:
        mark += "/" + hashlib.sha256(b"".join(font.read_bytes() for font in fonts)).hexdigest()[:5]
    paths = [folder / f"ETL9G_{number + 1:02d}" for number in range(sets // etl9g.SETS_PER_FILE)]
    missing = missing_files(folder, len(paths), mark)
    for stale in folder.glob(".ETL9G_*.part"):
        stale.unlink()
    if not missing:
        return paths, mark, 0
    with ProcessPoolExecutor(processes, initializer=begin_worker) as pool:
        models = dict(zip(etl9g_classes(), pool.map(stroke_models, etl9g_classes(), chunksize=64), strict=True))
    count = len(missing) * etl9g.records_per_file()
    with (
        ProcessPoolExecutor(processes, initializer=_start_worker, initargs=(models, fonts)) as pool,
        tqdm(total=count, unit=" records", unit_scale=True, disable=None) as bar,
    ):
        for number in missing:
            path = paths[number - 1]
            with atomic_write(path) as temporary:
                temporary.write_bytes(b"")
                for written in pool.map(_write_set, repeat(temporary), repeat(seed), etl9g.sets_of(path), repeat(mark)):
                    bar.update(written)
    return paths, mark, count


def contact_sheet(paths: list[Path], rows: int = 24, columns: int = 20) -> Image.Image:
    """Some characters of whole files at half size: a character a row, a writer (another set) a column."""
    classes, order = etl9g_classes(), etl9g.set_layout()[0]
    kana = sum(map(is_hiragana, classes))
    shown = [*np.linspace(0, kana - 1, rows // 2), *np.linspace(kana, len(classes) - 1, rows - rows // 2)]
    places = np.array([order.index(classes[int(i)]) for i in shown])
    records = [etl9g.read_records(path)[0].reshape(etl9g.SETS_PER_FILE, -1) for path in paths]
    sets = [records_of_set for of_file in records for records_of_set in of_file][:columns]
    frames = np.stack([etl9g.unpack_images(one[places]) for one in sets], axis=2)  # (rows, 127, columns, 128)
    tiles = 255 - frames.reshape(rows * etl9g.IMAGE_HEIGHT, -1) * (255 // etl9g.DARKEST)
    return Image.fromarray(tiles).resize((tiles.shape[1] // 2, tiles.shape[0] // 2), Image.Resampling.LANCZOS)
