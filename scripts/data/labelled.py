"""Pictures with the character that each shows: named by it, in folders named by it or by writers, or in labels.csv."""

import csv
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from characters.names import character_named, character_of
from files.command_line import InputError, first_line
from images.finding import is_litter, is_picture

LABELS_FILE = "labels.csv"


class Labelled(NamedTuple):
    """A picture, what it shows, and who wrote it if that is known."""

    path: Path
    character: str
    writer: str | None = None


def labelled_pictures(folder: Path) -> list[Labelled]:
    """The pictures of a folder, in order: those that its labels.csv lists, or else CHARACTER/…, WRITER/CHARACTER/… and
    CHARACTER_….png. Raises InputError for names that say nothing or too much, and where there are none."""
    if (table := folder / LABELS_FILE).is_file():
        return _listed(table)
    found = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/**/*")]):
        parts = (place := path.relative_to(folder)).parts
        if path.is_dir() or is_litter(place) or any(part.upper().startswith("README") for part in parts):
            continue
        if len(parts) > 1:
            found.append(Labelled(path, *_named(folder, parts)))
        elif is_picture(path):
            found.append(Labelled(path, _begins_with(path)))
    if not found:
        raise InputError(f"{folder} is missing or holds no images, in one folder for each character such as U+6F22")
    return found


def _begins_with(path: Path) -> str:
    """The character that a picture's own name begins with (漢_1.png, U+6F22_1.png); letters and digits number it."""
    name = unicodedata.normalize("NFC", path.stem)
    named = re.fullmatch(r"(U\+[0-9A-Fa-f]{4,5}|[^\x00-\x7f])([_ (.-].*)?", name, re.DOTALL)
    if named and (char := character_named(named[1])):
        return char
    remedy = "put it into a folder such as U+6F22, or rename it, as 漢_1.png"
    raise InputError(f"{path} lies in no folder that names its character, nor does its name: {remedy}")


def _named(folder: Path, parts: tuple[str, ...]) -> tuple[str, str | None]:
    """The character and the writer that the folders of a picture name, by its place below `folder`."""
    outer, inner = character_named(parts[0]), character_named(parts[1]) if len(parts) > 2 else None
    if outer and inner:
        remedy = f"call the writers' folders by longer names, or list the pictures in {LABELS_FILE}"
        raise InputError(f"{folder / parts[0] / parts[1]}: both folders are named by a character: {remedy}")
    if inner:
        return inner, parts[0]
    return character_of(folder / parts[0]), None


def _listed(table: Path) -> list[Labelled]:
    """The pictures of a labels.csv with the columns file (from its folder on), character and, if known, writer."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            lines = [(rows.line_num, row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{table} is no CSV file in UTF-8 ({first_line(error)}): save it as one") from None
    if not {"file", "character"} <= set(rows.fieldnames or ()):
        raise InputError(f"{table} has no columns file and character: its first line must be file,character,writer")
    found: dict[Path, Labelled] = {}
    for line, row in lines:
        name, char = (row["file"] or "").strip(), character_named((row["character"] or "").strip())
        path = table.parent / name
        if not name or char is None:
            shown = row["character"] if name else "a row without a file"
            raise InputError(f"{table}, line {line}: {shown} is no character or code point such as U+6F22: correct it")
        if path in found:
            raise InputError(f"{table}, line {line}: {name} is listed twice: remove one of its lines")
        found[path] = Labelled(path, char, (row.get("writer") or "").strip() or None)
    if not found:
        raise InputError(f"{table} lists no pictures")
    return list(found.values())


def unlisted(folder: Path, found: list[Labelled]) -> list[Path]:
    """The pictures of a folder that its labels.csv, if it has one, passes over."""
    if not (folder / LABELS_FILE).is_file():
        return []
    others = sorted({*folder.rglob("*")} - {picture.path for picture in found})
    return [p for p in others if p.is_file() and not is_litter(p.relative_to(folder)) and is_picture(p)]
