"""Where scripts write: what goes where by default, and folders into which no second process writes meanwhile."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from files.command_line import InputError

LOCK_FILE = ".lock"
RELEASED = Path(__file__).resolve().parents[2] / "models" / "released"
FIGURES = RELEASED / "figures.json"  # the SHA-256 of each released file, and how well it reads
PATIENCE = 2.0  # seconds, for a process that is just ending


def beside(model: Path, name: str) -> Path:
    """Where a file made of a model goes by default: into the model's folder, or above that of the released ones. A
    released file stays where it is: what would take its place is called my_NAME."""
    folder = model.parent
    path = (folder.parent if folder.resolve() == RELEASED else folder) / name
    return path.with_name(f"my_{name}") if is_released(path) else path


def is_released(path: Path) -> bool:
    """Whether a file is one of the released ones, byte for byte."""
    if not path.is_file() or not FIGURES.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() in FIGURES.read_text(encoding="utf-8")


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
