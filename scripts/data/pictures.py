"""A folder of labelled pictures to chunks of a prepared dataset, split by writer, or by chance where none is known."""

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby, repeat
from os.path import relpath
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.duplicates import near_duplicates
from data.labelled import Labelled, labelled_pictures, unlisted
from data.prepared import map_member
from data.preparing import finished_chunk
from data.sources import CHUNKS, EMPTY, OUTSIDE, SETS, describe, named, write_chunk
from files.command_line import InputError
from files.machine import begin_worker
from images.normalization import CANVAS, normalize
from images.reading import DecoderMissing, read_grey

KIND = "images"
PART = 4096  # pictures of a chunk, more where one character has more
BUCKETS = 1000  # data sets that pictures of unknown writers are spread over by chance
LEAST = 3  # groups of near duplicates that a character needs for more than training
UNREADABLE, UNLISTED = "that cannot be read", "that labels.csv does not list"
BY_CHANCE = "by chance, near duplicates together"


def prepare_pictures(
    folder: Path, output: Path, entry: dict, classes: str, earlier: list[Path], processes: int
) -> tuple[dict, list[str]]:
    """Makes the chunks of a folder's pictures; returns the source as sources.json describes it, and lines on what is
    left out. Raises InputError where no picture can be used. `earlier` are the chunks of pictures that are there."""
    found = labelled_pictures(folder)
    outside = Counter(picture.character for picture in found if picture.character not in classes)
    pictures = sorted((p for p in found if p.character in classes), key=lambda p: (classes.index(p.character), p.path))
    if not pictures:
        raise InputError(f"{folder}: its pictures show no character of the dataset but others: {named(outside)}")
    parts = list(_parts(pictures))
    with ProcessPoolExecutor(processes, initializer=begin_worker) as pool:
        made = pool.map(make_chunk, parts, *map(repeat, (folder, output, entry, classes, earlier)))
        files = list(tqdm(made, total=len(parts), unit=" parts", disable=None))
    few = Counter(char for row in files for char in row.pop("few"))
    passed_over = Counter(relpath(path, folder) for path in unlisted(folder, found))
    files[0]["left_out"] |= {OUTSIDE: outside, UNLISTED: passed_over}
    source, notes = describe(entry, files, _how_split(pictures))
    if not source["files"]:
        raise InputError(f"{folder}: none of its pictures can be used: {'; '.join(notes)}")
    if few:
        notes.append(f"characters with fewer than {LEAST} different pictures, too few to test with: {named(few)}")
    return source, notes


def _how_split(pictures: list[Labelled]) -> str:
    writers, alone = len({p.writer for p in pictures if p.writer}), sum(not p.writer for p in pictures)
    if not writers:
        return BY_CHANCE
    return f"by writer ({writers:,})" + (f"; {alone:,} pictures without one {BY_CHANCE}" if alone else "")


def _parts(pictures: list[Labelled]) -> Iterator[list[Labelled]]:
    """The pictures for each chunk, all of a character in one."""
    part: list[Labelled] = []
    for _, own in groupby(pictures, key=lambda picture: picture.character):
        part += own
        if len(part) >= PART:
            yield part
            part = []
    if part:
        yield part


def make_chunk(
    part: list[Labelled], folder: Path, output: Path, entry: dict, classes: str, earlier: list[Path]
) -> dict:
    """One chunk; returns what metadata.json says of it, and the pictures left out. One of the same pictures is kept."""
    source, digest = entry["id"], hashlib.sha256(f"{entry['id']} {classes}".encode())
    for picture in part:
        said = "\0".join(("", relpath(picture.path, folder), picture.character, picture.writer or "", ""))
        digest.update(said.encode(errors="surrogateescape"))
        digest.update(picture.path.read_bytes() if picture.path.is_file() else b"")
    facts = {"file": f"{entry['name']}/…", "chunk": CHUNKS.format(source, digest.hexdigest()[:16]), "source": source}
    facts |= {"sha256": digest.hexdigest(), "damaged": 0}
    if finished := finished_chunk(output / facts["chunk"], facts):
        return finished
    images, good, left_out = normalised(part, folder)
    labels = [classes.index(picture.character) for picture in good]
    sets, writers, few = _data_sets(images, np.array(labels, int), [p.writer for p in good], source, earlier)
    few = [classes[label] for label in few]
    facts |= {"records": len(good), "labels": sorted(set(labels)), "few": few, "left_out": left_out}
    write_chunk(output, facts, images, labels, sets, writers)
    return facts


def normalised(part: list[Labelled], folder: Path) -> tuple[np.ndarray, list[Labelled], dict[str, dict[str, int]]]:
    """The images uint8 (n, 64, 64) of the pictures that can be used, these pictures, and the names of the others."""
    images, good = np.zeros((len(part), CANVAS, CANVAS), np.uint8), []
    left_out: dict[str, dict[str, int]] = {OUTSIDE: {}, EMPTY: {}, UNREADABLE: {}, UNLISTED: {}}
    for picture in part:
        name = relpath(picture.path, folder)
        try:
            image = normalize(read_grey(picture.path))[0]
        except (InputError, OSError) as error:
            left_out[UNREADABLE][str(error) if isinstance(error, DecoderMissing) else name] = 1
            continue
        if image.any():
            images[len(good)] = image * 255 + 0.5
            good.append(picture)
        else:
            left_out[EMPTY][name] = 1
    return images[: len(good)], good, left_out


def _data_sets(
    images: np.ndarray, labels: np.ndarray, names: list[str | None], source: int, earlier: list[Path]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The data sets and the numbers of the writers of n images (n,), and the labels of which there are too few. What a
    number is made of, a writer's name or else an image, decides the side: others that come move none. Near duplicates
    have one number, and go where an earlier one went."""
    content = [(name or "").encode() or image.tobytes() for name, image in zip(names, images, strict=True)]
    writers = np.array([zlib.crc32(each) & 0x7FFFFFFF for each in content], np.int64)
    alone, few = np.array([not name for name in names], bool), []
    sets = source * SETS + writers % np.where(alone, BUCKETS, SETS)
    before, labels_before, sets_before = _earlier(earlier, np.unique(labels))
    for label in np.unique(labels).tolist():
        own, old = np.flatnonzero((labels == label) & alone), np.flatnonzero(labels_before == label)
        groups = near_duplicates(np.concatenate([before[old], images[own]]))
        enough = len(np.unique(groups)) + np.count_nonzero(~alone[labels == label]) >= LEAST
        few += [label] * (not enough)
        for first in np.unique(groups[len(old) :]).tolist():
            rows = own[groups[len(old) :] == first]
            writers[rows] = writers[rows].min()
            by_chance = source * SETS + (writers[rows[0]] % BUCKETS if enough else 0)
            sets[rows] = sets_before[old[first]] if first < len(old) else by_chance
    return sets, writers, few


def _earlier(chunks: list[Path], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images of these labels in chunks that are there, with their labels and data sets."""
    found = [(np.zeros((0, CANVAS, CANVAS), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for chunk in filter(Path.is_file, chunks):
        of_chunk = map_member(chunk, "labels", "i")
        rows = np.flatnonzero(np.isin(of_chunk, labels))
        images, sets = map_member(chunk, "images", "u", check=False), map_member(chunk, "sets", "i")
        found.append((images[rows], of_chunk[rows], sets[rows]))
    return tuple(map(np.concatenate, zip(*found, strict=True)))
