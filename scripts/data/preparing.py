"""TODO doc: from prepare_dataset"""

import argparse
import hashlib
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from characters.jis import etl9g_classes, jis_code, jis_codes
from data.npz import map_member
from data.prepared import CHUNK_NAME, MAPPING_FILE, METADATA_FILE, split_sets
from files.atomic import atomic_write, write_text
from files.command_line import InputError
from files.plain_json import parse_json
from files.workers import begin_worker
from images.normalization import CANVAS, CONTENT, CONTRACT, normalize_frames
from records.etl9g import (
    SETS_PER_FILE,
    file_number,
    find_damage,
    looks_shifted,
    read_records,
    records_per_set,
    set_layout,
    standin_mark,
    unpack_images,
)

BLOCK = 1012  # records normalised at once
CONTRACT_VERSION = 1
CHUNK_ARRAYS = {"source": "U", "images": "u", "labels": "i", "sets": "i"}  # and their kinds of dtype


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_chunk(path: Path, chunk: Path, skip_damaged: bool) -> dict:
    """One raw file to one chunk; returns what metadata.json says of the file. Raises InputError for a damaged file."""
    records, problem = read_records(path)
    if problem and not (skip_damaged and len(records)):
        raise InputError(problem)
    raw_hash = sha256(path)
    facts = {"file": path.name, "sha256": raw_hash, "mark": standin_mark(records)}
    kept = None if problem else finished_chunk(chunk, path.name, raw_hash)
    if kept and (skip_damaged or not kept["damaged"]):
        return facts | kept
    images = np.empty((len(records), CANVAS, CANVAS), np.uint8)
    damage: dict[int, str] = {}
    order, _, _ = set_layout()
    expected = jis_codes(order)
    for begin in range(0, len(records), BLOCK):
        block = records[begin : begin + BLOCK]
        frames = unpack_images(block)
        damage |= {begin + i: reason for i, reason in find_damage(block, frames).items()}
        if damage and not skip_damaged:
            break
        if begin == 0 and looks_shifted(frames):
            raise InputError(f"{path}: the images sit 8 pixels too far left, as in ETL8G files; this reads ETL9G")
        images[begin : begin + BLOCK] = normalize_frames(frames)
    if damage and not skip_damaged:
        first = min(damage)
        raise InputError(
            f"{path} is damaged: record {first} (offset {first * records.itemsize:,}): {damage[first]}; "
            "get the file again, or leave such records out with --skip-damaged"
        )
    good = np.setdiff1d(np.arange(len(records)), list(damage))
    out_of_order = int((records["jis"][good] != expected[good % len(expected)]).sum())
    label_of = np.full(65536, -1, np.int16)
    label_of[jis_codes(etl9g_classes())] = np.arange(len(etl9g_classes()))
    sets = (file_number(path) - 1) * SETS_PER_FILE + good // records_per_set()
    facts |= {
        "records": len(good),
        "damaged": records_missing(problem, records) + len(damage),
        "out_of_order": out_of_order,
    }
    chunk.with_name(METADATA_FILE).unlink(missing_ok=True)  # comes back last: a dataset with it is whole
    with atomic_write(chunk) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            images=images if len(good) == len(images) else images[good],
            labels=label_of[records["jis"][good]],
            sets=sets.astype(np.int16),
            source=np.array(json.dumps(facts | {"contract": CONTRACT_VERSION})),
        )
    return facts


def records_missing(problem: str | None, records: np.ndarray) -> int:
    """How many records a short file lacks."""
    return max(0, SETS_PER_FILE * records_per_set() - len(records)) if problem else 0


def finished_chunk(chunk: Path, raw_name: str, raw_hash: str) -> dict | None:
    """What a chunk says of the raw file that it was made from, if that is this very file; None if it has to be made."""
    try:
        told, images, *_ = (map_member(chunk, name, kinds) for name, kinds in CHUNK_ARRAYS.items())
        source = parse_json(str(told), str(chunk), "")
    except (OSError, InputError):
        return None
    same = (source.get("contract"), source.get("file"), source.get("sha256"), source.get("records"))
    counts = {name: source.get(name) for name in ("records", "damaged", "out_of_order")}
    counted = all(type(count) is int for count in counts.values())
    return counts if counted and same == (CONTRACT_VERSION, raw_name, raw_hash, len(images)) else None


