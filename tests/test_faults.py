"""What fails on a machine: disks that are full, read-only, over their quota or gone, folders one may not write to,
memory that runs out, output that nobody takes. One plain line, exit code 1, and everything finished before is whole.

Disks are small ones of this test's own, in a mount namespace that nobody else sees.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from engine import checkpoints
from engine.run import Run
from files.atomic import atomic_write
from files.command_line import NO_MEMORY
from files.folders import LOCK_FILE, OutputFolders
from script_runs import OUTPUT, SOME_CASES, Case, ScriptRun, file_events, snapshot

NEW_NAMESPACE, NEW_USER = 0x00020000, 0x10000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE, DETACH = 1, 32, 4096, 16384, 1 << 18, 2
BALLAST = "ballast"
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> None:
    if getattr(_libc, name)(*(a.encode() if isinstance(a, str) else a for a in arguments)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def own_namespace() -> None:
    """Mounts of this process are its own from now on."""
    user, group = os.getuid(), os.getgid()
    if user:
        _call("unshare", NEW_NAMESPACE | NEW_USER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    else:
        _call("unshare", NEW_NAMESPACE)
    _call("mount", "none", "/", None, RECURSIVE | PRIVATE, None)


def _can_mount() -> bool:
    """Whether a process here may have mounts of its own; tried in a child, which then has them."""
    if not (child := os.fork()):
        try:
            own_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


needs_mounts = pytest.mark.skipif(not _can_mount(), reason="no mount namespaces here")


@contextlib.contextmanager
def disk(size: int, before: Path | None, left: Path, read_only: bool = False) -> Iterator[None]:
    """A disk of its own for OUTPUT, with what lies in `before`; what it holds in the end is copied to `left`."""
    own_namespace()
    place, kept = Path(OUTPUT), Path("kept")
    for folder in (place, kept):
        folder.mkdir()
    _call("mount", "tmpfs", str(kept), "tmpfs", 0, f"size={size}")
    if before:
        shutil.copytree(before, kept, dirs_exist_ok=True)
    _call("mount", str(kept), str(place), None, BIND, None)
    if read_only:
        _call("mount", "none", str(place), None, REMOUNT | BIND | READ_ONLY, None)
    try:
        yield
    finally:
        shutil.copytree(kept, left)


def fill() -> None:
    """No byte is free any more."""
    with contextlib.suppress(OSError), (Path(OUTPUT) / BALLAST).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def unplug() -> None:
    _call("umount2", OUTPUT, DETACH)


def exceed_quota() -> None:
    """As on NFS, where only the flush tells."""

    def refuse(_number: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    os.fsync = refuse


def fails_plainly(run: ScriptRun, *words: str) -> None:
    assert run.finish() == 1, run.errors
    assert len(run.errors.splitlines()) == 1, run.errors
    assert run.errors.startswith("error: ")
    assert any(word in run.errors for word in words), run.errors


def whole_files_only(left: Path, nothing_unfinished: bool = True) -> None:
    """Nothing unfinished, and no checkpoint that is not whole and finite."""
    for path in left.rglob("*"):
        assert not (nothing_unfinished and path.name.endswith((".part", ".parts"))), path
        if path.suffix in (".pt", ".pth"):
            content = checkpoints.load(path)
            assert all(v.isfinite().all() for v in content["model"].values() if v.is_floating_point())


@needs_mounts
@pytest.mark.parametrize("name", SOME_CASES)
def test_a_disk_too_small(name, undisturbed, tmp_path):
    case, left = undisturbed(name), tmp_path / "left"
    run = case.start(tmp_path / "folder", functools.partial(disk, case.bytes // 2, None, left))
    fails_plainly(run, "No space left on device", "cannot be written")
    whole_files_only(left)
    if name.startswith("train_"):
        return  # what it leaves are checkpoints on the way, not files of the end
    found = snapshot(left)
    assert found.items() <= {str(Path(k).relative_to(OUTPUT)): v for k, v in case.files.items()}.items()


def fails_in_its_midst(case: Case, fault: Callable[[], None], words: tuple[str, ...], at: int, place: Path) -> None:
    """A training whose disk fails as it touches a file for the `at`th time, and its next try on a disk that is well."""
    folder, left = place / "folder", place / "left"
    when = functools.partial(file_events, folder, at, fault)
    run = case.start(folder, functools.partial(disk, 10 * case.bytes, None, left), when)
    if run.finish() or fault is not fill:  # old checkpoints that go may leave just the room that is needed
        fails_plainly(run, *words)
    whole_files_only(left, fault is not unplug)  # from a disk that is gone nothing can be removed
    (left / BALLAST).unlink(missing_ok=True)
    shutil.copytree(left, place / "well" / OUTPUT)
    case.ends_alike(place / "well")


FAULTS = [
    (fill, ("No space left on device", "cannot be written")),
    (exceed_quota, ("quota exceeded",)),
    (unplug, ("has vanished",)),
]


@needs_mounts
@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_disk_that_fails_in_the_midst_of_training(fault, words, undisturbed, tmp_path):
    """The last good checkpoint is whole; once the disk is well again, the run ends as if it had never been ill."""
    case = undisturbed("train_etl9g_model")
    fails_in_its_midst(case, fault, words, case.events // 2, tmp_path)
    assert checkpoints.existing(tmp_path / "left" / "checkpoints" / "cnn")


@contextlib.contextmanager
def unplugged_after_a_save() -> Iterator[None]:
    save = Run.save

    def save_and_unplug(self) -> Path:
        path = save(self)
        if self.step == 3:
            unplug()
        return path

    Run.save = save_and_unplug
    try:
        yield
    finally:
        Run.save = save


@needs_mounts
def test_nothing_is_written_where_a_disk_was(undisturbed, tmp_path):
    case, left, folder = undisturbed("train_etl9g_model"), tmp_path / "left", tmp_path / "folder"
    run = case.start(folder, functools.partial(disk, 10 * case.bytes, None, left), unplugged_after_a_save)
    fails_plainly(run, "has vanished: is its disk still there?")
    assert not list((folder / OUTPUT).iterdir())
    assert checkpoints.load(left / "checkpoints" / "cnn" / "checkpoint_epoch_001.pt")["step"] == 3


def test_a_folder_that_vanishes_before_its_lock_or_a_name_is_a_failure_not_bad_input(tmp_path, monkeypatch):
    """Neither is FileNotFoundError, which ends a script with exit code 2. Where a disk was its mount point stays."""
    with pytest.raises(OSError, match="has vanished") as caught, atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("whole")
        temporary.unlink()
    assert not isinstance(caught.value, FileNotFoundError)
    assert not list(tmp_path.iterdir())

    def vanish(*_) -> None:
        shutil.rmtree(tmp_path / "output")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "output" / LOCK_FILE))

    monkeypatch.setattr(FileLock, "acquire", vanish)
    with pytest.raises(OSError, match="has vanished") as caught, OutputFolders(tmp_path / "output"):
        pass
    assert not isinstance(caught.value, FileNotFoundError)


@needs_mounts
@pytest.mark.long
@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("name", ["train_etl9g_model", "train_qat"])
@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_disk_that_fails_at_any_moment(fault, words, name, tenth, undisturbed, tmp_path):
    case = undisturbed(name)
    for shift in range(3):
        fails_in_its_midst(case, fault, words, case.events * tenth // 10 + shift, tmp_path / str(shift))


@pytest.fixture
def begun(undisturbed, tmp_path) -> Callable[[], Path]:
    """The output of a training that was asked to end in its midst."""

    def make() -> Path:
        case, folder = undisturbed("train_etl9g_model"), tmp_path / "begun"
        case.start_until(folder, case.events // 2, functools.partial(signal.raise_signal, signal.SIGTERM)).finish()
        assert checkpoints.existing(folder / OUTPUT / "checkpoints" / "cnn")
        return folder / OUTPUT

    return make


@needs_mounts
@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "convert_to_onnx"])
def test_a_read_only_disk(name, begun, undisturbed, tmp_path):
    case, left, before = undisturbed(name), tmp_path / "left", begun()
    run = case.start(tmp_path / "folder", functools.partial(disk, 100_000_000, before, left, True))
    fails_plainly(run, "Read-only file system")
    assert snapshot(left) == snapshot(before)


@contextlib.contextmanager
def no_privileges(folder: Path) -> Iterator[None]:
    """Permissions bind this process even where the test is run by root: of no user here has it the privileges."""
    _call("unshare", NEW_USER)
    yield


@needs_mounts
@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "convert_to_onnx"])
def test_permission_denied(name, begun, undisturbed, tmp_path):
    case, output = undisturbed(name), begun()
    before = snapshot(output)
    folders = [output, *(path for path in output.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    run = case.start(output.parent, functools.partial(no_privileges, output))
    fails_plainly(run, "Permission denied")
    for folder in folders:
        folder.chmod(0o755)
    assert snapshot(output) == before


@contextlib.contextmanager
def memory_limit(megabytes: int) -> Iterator[None]:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    yield


# Not in CI: where not even a thread can start, Python's process pool may hang, and native code may end by a signal.
@pytest.mark.long
@pytest.mark.parametrize("name", ["train_etl9g_model", "prepare_dataset"])
@pytest.mark.parametrize("megabytes", [1, 8, 32])
def test_too_little_memory(name, megabytes, begun, undisturbed, tmp_path):
    """It ends well, or with the one line; training leaves the checkpoint that it began from."""
    case, folder = undisturbed(name), begun().parent if name.startswith("train_") else tmp_path / "folder"
    run = case.start(folder, functools.partial(memory_limit, megabytes))
    if run.finish():
        fails_plainly(run, "not enough memory", "Cannot allocate memory")
    whole_files_only(folder)
    case.ends_alike(folder)


@contextlib.contextmanager
def nobody_listens() -> Iterator[None]:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    yield


@pytest.mark.parametrize("name", ["synthesize_etl9g", "train_etl9g_model", "convert_to_safetensors"])
def test_no_room_for_the_output(name, undisturbed, tmp_path):
    """As in `python scripts/… > log` on a full disk."""
    fails_plainly(undisturbed(name).start(tmp_path / "folder", nobody_listens), "No space left on device")
    whole_files_only(tmp_path / "folder")


def test_torch_says_that_memory_ran_out_in_a_known_way():
    with pytest.raises(RuntimeError, match=NO_MEMORY):
        torch.empty(1 << 60)
