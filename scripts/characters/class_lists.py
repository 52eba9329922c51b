"""Class lists: the characters that a dataset or a model has, in the order of their labels, as text files."""

import unicodedata
from pathlib import Path

from files.command_line import InputError

FOLDER = Path(__file__).parent
LISTS = ("etl9g", "kana", "joyo", "jis", "all")  # NAME.txt, beside this file
DEEPEST = 8  # lists within lists


def class_list(name: str) -> str:
    """The characters of a list: one of LISTS, or a text file in UTF-8. Its lines are characters, comments after `#`,
    and other lists: `+ etl9g` or `+ FILE` adds one, `- FILE` takes its characters away. What comes twice counts once.
    Raises FileNotFoundError, or InputError for what is no list."""
    return "".join(dict.fromkeys(_characters(_path(name, Path()), 0)))


def _path(name: str, folder: Path) -> Path:
    return FOLDER / f"{name}.txt" if name in LISTS else folder / name


def _characters(path: Path, depth: int) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give a text file of characters, or one of {', '.join(LISTS)}")
    if depth > DEEPEST:
        raise InputError(f"{path} includes itself, or lists are nested too deep: remove a line that begins with + or -")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8: save it as such") from None
    found = ""
    for line in (unicodedata.normalize("NFC", line.partition("#")[0]).strip() for line in lines):
        other = _characters(_path(line[2:].strip(), path.parent), depth + 1) if line[:2] in {"+ ", "- "} else ""
        if line.startswith("- "):
            found = "".join(char for char in found if char not in other)
        elif other:
            found += other
        else:
            found += "".join(line.split())
    if not found:
        raise InputError(f"{path} lists no characters")
    if bad := [char for char in found if not char.isprintable() or unicodedata.combining(char)]:
        raise InputError(f"{path} lists U+{ord(bad[0]):04X}, which is no character that can be written by itself")
    return found
