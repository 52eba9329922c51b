"""Files that are either whole or not there: written beside, flushed to the disk, renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.
    The system's errors in writing it name `path`. What a killed process left of it is overwritten by the next one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        gone = not path.parent.is_dir()
        if isinstance(error, OSError) and error.errno and (gone or error.filename in (None, str(temporary))):
            if isinstance(error, FileNotFoundError):  # also where the folder is the place of a disk that is gone
                raise OSError(f"{path} cannot be written: what was started, or its folder, has vanished") from None
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder outlive a power cut too."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` for what is needed only while `path` is made; removes it at the end."""
    path = path.resolve()
    folder = path.with_name(f".{path.name}.parts")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A whole text file at once."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text
