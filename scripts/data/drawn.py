"""Samples by made-up writers, drawn straight into a prepared dataset: for any class list, which raw files are not."""

import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.preparing import finished_chunk
from data.sources import CHUNKS, EMPTY, OUTSIDE, SETS, describe, write_chunk
from files.command_line import InputError
from handwriting.fonts import Fonts
from handwriting.standin import draw_samples, sheets_of, start_worker
from handwriting.writer import GENERATOR_VERSION
from records.etl9g import STANDIN_MARK
from structure.kanjivg import has_strokes

KIND = "made-up writers"
APART = 1 << 32  # added to the numbers of these sets: training that draws as it goes has those below
MOST_SHEETS = 1024


def check_drawable(classes: str) -> None:
    """Raises InputError for characters that KanjiVG does not draw."""
    if lacking := [char for char in classes if not has_strokes(char)]:
        shown = ", ".join(f"{char} (U+{ord(char):04X})" for char in lacking[:5])
        more = f" and {len(lacking) - 5:,} more" if len(lacking) > 5 else ""
        raise InputError(f"KanjiVG has no strokes for {shown}{more}: take them out of the list, or give pictures")


def entry_for_drawn(others: list[dict], seed: int) -> dict:
    """What a dataset calls this source; one of another seed takes the earlier one's place."""
    number = next((row["id"] for row in others if row["kind"] == KIND), max([0, *(row["id"] for row in others)]) + 1)
    mark = STANDIN_MARK.decode()
    facts = {"id": number, "name": f"{mark}, drawn", "kind": KIND, "licence": "CC BY-SA 3.0", "folder": f"seed {seed}"}
    return facts | {"generator": f"{mark} {GENERATOR_VERSION}/{seed}"}


def prepare_drawn(
    sets: int, seed: int, fonts: Fonts, output: Path, entry: dict, classes: str, processes: int
) -> tuple[dict, list[str]]:
    """Makes a chunk for each set of one sample a class; returns the source as sources.json describes it, and lines on
    what is left out. Raises InputError for characters that cannot be drawn."""
    check_drawable(classes)
    with ProcessPoolExecutor(processes, initializer=start_worker, initargs=({}, fonts)) as pool:
        made = pool.map(draw_chunk, range(sets), *map(repeat, (seed, fonts, output, entry["id"], classes)))
        files = list(tqdm(made, total=sets, unit=" sets", disable=None))
    return describe(entry, files, "by writer (set)")


def draw_chunk(number: int, seed: int, fonts: Fonts, output: Path, source: int, classes: str) -> dict:
    """One set to one chunk; returns what metadata.json says of it. One that is there already is kept."""
    said = f"{GENERATOR_VERSION} {seed} {number} {fonts.hash() if fonts.paths else ''} {source} {classes}"
    digest = hashlib.sha256(said.encode()).hexdigest()
    facts = {"file": f"set {number}", "chunk": CHUNKS.format(source, digest[:16]), "source": source}
    facts |= {"sha256": digest, "damaged": 0}
    if finished := finished_chunk(output / facts["chunk"], facts):
        return finished
    sheets = sheets_of(classes)
    images = np.concatenate([draw_samples(seed, APART + number, i, on) for i, on in enumerate(sheets) if on])
    characters = "".join(sheets)
    labels = np.array([classes.index(char) for char in characters])
    writers = np.repeat(number * MOST_SHEETS + np.arange(len(sheets)), list(map(len, sheets)))
    drawn = images.any(axis=(1, 2))
    blank = Counter(characters[row] for row in np.flatnonzero(~drawn))
    facts |= {"records": int(drawn.sum()), "labels": np.unique(labels[drawn]).tolist()}
    facts["left_out"] = {OUTSIDE: {}, EMPTY: dict(blank)}
    of_set = np.full(len(images), source * SETS + number)
    write_chunk(output, facts, images[drawn], labels[drawn], of_set[drawn], writers[drawn])
    return facts
