"""Make a stand-in for ETL9G: raw files in its exact format, drawn from KanjiVG strokes by made-up writers.

    python scripts/synthesize_etl9g.py --sets 20 --out ETL9G/standin --seed 0 --preview standin.png

A set is 3,036 characters on 20 sheets, each sheet by a writer of its own; a file ETL9G_NN holds 4 sets. Every record
depends on (seed, set, record) alone, however many processes draw. A file that is already there is not made again.
Strokes: KanjiVG, CC BY-SA 3.0; what is made from them carries that licence.
"""

import argparse
import hashlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from atomic_file import atomic_write
from command_line import MOST_PROCESSES, PROCESSES, InputError, begin_worker, run
from etl9g_format import (
    DARKEST,
    FILES,
    RECORD,
    SETS_PER_FILE,
    STANDIN_MARK,
    etl9g_classes,
    new_records,
    raw_files,
    read_records,
    records_per_file,
    records_per_set,
    set_layout,
    standin_mark,
    unpack_images,
)
from font_glyphs import Glyphs, write_glyph
from handwriting import GENERATOR_VERSION, Writer, new_writer, write_character
from kanjivg_strokes import StrokeModel, stroke_models
from output_folders import OutputFolders

FONT_SHARE = 0.05  # of the sheets, for each font given
# What real scans of this family measure (960 ETL8G frames, same scanner and form), for comparison.
REAL_STATISTICS = {
    "ink width, px": "65 ± 9",
    "ink height, px": "79 ± 8",
    "centre x, px": "60 ± 4",
    "centre y, px": "66 ± 5",
    "stroke width, px (5 50 95 %)": "4.6  5.7  7.0",
    "ink grey, of 15 (25 50 75 %)": "5  7  8",
    "paper, % of pixels": "91",
    "hiragana, longer side, px": "54",
}

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


def measure(frames: np.ndarray, kana: np.ndarray) -> dict[str, str]:
    """The statistics of REAL_STATISTICS for frames uint8 (n, 127, 128)."""
    boxes, widths, greys = [], [], []
    for frame in frames:
        ys, xs = np.nonzero(frame[4:-4, 4:-4] > 2)  # inside the edges, where frame fragments are
        boxes.append((xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) if len(xs) else (0, 0, 0, 0))
        ink = (frame > 0).astype(np.uint8)
        outline = sum(cv2.arcLength(c, True) for c in cv2.findContours(ink, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0])
        widths.append(2 * float(ink.sum()) / max(outline, 1))  # a long stroke has an edge on both sides
        greys.append(frame[frame > 2])
    x0, x1, y0, y1 = np.array(boxes).T
    kanji = ~kana

    def spread(values):
        return f"{values.mean():.0f} ± {values.std():.0f}"

    return {
        "ink width, px": spread((x1 - x0)[kanji]),
        "ink height, px": spread((y1 - y0)[kanji]),
        "centre x, px": spread((x0 + x1)[kanji] / 2 + 4),
        "centre y, px": spread((y0 + y1)[kanji] / 2 + 4),
        "stroke width, px (5 50 95 %)": "  ".join(
            f"{v:.1f}" for v in np.percentile(np.array(widths)[kanji], [5, 50, 95])
        ),
        "ink grey, of 15 (25 50 75 %)": "  ".join(
            f"{v:.0f}" for v in np.percentile(np.concatenate(greys), [25, 50, 75])
        ),
        "paper, % of pixels": f"{100 * (frames == 0).mean():.0f}",
        "hiragana, longer side, px": f"{np.maximum(x1 - x0, y1 - y0)[kana].mean():.0f}" if kana.any() else "none",
    }


def preview(paths: list[Path], rows: int = 24, columns: int = 20) -> Image.Image:
    """A contact sheet: a character a row, a writer (another set) a column."""
    sets = [(path, s) for path in paths for s in range(SETS_PER_FILE)][:columns]
    characters, _, _ = set_layout()
    classes = etl9g_classes()
    shown = [classes[i] for i in np.linspace(0, 70, rows // 2).astype(int)]
    shown += [classes[i] for i in np.linspace(71, len(classes) - 1, rows - len(shown)).astype(int)]
    records = [read_records(path)[0] for path, _ in sets]
    frames = np.stack(
        [
            unpack_images(r[[s * records_per_set() + characters.index(c) for c in shown]])
            for r, (_, s) in zip(records, sets, strict=True)
        ]
    )  # (columns, rows, 127, 128)
    tiles = 255 - frames.transpose(1, 2, 0, 3).reshape(rows * frames.shape[2], -1) * (255 // DARKEST)
    return Image.fromarray(tiles.astype(np.uint8)).resize(
        (tiles.shape[1] // 2, tiles.shape[0] // 2), Image.Resampling.LANCZOS
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sets", type=int, default=20, help="how many sets of one sample a class; a multiple of 4 (default 20)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("ETL9G/standin"), help="folder of the files (default ETL9G/standin)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed is other people (default 0)")
    parser.add_argument(
        "--font", type=Path, action="append", default=[], help="a font file as a further writer; repeatable"
    )
    parser.add_argument("--preview", type=Path, help="also write a contact sheet to this PNG")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="default: one a core")
    arguments = parser.parse_args()
    if arguments.sets % SETS_PER_FILE or not 0 < arguments.sets <= FILES * SETS_PER_FILE:
        parser.error(
            f"--sets must be a multiple of {SETS_PER_FILE} up to {FILES * SETS_PER_FILE}: "
            f"a file holds {SETS_PER_FILE} sets"
        )
    if not 0 <= arguments.seed < 10**8:  # it has to fit into a record's undefined bytes
        parser.error("--seed must lie between 0 and 99,999,999")
    if not 1 <= arguments.processes <= MOST_PROCESSES:
        parser.error(f"--processes must lie between 1 and {MOST_PROCESSES}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    for font in arguments.font:  # one that cannot be used is refused before anything is drawn
        if not any(map(Glyphs(font).has, etl9g_classes())):
            raise InputError(f"{font} has none of the characters")
    if len(arguments.font) * FONT_SHARE > 1:
        raise InputError(f"{len(arguments.font)} fonts are too many: each copies {FONT_SHARE:.0%} of the sheets")
    with OutputFolders(arguments.out):
        synthesize(arguments)


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


if __name__ == "__main__":
    run(main)
