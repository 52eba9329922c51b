"""What fails on a machine: disks that are full, read-only or gone, folders one may not write to, output without
room. One plain line, exit code 1, and everything finished before is whole.

Disks are small ones of this test's own, in a mount namespace that nobody else sees.
"""

import contextlib
import ctypes
import errno
import functools
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine import checkpoints
from files.command_line import NO_MEMORY
from script_runs import OUTPUT, ScriptRun, file_events, snapshot

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # of unshare(2)
BALLAST = "ballast"
WRITERS = ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "convert_to_onnx"]


def unshare(what: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(what):
        raise OSError(ctypes.get_errno(), "no namespaces here")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def own_mounts() -> None:
    """Mounts of this process are its own from now on."""
    user, group = os.getuid(), os.getgid()
    unshare(NEW_MOUNTS | (NEW_USER if user else 0))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    mount("--make-rprivate", "/")


def _can_mount() -> bool:
    """Whether a process here may have mounts of its own; tried in a child, which then has them."""
    if not (child := os.fork()):
        try:
            own_mounts()
        except (OSError, subprocess.CalledProcessError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


needs_mounts = pytest.mark.skipif(not _can_mount(), reason="no mount namespaces here")


@contextlib.contextmanager
def disk(size: int, before: Path | None, left: Path, read_only: bool = False) -> Iterator[None]:
    """A disk of its own for OUTPUT, with what lies in `before`; what it holds in the end is copied to `left`."""
    own_mounts()
    for folder in (OUTPUT, "kept"):
        Path(folder).mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", "kept")
    if before:
        shutil.copytree(before, "kept", dirs_exist_ok=True)
    mount("--bind", "kept", OUTPUT)
    if read_only:
        mount("-o", "remount,bind,ro", OUTPUT)
    try:
        yield
    finally:
        shutil.copytree("kept", left)


def fill() -> None:
    """No byte is free any more."""
    with contextlib.suppress(OSError), Path(OUTPUT, BALLAST).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def exceed_quota() -> None:
    """As on NFS, where only the flush says so."""

    def refuse(_number: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    os.fsync = refuse


def unplug() -> None:
    subprocess.run(["umount", "--lazy", OUTPUT], check=True)


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
@pytest.mark.parametrize("name", [*WRITERS, "convert_to_safetensors", "hub_folder", "quantize_model"])
def test_a_disk_too_small(name, undisturbed, tmp_path):
    case, left = undisturbed(name), tmp_path / "left"
    run = case.start(tmp_path / "folder", functools.partial(disk, case.bytes // 2, None, left))
    fails_plainly(run, "No space left on device", "cannot be written")
    whole_files_only(left)
    if not name.startswith("train_"):  # what it leaves are checkpoints on the way, not files of the end
        files = {str(Path(path).relative_to(OUTPUT)): digest for path, digest in case.files.items()}
        assert snapshot(left).items() <= files.items()


@needs_mounts
@pytest.mark.parametrize("tenth", [5, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 3, 4, 6, 7, 8, 9))])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (fill, ("No space left on device", "cannot be written")),
        (exceed_quota, ("quota exceeded",)),
        (unplug, ("has vanished",)),
    ],
)
def test_a_disk_that_fails_in_the_midst_of_training(fault, words, tenth, undisturbed, tmp_path):
    """The last good checkpoint is whole; once the disk is well again, the run ends as if it had never been ill."""
    case, folder, left = undisturbed("train_etl9g_model"), tmp_path / "folder", tmp_path / "left"
    when = functools.partial(file_events, folder, case.events * tenth // 10, fault)
    run = case.start(folder, functools.partial(disk, 10 * case.bytes, None, left), when)
    if run.finish() or fault is not fill:  # old checkpoints that go may leave just the room that is needed
        fails_plainly(run, *words)
    whole_files_only(left, fault is not unplug)  # from a disk that is gone nothing can be removed
    assert checkpoints.existing(left / "checkpoints" / "cnn") or tenth < 5
    (left / BALLAST).unlink(missing_ok=True)
    shutil.copytree(left, tmp_path / "well" / OUTPUT)
    case.ends_alike(tmp_path / "well")


@contextlib.contextmanager
def unplugged_between_writes() -> Iterator[None]:
    """The disk goes when the fourth file is whole, and its folder flushed."""
    fsync, folders = os.fsync, itertools.count(1)

    def fsync_and_unplug(number: int) -> None:
        fsync(number)
        if stat.S_ISDIR(os.fstat(number).st_mode) and next(folders) == 4:
            unplug()

    os.fsync = fsync_and_unplug
    yield


@needs_mounts
def test_nothing_is_written_where_a_disk_was(undisturbed, tmp_path):
    case, left, folder = undisturbed("train_etl9g_model"), tmp_path / "left", tmp_path / "folder"
    run = case.start(folder, functools.partial(disk, 10 * case.bytes, None, left), unplugged_between_writes)
    fails_plainly(run, "has vanished: is its disk still there?")
    assert not list((folder / OUTPUT).iterdir())
    assert len(list(left.rglob("*.pt"))) == 1


def earlier_output(place: Path) -> Path:
    """A folder with something in it that must stay as it is."""
    for path in (place / "checkpoints" / "cnn" / "notes.txt", place / "cnn" / "metrics.jsonl"):
        path.parent.mkdir(parents=True)
        path.write_text("{}\n")
    return place


@needs_mounts
@pytest.mark.parametrize("name", WRITERS)
def test_a_read_only_disk(name, undisturbed, tmp_path):
    case, left, before = undisturbed(name), tmp_path / "left", earlier_output(tmp_path / "before")
    run = case.start(tmp_path / "folder", functools.partial(disk, 100_000_000, before, left, True))
    fails_plainly(run, "Read-only file system")
    assert snapshot(left) == snapshot(before)


@contextlib.contextmanager
def no_privileges() -> Iterator[None]:
    """Permissions bind this process even where the test is run by root: of no user here has it the privileges."""
    unshare(NEW_USER)
    yield


@needs_mounts
@pytest.mark.parametrize("name", WRITERS)
def test_permission_denied(name, undisturbed, tmp_path):
    case, output = undisturbed(name), earlier_output(tmp_path / "folder" / OUTPUT)
    before, folders = snapshot(output), [output, *(path for path in output.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    fails_plainly(case.start(output.parent, no_privileges), "Permission denied")
    for folder in folders:
        folder.chmod(0o755)
    assert snapshot(output) == before


@contextlib.contextmanager
def nobody_listens() -> Iterator[None]:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    yield


def test_no_room_for_the_output(undisturbed, tmp_path):
    """As in `python scripts/… > log` on a full disk."""
    run = undisturbed("train_etl9g_model").start(tmp_path / "folder", nobody_listens)
    fails_plainly(run, "No space left on device")


def test_torch_says_that_memory_ran_out_in_a_known_way():
    with pytest.raises(RuntimeError, match=NO_MEMORY):
        torch.empty(1 << 60)
