"""Characters that folders and files are named by: themselves, or their code points such as U+6F22."""

import contextlib
import re
import unicodedata
from pathlib import Path

from characters.jis import etl9g_classes
from files.command_line import InputError


def character_of(folder: Path) -> str:
    """The character that a folder is named by, itself or as U+XXXX. Raises InputError for any other name."""
    name = unicodedata.normalize("NFC", folder.name)  # some systems store が as two code points
    if code := re.fullmatch(r"U\+([0-9A-Fa-f]{4,5})", name):
        name = chr(int(code[1], 16))
    if len(name) != 1 or not name.isprintable():
        raise InputError(f"{folder} is named neither by a character nor by a code point such as U+6F22: rename it")
    return name


def true_character(path: Path) -> str | None:
    """What the folder of an image, or its own name, says that it shows; None if neither names a class."""
    for named in (path.parent, path.with_suffix("")):
        with contextlib.suppress(InputError):
            if (char := character_of(named)) in etl9g_classes():
                return char
    return None
