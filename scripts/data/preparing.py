"""Raw files of ETL9G to chunks of a prepared dataset, each file to one of normalised images."""

import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

from characters.jis import etl9g_classes, jis_codes
from data.prepared import CHUNK_NAME, METADATA_FILE, map_member
from files.atomic import atomic_write
from files.command_line import InputError
from files.machine import begin_worker
from files.plain_json import parse_json
from images.normalization import CANVAS, normalize_frames
from records import etl9g

BLOCK = 1012  # records normalised at once
CONTRACT_VERSION = 2  # rises with each change of what normalize_frames makes


def make_chunk(path: Path, chunk: Path, skip_damaged: bool) -> dict:
    """One raw file to one chunk; returns what metadata.json says of the file. Raises InputError for a damaged file."""
    records, problem = whole_records(path, skip_damaged)
    with path.open("rb") as file:
        raw_hash = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"file": path.name, "sha256": raw_hash, "mark": etl9g.standin_mark(records)}
    finished = None if problem else finished_chunk(chunk, facts)
    if finished and (skip_damaged or not finished["damaged"]):
        return finished
    images, damaged = normalised(path, records, skip_damaged)
    good = np.setdiff1d(np.arange(len(records)), damaged)
    jis, places = records["jis"][good], good % etl9g.records_per_set()
    facts |= {
        "records": len(good),
        "damaged": len(damaged) + etl9g.records_per_file() - len(records),
        "out_of_order": int((jis != jis_codes(etl9g.set_layout()[0])[places]).sum()),
    }
    label_of = np.full(65536, -1, np.int16)
    label_of[jis_codes(etl9g_classes())] = np.arange(len(etl9g_classes()))
    chunk.with_name(METADATA_FILE).unlink(missing_ok=True)  # comes back last: a dataset with it is whole
    with atomic_write(chunk) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            images=images if len(good) == len(images) else images[good],
            labels=label_of[jis],
            sets=(etl9g.sets_of(path)[0] + good // etl9g.records_per_set()).astype(np.int16),
            source=np.array(json.dumps(facts | {"contract": CONTRACT_VERSION})),
        )
    return facts


def finished_chunk(chunk: Path, facts: dict) -> dict | None:
    """What a chunk says of the raw file that it was made from, if that is this very file; None if it has to be made."""
    try:
        for name, kinds in (("images", "u"), ("labels", "i"), ("sets", "i")):
            map_member(chunk, name, kinds)  # compares the checksums
        made = parse_json(str(map_member(chunk, "source", "U")), str(chunk), "")
    except (OSError, InputError):
        return None
    return made if made.pop("contract", None) == CONTRACT_VERSION and facts.items() <= made.items() else None


def whole_records(path: Path, skip_damaged: bool) -> tuple[np.ndarray, str | None]:
    """The records of a file, and what is wrong with it as a whole. Raises InputError unless that may be passed over."""
    records, problem = etl9g.read_records(path)
    if problem and not (skip_damaged and len(records)):
        raise InputError(problem)
    return records, problem


def normalised(path: Path, records: np.ndarray, skip_damaged: bool) -> tuple[np.ndarray, list[int]]:
    """The images uint8 (n, 64, 64) of a file's n records, and the numbers of the damaged ones. Raises InputError for an
    ETL8G file, and for a damaged record unless such records are left out."""
    images = np.empty((len(records), CANVAS, CANVAS), np.uint8)
    damaged: list[int] = []
    for begin in range(0, len(records), BLOCK):
        block = records[begin : begin + BLOCK]
        frames = etl9g.unpack_images(block)
        damage = etl9g.find_damage(block, frames)
        if damage and not skip_damaged:
            first = begin + min(damage)
            where = f"record {first} (offset {first * records.itemsize:,}): {damage[min(damage)]}"
            remedy = "get the file again, or leave such records out with --skip-damaged"
            raise InputError(f"{path} is damaged: {where}; {remedy}")
        damaged += [begin + i for i in damage]
        if begin == 0 and etl9g.looks_shifted(frames):
            raise InputError(f"{path}: the images sit 8 pixels too far left, as in ETL8G files; this reads ETL9G")
        images[begin : begin + BLOCK] = normalize_frames(frames)
    return images, damaged


def prepare(paths: list[Path], folder: Path, skip_damaged: bool, processes: int) -> list[dict]:
    """Makes the chunks that are not there yet; returns what metadata.json says of the files. Raises InputError for
    files of several sources, and for damaged ones unless their damaged records are left out."""
    marks = {etl9g.standin_mark(whole_records(path, skip_damaged)[0]) for path in paths}
    if len(marks) > 1:
        sources = ", ".join(sorted(str(mark or "real ETL9G") for mark in marks))
        raise InputError(f"{paths[0].parent} mixes files of several sources: {sources}")
    chunks = [folder / CHUNK_NAME.format(etl9g.file_number(path)) for path in paths]
    with ProcessPoolExecutor(processes, initializer=begin_worker) as pool:
        made = pool.map(make_chunk, paths, chunks, repeat(skip_damaged))
        files = list(tqdm(made, total=len(paths), unit=" files", disable=None))
    if not any(facts["records"] for facts in files):
        raise InputError(f"every record in {paths[0].parent} is damaged: get the files again")
    every = CHUNK_NAME.replace("{:02d}", "*")
    for stale in {*folder.glob(every), *folder.glob(f".{every}.part")} - set(chunks):
        (folder / METADATA_FILE).unlink(missing_ok=True)
        stale.unlink()  # of a raw file that is no longer there
    return files
