"""The folders that a script writes into: no second process writes there meanwhile, and one that vanishes is noticed."""

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from files.command_line import InputError

LOCK_FILE = ".lock"
RELEASED = Path(__file__).resolve().parents[2] / "models" / "released"
PATIENCE = 2.0  # seconds, for a process that is just ending


def beside(model: Path, name: str) -> Path:
    """Where a file made of a model goes by default: into the model's folder, or, as the released ones stay as they are,
    into the one above theirs."""
    folder = model.parent
    return (folder.parent if folder.resolve() == RELEASED else folder) / name


def check_not(output: Path, model: Path) -> None:
    """Raises InputError where a file that is made of a model would take the model's place."""
    if output.resolve() == model.resolve():
        raise InputError(f"{output} is the model itself: give another --output")


class OutputFolders:
    """A context in which these folders exist and only this process writes into them.

    The system's own lock is used, so that a process that was killed blocks nobody. Contexts of one process nest. Raises
    InputError where another process holds a folder, OSError where nothing can be written.
    """

    def __init__(self, *folders: Path):
        self.folders = list(dict.fromkeys(folder.resolve() for folder in folders))
        self._disks: dict[Path, int] = {}
        self._locks: list[FileLock] = []

    def __enter__(self) -> "OutputFolders":
        try:
            for folder in self.folders:
                folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder / LOCK_FILE, timeout=PATIENCE, is_singleton=True)
                lock.acquire()
                self._locks.append(lock)
                self._disks[folder] = folder.stat().st_dev
        except BaseException as error:
            self.__exit__()
            if isinstance(error, Timeout):
                raise InputError(
                    f"{folder} is being written by another process: wait for its end, or choose another folder"
                ) from None
            if isinstance(error, FileNotFoundError):  # after it was made
                raise OSError(f"{folder} has vanished: is its disk still there?") from None
            raise
        return self

    def __exit__(self, *_) -> None:
        while self._locks:
            lock = self._locks.pop()
            if lock.lock_counter == 1:  # the outermost context: the file goes while it is locked, for others to notice
                with contextlib.suppress(OSError):  # its disk may be gone, or read-only by now
                    Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def check(self) -> None:
        """Raises OSError if a folder is gone or its disk no longer mounted: a new one of that name would take the
        rest of the run, and the next mount would hide it."""
        for folder, disk in self._disks.items():
            if not folder.is_dir() or folder.stat().st_dev != disk:
                raise OSError(f"{folder} has vanished: is its disk still there?")
