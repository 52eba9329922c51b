"""Raw files of the ETL sets beside ETL9G to chunks of a prepared dataset, each file to one."""

import hashlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.preparing import BLOCK, finished_chunk
from data.sources import CHUNKS, EMPTY, OUTSIDE, SETS, describe, write_chunk
from files.command_line import InputError
from files.machine import begin_worker
from images.normalization import CANVAS, normalize_frames
from records import etl_sets
from records.etl9g import ink_column
from records.g_type import G8_TYPE

MODELS = "models that the writers were shown"


def prepare_files(
    name: str, paths: list[Path], output: Path, entry: dict, classes: str, skip_damaged: bool, processes: int
) -> tuple[dict, list[str]]:
    """Makes the chunks of a set's files; returns the source as sources.json describes it, and lines on what is left
    out. Raises InputError for damaged files, for those of another set, and where no record can be used."""
    for path in paths:
        whole_records(path, name, skip_damaged)
    with ProcessPoolExecutor(processes, initializer=begin_worker) as pool:
        made = pool.map(make_chunk, paths, *map(repeat, (name, output, entry["id"], classes, skip_damaged)))
        files = list(tqdm(made, total=len(paths), unit=" files", disable=None))
    first_of: dict[str, Path] = {}
    for row, path in zip(files, paths, strict=True):
        if (first := first_of.setdefault(row["sha256"], path)) != path:
            raise InputError(f"{path} and {first.name} have the same content: get one of them again")
    source, notes = describe(entry, files, etl_sets.SETS[name].how_split)
    if not source["files"]:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{paths[0].parent}: no record of {name} shows a character of the dataset{reasons}")
    return source, notes


def whole_records(path: Path, name: str, skip_damaged: bool) -> np.ndarray:
    """The records of a file. Raises InputError for one of another size, unless what there is of it is taken."""
    records, problem = etl_sets.read_records(path, name)
    if problem and not (skip_damaged and len(records)):
        raise InputError(problem)
    return records


def make_chunk(path: Path, name: str, output: Path, source: int, classes: str, skip_damaged: bool) -> dict:
    """One file to one chunk; returns what metadata.json says of it, and what is left out. A chunk of the same file that
    is there is kept. Raises InputError for a file of another set."""
    each, records, file = etl_sets.SETS[name], whole_records(path, name, skip_damaged), path.name.upper()
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    key = hashlib.sha256(f"{source} {file} {digest} {classes}".encode()).hexdigest()[:16]
    facts = {"file": path.name, "chunk": CHUNKS.format(source, key), "source": source, "sha256": digest}
    facts["damaged"] = each.files[file] - len(records)
    if finished := finished_chunk(output / facts["chunk"], facts):
        return finished
    end = each.files[file] - each.models.get(file, 0)
    samples = records[each.dummies : end]
    labels, outside = _labels(path, name, each.kind.codes(samples), classes)
    rows = np.flatnonzero(labels >= 0)
    images = _normalised(path, samples[rows], each)
    blank = ~images.any(axis=(1, 2))
    sets, writers = each.writers(samples, each.kind, list(each.files).index(file))
    empty = {f"{path.name}, record {each.dummies + row}": 1 for row in rows[blank].tolist()}
    models = {path.name: len(records) - end} if len(records) > end else {}
    if blank.any():
        images, rows = images[~blank], rows[~blank]
    facts |= {"records": len(rows), "labels": np.unique(labels[rows]).tolist()}
    facts["left_out"] = {OUTSIDE: outside, EMPTY: empty, MODELS: models}
    write_chunk(output, facts, images, labels[rows], source * SETS + sets[rows], writers[rows])
    return facts


def _labels(path: Path, name: str, codes: np.ndarray, classes: str) -> tuple[np.ndarray, Counter]:
    """The labels (n,) of a file's codes, -1 outside the classes, and how often each character outside is there."""
    known = etl_sets.characters_of(np.unique(codes), name, path.parent)
    counts = dict(zip(*(values.tolist() for values in np.unique(codes, return_counts=True)), strict=True))
    if (unknown := sum(counts[code] for code, char in known.items() if char is None)) > len(codes) / 2:
        what = f"{unknown:,} of its {len(codes):,} records have codes that {name} does not have"
        raise InputError(f"{path} is damaged, or a file of another set: {what}")
    label_of, outside = {code: classes.find(char) if char else -1 for code, char in known.items()}, Counter()
    for code, label in label_of.items():
        if label < 0:
            outside[known[code] or f"code 0x{code:X}"] += counts[code]
    return np.array([label_of[code] for code in codes.tolist()], np.int64), outside


def _normalised(path: Path, records: np.ndarray, each: etl_sets.EtlSet) -> np.ndarray:
    """The images of records, uint8 (n, 64, 64), 255 = ink."""
    images = np.empty((len(records), CANVAS, CANVAS), np.uint8)
    for begin in range(0, len(records), BLOCK):
        frames = each.kind.frames(records[begin : begin + BLOCK])
        if begin == 0 and each.kind is G8_TYPE and ink_column(frames) > 64:
            raise InputError(f"{path}: the images sit 8 pixels too far right, as in ETL9G files; this reads ETL8G")
        images[begin : begin + BLOCK] = normalize_frames(frames)
    return images