def check_files(paths: list[Path], skip_damaged: bool) -> None:
    """Raises InputError for what shows before any record is looked at: files too short, or of several sources."""
    marks = set()
    for path in paths:
        records, problem = read_records(path)
        if problem and not (skip_damaged and len(records)):
            raise InputError(problem)
        marks.add(standin_mark(records))
    if len(marks) > 1:
        told = ", ".join(sorted(str(mark or "real ETL9G") for mark in marks))
        raise InputError(f"{paths[0].parent} mixes files of several sources: {told}")


def source_of(files: list[dict], paths: list[Path]) -> str:
    """ "ETL9G" or "KanjiVG stand-in"; raises InputError for a file that is there twice."""
    seen: dict[str, str] = {}
    for facts in files:
        if facts["sha256"] in seen:
            raise InputError(
                f"{paths[0].parent / facts['file']} is byte for byte {seen[facts['sha256']]}: a renamed copy?"
            )
        seen[facts["sha256"]] = facts["file"]
    return "KanjiVG stand-in" if files[0]["mark"] else "ETL9G"


def write_mapping(folder: Path) -> None:
    classes = etl9g_classes()
    table = [
        {"label": i, "character": c, "jis": f"0x{jis_code(c):04X}", "code_point": f"U+{ord(c):04X}"}
        for i, c in enumerate(classes)
    ]
    write_text(folder / MAPPING_FILE, json.dumps({"classes": table}, ensure_ascii=False, indent=0) + "\n")


def prepare(paths: list[Path], folder: Path, arguments: argparse.Namespace) -> None:
    """Makes the chunks that are not there yet, then the mapping, then metadata.json."""
    chunks = [folder / CHUNK_NAME.format(file_number(path)) for path in paths]
    begin = time.monotonic()
    check_files(paths, arguments.skip_damaged)
    with ProcessPoolExecutor(arguments.processes, initializer=begin_worker) as pool:
        jobs = [pool.submit(make_chunk, p, c, arguments.skip_damaged) for p, c in zip(paths, chunks, strict=True)]
        try:
            bar = tqdm(jobs, unit=" files", disable=not sys.stderr.isatty())
            files = [job.result() for job in bar]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    source = source_of(files, paths)
    every = CHUNK_NAME.replace("{:02d}", "*")
    for stale in {*folder.glob(every), *folder.glob(f".{every}.part")} - set(chunks):
        (folder / METADATA_FILE).unlink(missing_ok=True)
        stale.unlink()  # of a raw file that is no longer there
    write_mapping(folder)
    sets = sorted({(file_number(p) - 1) * SETS_PER_FILE + s for p in paths for s in range(SETS_PER_FILE)})
    count = sum(facts["records"] for facts in files)
    metadata = {
        "source": source,
        "generator": files[0]["mark"],
        "samples": count,
        "classes": len(etl9g_classes()),
        "damaged_records": sum(facts["damaged"] for facts in files),
        "normalisation": {"contract": CONTRACT, "version": CONTRACT_VERSION, "canvas": CANVAS, "content": CONTENT},
        "splits": split_sets(sets),
        "files": files,
    }
    write_text(folder / METADATA_FILE, json.dumps(metadata, ensure_ascii=False, indent=1) + "\n")
    seconds = time.monotonic() - begin
    print(
        f"{count:,} images of {len(etl9g_classes()):,} classes from {len(paths)} files ({source}) in {folder}: "
        f"{seconds:.1f} s"
    )
    if metadata["damaged_records"]:
        print(f"{metadata['damaged_records']:,} damaged records left out")
    if stray := sum(facts["out_of_order"] for facts in files):
        print(f"note: {stray:,} records do not stand at their known place in the set (their JIS codes were used)")
