"""Characters that folders and files are named by: themselves, or their code points such as U+6F22."""

import contextlib
import re
import unicodedata
from pathlib import Path

from files.command_line import InputError


def character_named(name: str) -> str | None:
    """The character that a name is, itself or as U+XXXX; None for any other name."""
    name = unicodedata.normalize("NFC", name)  # some systems store が as two code points
    if code := re.fullmatch(r"U\+([0-9A-Fa-f]{4,5})", name):
        name = chr(int(code[1], 16))
    return name if len(name) == 1 and name.isprintable() else None


def character_of(folder: Path) -> str:
    """The character that a folder is named by, itself or as U+XXXX. Raises InputError for any other name."""
    if (char := character_named(folder.name)) is None:
        raise InputError(f"{folder} is named neither by a character nor by a code point such as U+6F22: rename it")
    return char


def true_character(path: Path) -> str | None:
    """What the folder of an image, or its own name, says that it shows; None if neither is a character. A name such as
    1 or a says nothing, U+0031 does."""
    for named in (path.parent, path.with_suffix("")):
        with contextlib.suppress(InputError):
            if not (char := character_of(named)).isascii() or len(named.name) > 1:
                return char
    return None
