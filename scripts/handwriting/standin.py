"""Stand-ins for ETL9G: sets drawn by made-up writers, each record a function of seed, set and place alone."""

import os
import signal
from collections.abc import Iterable
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
from handwriting.fonts import Fonts, Glyphs, Hands, draw_glyph
from handwriting.out_of_set import characters_of, kinds_outside, out_of_set_sample
from handwriting.page import draw_character, to_frame
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.writer import GENERATOR_VERSION, Writer, new_writer
from images.normalization import CANVAS, normalize_frames
from records import etl9g

SHEET = 152  # characters
OFTEN = 4  # times as many out-of-set samples are kanji of level 2 as are of any other kind
OUT_OF_SET = 1023  # the sheet for them, which no set has
NICENESS = 5  # of what draws while a network is trained
_models: dict[str, list[StrokeModel]] = {}  # what a worker process draws from
_hands = Hands(Fonts())


def start_worker(models: dict[str, list[StrokeModel]], fonts: Fonts) -> None:
    """The `initializer` of a pool that draws."""
    global _hands
    begin_worker()
    _models.update(models)
    _hands = Hands(fonts)
    cv2.setNumThreads(1)


def start_drawer(fonts: Fonts) -> None:
    """The `initializer` of a pool that draws for a training: the training goes first, it alone answers Ctrl-C and
    SIGTERM, and the pool ends with it."""
    start_worker({}, fonts)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def random_of(seed: int, stream: int, index: int) -> np.random.Generator:
    """A generator for one record or writer, the same on every machine and in every process. The streams keep apart
    what is drawn: records (0) and writers (1) of files, records (2) and writers (3) of samples drawn for training."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream << 62 | index], np.uint64)))


def new_hand(rng: np.random.Generator) -> tuple[Writer, Glyphs | None]:
    """Who fills a sheet: a writer, and the font that he copies if he is one of the given fonts."""
    return new_writer(rng), _hands.glyphs(rng.random())


def sheet_writer(seed: int, set_number: int, sheet: int) -> tuple[Writer, Glyphs | None]:
    return new_hand(random_of(seed, 1, set_number * 32 + sheet))


def _ink_of(char: str, writer: Writer, glyphs: Glyphs | None, rng: np.random.Generator) -> np.ndarray:
    if glyphs and glyphs.has(char):
        return draw_glyph(char, glyphs, writer, rng)
    return draw_character(char, _models.get(char) or stroke_models(char), writer, rng)


def sheets_of(characters: str) -> list[str]:
    """The characters of one set, sheet by sheet: each on its sheet of ETL9G, those that it lacks on further ones."""
    order, sheets, _ = etl9g.set_layout()
    known = ["".join(c for c in np.array(list(order))[sheets == s] if c in characters) for s in np.unique(sheets)]
    others = "".join(c for c in characters if c not in order)
    return [*known, *(others[begin : begin + SHEET] for begin in range(0, len(others), SHEET))]


def draw_sheet(
    characters: Iterable[str], hand: tuple[Writer, Glyphs | None], randoms: Iterable[np.random.Generator]
) -> np.ndarray:
    """Frames uint8 (n, 127, 128) of characters that one hand writes on a sheet in this order, each with a generator of
    its own."""
    (writer, glyphs), frames, before = hand, [], None
    for char, rng in zip(characters, randoms, strict=True):
        ink = _ink_of(char, writer, glyphs, rng)
        frames.append(to_frame(ink, writer, rng, before))
        before = ink
    return np.stack(frames)


def draw_samples(seed: int, set_number: int, sheet: int, characters: str) -> np.ndarray:
    """Normalised images uint8 (n, 64, 64) of characters on one sheet, for training: never those of any file."""
    number = set_number << 20 | sheet << 10
    randoms = [random_of(seed, 2, number + i) for i in range(len(characters))]
    return normalize_frames(draw_sheet(characters, new_hand(random_of(seed, 3, number)), randoms))


def draw_out_of_set(seed: int, set_number: int, count: int, classes: str) -> np.ndarray:
    """Normalised images uint8 (count, 64, 64) of what is none of the classes, of all kinds, for training: most often of
    kanji, which resemble them most."""
    kinds = [kind for kind in kinds_outside(classes) for _ in range(OFTEN if kind == "level 2" else 1)]
    images = np.empty((count, CANVAS, CANVAS), np.uint8)
    pools = {kind: characters_of(kind, classes) for kind in kinds}
    for number, image in enumerate(images):
        rng = random_of(seed, 3, set_number << 20 | OUT_OF_SET << 10 | number)
        kind = kinds[number % len(kinds)]
        image[:], _ = out_of_set_sample(kind, pools[kind], new_hand(rng), rng)
    return images


def draw_set(seed: int, set_number: int, mark: bytes) -> np.ndarray:
    """The records of one whole set, in its order."""
    characters, sheets, _ = etl9g.set_layout()
    frames = []
    for sheet in dict.fromkeys(sheets.tolist()):
        places = np.flatnonzero(sheets == sheet).tolist()
        randoms = [random_of(seed, 0, set_number * len(characters) + place) for place in places]
        hand = sheet_writer(seed, set_number, sheet)
        frames.append(draw_sheet([characters[place] for place in places], hand, randoms))
    return etl9g.new_records(np.concatenate(frames), set_number, np.arange(len(characters)), mark)


def _write_set(path: Path, seed: int, set_number: int, mark: str) -> int:
    """Draws a set into its place in an unfinished file; a long answer, cut off by Ctrl-C, would be waited for."""
    records = draw_set(seed, set_number, mark.encode())
    with path.open("rb+") as file:
        file.seek(set_number % etl9g.SETS_PER_FILE * records.nbytes)
        file.write(records.tobytes())
    return len(records)


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


def synthesize(folder: Path, sets: int, seed: int, fonts: Fonts, processes: int) -> tuple[list[Path], str, int]:
    """Draws the files of a stand-in that are not in the folder yet: all its files, its mark, how many records are new.
    The mark stands in every record: generator, seed and fonts. Raises InputError for a folder that holds anything
    else."""
    mark = f"{etl9g.STANDIN_MARK.decode()} {GENERATOR_VERSION}/{seed}"
    if fonts.paths:
        mark += "/" + fonts.hash()[:5]
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
        ProcessPoolExecutor(processes, initializer=start_worker, initargs=(models, fonts)) as pool,
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
