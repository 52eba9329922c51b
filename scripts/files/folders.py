"""The folders that a script writes into: no second process writes there meanwhile, and one that vanishes is noticed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from files.command_line import InputError

LOCK_FILE = ".lock"
RELEASED = Path(__file__).resolve().parents[2] / "models" / "released"
PATIENCE = 2.0  # seconds, for a process that is just ending


def beside(model: Path, name: str) -> Path:
    """Where a file made of a model goes by default: into the model's folder, or above that of the released ones."""
    folder = model.parent
    return (folder.parent if folder.resolve() == RELEASED else folder) / name


def check_not(output: Path, model: Path) -> None:
    """Raises InputError where a file that is made of a model would take the model's place."""
    if output.resolve() == model.resolve():
        raise InputError(f"{output} is the model itself: give another --output")


class OutputFolders:
    """A context in which these folders exist and only this process writes into them; such contexts nest. Raises
    InputError where another process holds a folder, OSError where nothing can be written."""

    def __init__(self, *folders: Path):
        self.folders = list(dict.fromkeys(folder.resolve() for folder in folders))
        self._disks: dict[Path, int] = {}

    def __enter__(self) -> "OutputFolders":
        with contextlib.ExitStack() as locks:
            self._disks = {folder: locks.enter_context(_locked(folder)) for folder in self.folders}
            self._locks = locks.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._locks.close()

    def check(self) -> None:
        """Raises OSError if a folder is gone or its disk no longer mounted, which would hide what is written."""
        for folder, disk in self._disks.items():
            if not folder.is_dir() or folder.stat().st_dev != disk:
                raise OSError(f"{folder} has vanished: is its disk still there?")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Makes a folder and holds the system's lock on it, which a killed process gives back; yields its disk's number."""
    lock = FileLock(folder / LOCK_FILE, timeout=PATIENCE, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        disk = folder.stat().st_dev
        lock.acquire()
    except Timeout:
        remedy = "wait for its end, or choose another folder"
        raise InputError(f"{folder} is being written by another process: {remedy}") from None
    except FileNotFoundError:  # after it was made
        raise OSError(f"{folder} has vanished: is its disk still there?") from None
    try:
        yield disk
    finally:
        if lock.lock_counter == 1:  # the outermost context: the file goes while it is locked, for others to notice
            with contextlib.suppress(OSError):  # its disk may be gone, or read-only by now
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
