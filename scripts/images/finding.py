"""Which files of a folder are pictures, and which are only there because of the system."""

import warnings
from collections.abc import Callable
from pathlib import Path

from files.command_line import InputError
from images.reading import DAMAGED, DecoderMissing, Image, open_picture

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm"}
SUFFIXES |= {".jp2", ".avif", ".heic", ".heif"}
LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir"}  # in lower case
NAMED = 3  # of the files that are passed over


def is_litter(path: Path) -> bool:
    """Whether a file's path below the folder that is read names what systems leave there: hidden files, thumbnails."""
    return any(part.startswith(".") or part.lower() in LITTER for part in path.parts)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name, which it need not keep, or else by what is in it."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path):
            return True
    except (DecoderMissing, Image.DecompressionBombError):
        return True
    except DAMAGED:
        return False


def find_images(paths: list[Path], note: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The images named, and those in the folders named; `note` is given a line on what is passed over in a folder.
    Raises InputError for a folder without any image."""
    images = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and not is_litter(p.relative_to(path))]
        inside = [p for p in files if is_picture(p)]
        others = sorted({*files} - {*inside})
        names = ", ".join(str(p.relative_to(path)) for p in others[:NAMED]) + ", …" * (len(others) > NAMED)
        if not inside:
            raise InputError(f"{path} holds no images" + (f", only other files: {names}" if others else ""))
        if others:
            note(f"files in {path} that are no images, and passed over: {len(others):,} ({names})")
        images += inside
    return images
