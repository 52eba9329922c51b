"""Where the samples of a dataset come from: sources.json, which lists those beside ETL9G, and the metadata of all."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from characters.jis import etl9g_classes
from data.prepared import (
    CHUNK_NAME,
    ETL9G,
    MAPPING_FILE,
    METADATA_FILE,
    SPLITS,
    damage_reported,
    map_member,
    mapping_row,
    read_classes,
    split_sets,
)
from data.preparing import CONTRACT_VERSION
from files.atomic import atomic_write, write_text
from files.command_line import InputError
from files.plain_json import read_json
from images.normalization import CANVAS, CONTENT, CONTRACT
from records import etl9g, etl_sets

Ints = Sequence[int] | np.ndarray
SOURCES_FILE = "sources.json"
CHUNKS = "source_{:02d}_{}.npz"  # the number of the source, and what its samples are made of
SETS = 100_000  # numbers of data sets that each source has
NAMED = 3  # of what is left out
OUTSIDE, EMPTY = "of characters outside the class list", "without ink"
DESCRIBED = ("id", "name", "kind", "licence", "samples", "characters", "split", "left_out")  # in metadata.json


def other_sources(folder: Path) -> list[dict]:
    """The sources beside ETL9G of a dataset, each with what metadata.json says of its chunks as `files`."""
    path = folder / SOURCES_FILE
    if not path.is_file():
        return []
    content = read_json(path, "delete it, and prepare its sources again")
    with damage_reported(path):
        for row in content["sources"]:
            if not {*DESCRIBED, "folder", "files"} <= row.keys() or not 0 < row["id"] < 20_000:
                raise ValueError("a source is not described in full")
        return content["sources"]


def classes_of(folder: Path, wanted: str | None = None) -> str:
    """The classes of a dataset with other sources; where there is none yet, those `wanted`, or ETL9G's. Raises
    InputError where others are wanted than the dataset has."""
    has = (folder / SOURCES_FILE).is_file() and (folder / MAPPING_FILE).is_file()
    classes = read_classes(folder / MAPPING_FILE) if has else wanted or etl9g_classes()
    if wanted and wanted != classes:
        raise InputError(f"{folder} has {len(classes):,} other classes than --characters: give another --output-dir")
    return classes


def entry_for(folder: Path, kind: str, files: list[Path], others: list[dict]) -> dict:
    """The number and the name that a source has, or has from now on: it is known by its folder, a set by its kind.
    Raises InputError for another folder of a set that lacks some of its files."""
    place, of_set = str(folder.resolve()), kind in etl_sets.SETS
    for row in others:
        if row["kind"] == kind and (row["folder"] == place or of_set):
            lost = {file["file"] for file in row["files"]} - {path.name for path in files}
            if row["folder"] != place and lost:
                raise InputError(
                    f"{folder} lacks {min(lost)}, which the dataset has: put all of {kind} into one folder"
                )
            return {key: row[key] for key in ("id", "name", "kind", "licence")} | {"folder": place}
    number, name = max((row["id"] for row in others), default=ETL9G) + 1, kind if of_set else folder.resolve().name
    if name in {row["name"] for row in others}:
        name = f"{name} ({number})"
    return {"id": number, "name": name, "kind": kind, "licence": None, "folder": place}


def write_chunk(folder: Path, facts: dict, images: np.ndarray, labels: Ints, sets: Ints, writers: Ints) -> None:
    """Writes the chunk that `facts` name: images uint8 (n, 64, 64), and of each the label, data set and writer. Without
    any there is none."""
    if not len(images):
        return
    with atomic_write(folder / facts["chunk"]) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            images=images,
            labels=np.array(labels, np.int32),
            sets=np.array(sets, np.int32),
            sources=np.full(len(images), facts["source"], np.int16),
            writers=np.array(writers, np.int32),
            source=np.array(json.dumps(facts | {"contract": CONTRACT_VERSION})),
        )


def files_of_etl9g(folder: Path) -> list[dict]:
    """What the metadata of a dataset says of its files of ETL9G. Raises InputError where their preparation did not come
    to its end."""
    path = folder / METADATA_FILE
    if not path.is_file():
        if any(folder.glob(CHUNK_NAME.replace("{:02d}", "*"))):
            raise InputError(f"{folder} is not prepared to its end yet: give --etl9g-dir too, which was started there")
        return []
    metadata = read_json(path, "prepare it again")
    with damage_reported(path):
        return [row for row in metadata["files"] if row.get("source", ETL9G) == ETL9G]


def write_metadata(folder: Path, classes: str, of_etl9g: list[dict], others: list[dict]) -> dict:
    """Writes the mapping, sources.json and, last, metadata.json, whose content it returns."""
    table = [mapping_row(label, char) for label, char in enumerate(classes)]
    write_text(folder / MAPPING_FILE, json.dumps({"classes": table}, ensure_ascii=False, indent=0) + "\n")
    files = [*of_etl9g, *(row for source in others for row in source["files"])]
    mark = of_etl9g[0]["mark"] if of_etl9g else None
    names = [("KanjiVG stand-in" if mark else "ETL9G")] * bool(of_etl9g)
    metadata = {
        "source": " + ".join([*names, *(source["name"] for source in others)]),
        "generator": mark or next((source["generator"] for source in others if "generator" in source), None),
        "samples": sum(row["records"] for row in files),
        "classes": len(classes),
        "damaged_records": sum(row["damaged"] for row in files),
        "normalisation": {"contract": CONTRACT, "version": CONTRACT_VERSION, "canvas": CANVAS, "content": CONTENT},
        "splits": _splits(folder, of_etl9g, files[len(of_etl9g) :]),
        "files": files,
    }
    if others:
        samples = sum(row["records"] for row in of_etl9g)
        first = [{"id": ETL9G, "name": name, "kind": "ETL9G", "samples": samples} for name in names]
        metadata["sources"] = [*first, *({key: source[key] for key in DESCRIBED} for source in others)]
        write_text(folder / SOURCES_FILE, json.dumps({"sources": others}, ensure_ascii=False, indent=1) + "\n")
    write_text(folder / METADATA_FILE, json.dumps(metadata, ensure_ascii=False, indent=1) + "\n")
    every = CHUNKS.format(0, "*").replace("00", "*")
    kept = {folder / row["chunk"] for source in others for row in source["files"]}
    for stale in {*folder.glob(every), *folder.glob(f".{every}.part")} - kept:
        stale.unlink()
    return metadata


def describe(entry: dict, files: list[dict], split: str) -> tuple[dict, list[str]]:
    """A source as sources.json describes it, of the facts of its chunks, and lines on what is left out, which they
    have by reason and name. Chunks without any sample are not kept."""
    left_out = {why: sum((Counter(row["left_out"][why]) for row in files), Counter()) for why in files[0]["left_out"]}
    source = entry | {
        "samples": sum(row["records"] for row in files),
        "characters": len(set().union(*(row["labels"] for row in files))),
        "split": split,
        "left_out": {why: names.total() for why, names in left_out.items()} | {"outside": left_out[OUTSIDE]},
        "files": [{k: v for k, v in row.items() if k not in {"labels", "left_out"}} for row in files if row["records"]],
    }
    return source, [f"left out, {why}: {named(names)}" for why, names in left_out.items() if names]


def named(names: Counter) -> str:
    """How many there are, and the commonest by name, with how often each is there."""
    times = [name if count == 1 else f"{name} {count:,}" for name, count in names.most_common(NAMED)]
    return f"{names.total():,} ({', '.join(times)}{', …' * (len(names) > NAMED)})"


def _splits(folder: Path, of_etl9g: list[dict], rows: list[dict]) -> dict[str, list[int]]:
    """The data sets of each split: each source's own are split, so that others that come or go move none of them."""
    blocks = [[number for row in of_etl9g for number in etl9g.sets_of(Path(row["file"]))]]
    numbers = {number for row in rows for number in _sets_of(folder / row["chunk"])}
    blocks += [sorted(n for n in numbers if n // SETS == block) for block in sorted({n // SETS for n in numbers})]
    each = [split_sets(block) for block in blocks]
    return {name: [number for splits in each for number in splits[name]] for name in SPLITS}


def _sets_of(chunk: Path) -> list[int]:
    if not chunk.is_file():
        raise FileNotFoundError(f"{chunk} is missing: prepare its source again ({SOURCES_FILE} names it)")
    return np.unique(map_member(chunk, "sets", "i")).tolist()
