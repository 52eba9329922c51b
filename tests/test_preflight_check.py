"""preflight_check.py on folders and machines of every state, true ones as far as a test can make them."""

import ast
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import preflight_check
from engine import devices
from files import machine, packages
from preflight_check import Check
from records.etl9g import RECORD, STANDIN_MARK, records_per_file

SCRIPT = Path(preflight_check.__file__)
NEEDED = ("command_line", "machine", "packages", "workers")  # of files/, before a package is looked for
DiskUsage = namedtuple("DiskUsage", "total used free")


def write_raw_file(path: Path, mark: bytes = b"") -> None:
    """A raw file of the right size, empty but for the mark of its first record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = np.zeros(1, RECORD)
    first["undefined"] = np.void(mark.ljust(34, b"\0"))
    with path.open("wb") as file:
        file.write(first.tobytes())
        file.truncate(records_per_file() * RECORD.itemsize)  # sparse: takes no room


def run_main(monkeypatch, capsys, *arguments: object) -> tuple[int, list[str]]:
    """Exit code and printed lines."""
    monkeypatch.setattr(sys, "argv", ["preflight_check.py", *map(str, arguments)])
    try:
        preflight_check.main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("version", "bound", "enough"),
    [
        ("2.11.0", ">=2.11", True),
        ("2.9.1", ">=2.11", False),
        ("2.11", ">=2.11.0", True),
        ("2.15.0+cu128", ">=2.15.1", False),
        ("2.15.0a0+git1234567", ">=2.11", True),
        ("20260714", ">=20250816", True),
        ("1.26.4", ">=2", False),
        ("1.10", "==1.1", False),
        ("1.2.0", "==1.2", True),
        ("3", "", True),
    ],
)
def test_versions_are_compared_as_numbers(version, bound, enough):
    assert packages.fits(version, bound) == enough


def test_requirements_are_read_with_their_bounds(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# comment >= 1\n-r other.txt\n\ntorch>=2.11\nnumpy >= 1.26, <3  # why\nPillow\nscipy==1.2.3\n")
    assert packages.required(path) == {"torch": ">=2.11", "numpy": ">=1.26", "Pillow": "", "scipy": "==1.2.3"}
    own = packages.required(preflight_check.REQUIREMENTS)
    assert {"torch", "numpy", "onnxruntime", "safetensors", "tqdm"} <= own.keys()
    assert {preflight_check.package(name, bound).status for name, bound in own.items()} == {"ok"}


def test_packages_that_are_absent_or_old(monkeypatch):
    version, install, upgrade = np.__version__, preflight_check.INSTALL, preflight_check.UPGRADE
    assert preflight_check.package("numpy", ">=1.0") == Check("ok", "numpy", f"{version}, at least 1.0")
    assert preflight_check.package("numpy", f"=={version}") == Check("ok", "numpy", version)
    old = Check("MISSING", "numpy", f"{version} is older than 999.1", upgrade)
    assert preflight_check.package("numpy", ">=999.1") == old
    assert preflight_check.package("numpy", "==1.0") == Check("MISSING", "numpy", f"{version} is not 1.0", upgrade)
    absent = Check("MISSING", "no-such-distribution", "is not installed", install)
    assert preflight_check.package("no-such-distribution", "1.0") == absent
    monkeypatch.setitem(packages.OTHER_BUILDS, "no-such-distribution", ("numpy",))
    assert preflight_check.package("no-such-distribution", ">=1.0").status == "ok"


def test_an_old_python_is_said_to_be_one(monkeypatch, capsys):
    monkeypatch.setattr(preflight_check, "OLDEST_PYTHON", (99, 1))
    code, lines = run_main(monkeypatch, capsys)
    assert (code, len(lines)) == (1, 3)
    assert lines[0].startswith("MISSING  Python")
    assert lines[0].endswith("older than 99.1: install a newer one")
    for path in (SCRIPT, *(SCRIPT.parent / "files" / f"{name}.py" for name in NEEDED)):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_without_any_package_it_says_so_and_does_not_break(tmp_path):
    command = [sys.executable, "-S", SCRIPT, "--etl9g-dir", "ETL9G", "--data-dir", "dataset"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "MISSING  torch                   is not installed" in lines
    assert "    pip install -r requirements.txt" in lines
    assert "MISSING  device                  cannot be checked: No module named 'torch'" in lines
    assert lines[-1].startswith("training cannot start yet: ")
    assert not list(tmp_path.iterdir())


def test_the_device_is_named(monkeypatch):
    assert preflight_check.device().status == "ok"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    card = SimpleNamespace(name="NVIDIA T4", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(devices, "fast_bf16", lambda device: device.type != "cuda")
    assert preflight_check.device() == Check("ok", "device", "NVIDIA T4, 16 GB, fp32, one of 2")


def test_memory(monkeypatch):
    assert machine.available_memory() > 1e8
    for free, status in ((16e9, "ok"), (2e9, "note"), (None, "note")):
        monkeypatch.setattr(preflight_check, "available_memory", lambda free=free: free)
        assert preflight_check.memory().status == status


@pytest.mark.parametrize(("free", "status"), [(1.7e9, "MISSING"), (1.8e9, "note"), (8.4e9, "note"), (8.6e9, "ok")])
def test_disk_for_the_stand_in_and_for_all(tmp_path, monkeypatch, free, status):
    """A stand-in of 20 sets takes 0.5 and 0.25 GB, the whole ETL9G 5 and 2.5; the models 1."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10e9, 0, free))
    (check,) = preflight_check.disk(tmp_path / "ETL9G", tmp_path / "dataset", tmp_path / "models")
    assert check.status == status


def test_disk_counts_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10e9, 0, 1.2e9))
    folders = raw, data, _ = tmp_path / "ETL9G", tmp_path / "dataset", tmp_path / "models"

    def touch(folder: Path, name: str, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            (folder / name.format(number)).touch()

    def status() -> str:
        return next(preflight_check.disk(*folders)).status

    assert status() == "MISSING"
    touch(raw / "standin", "ETL9G_{:02d}", 5)
    assert status() == "MISSING"  # 0.25 GB and the models' 1 are still to come
    touch(data, "etl9g_dataset_chunk_{:02d}.npz", 5)
    assert status() == "note"
    shutil.rmtree(raw)  # who has the dataset needs the raw files no more
    assert status() == "note"
    touch(raw, "ETL9G_{:02d}", 50)
    assert status() == "MISSING"  # 2.25 GB of the dataset


def test_raw_files_real_and_stand_in(tmp_path):
    absent = preflight_check.raw_files(tmp_path / "ETL9G")
    assert absent.status == "MISSING"
    assert absent.command == f"python scripts/synthesize_etl9g.py --sets 20 --out {tmp_path}/ETL9G/standin"
    for number in (1, 2):
        write_raw_file(tmp_path / "ETL9G" / "standin" / f"ETL9G_{number:02d}", STANDIN_MARK + b" 7/0")
    standin = f"2 in {tmp_path}/ETL9G/standin, sizes right (KanjiVG stand-in 7/0)"
    assert preflight_check.raw_files(tmp_path / "ETL9G") == Check("ok", "raw files", standin)
    write_raw_file(tmp_path / "ETL9G" / "ETL9G_33")  # the real ones come first
    real = f"1 in {tmp_path}/ETL9G, sizes right (real ETL9G); the whole ETL9G has 50"
    assert preflight_check.raw_files(tmp_path / "ETL9G") == Check("note", "raw files", real)


def test_raw_files_that_cannot_be_used(tmp_path):
    def problem() -> str:
        check = preflight_check.raw_files(tmp_path)
        assert check.status == "MISSING"
        return check.finding

    write_raw_file(tmp_path / "ETL9G_01")
    write_raw_file(tmp_path / "ETL9G_02", STANDIN_MARK + b" 7/0")
    assert "mixes KanjiVG stand-in 7/0 and real ETL9G" in problem()
    with (tmp_path / "ETL9G_02").open("rb+") as file:
        file.truncate(8199 * 100)
    assert "ETL9G_02 is short: 819,900 bytes where an ETL9G file has 99,568,656" in problem()
    (tmp_path / "ETL8G_01").touch()
    assert "ETL8G_01" in problem()


def test_dataset_whole_and_not(tiny_dataset, tmp_path):
    folder, raw = tiny_dataset(), tmp_path / "raw files"
    raw.mkdir()
    check = preflight_check.dataset(raw, folder)
    assert check.status == "ok"
    assert "120 samples of 5 classes" in check.finding
    assert "(test shapes): 80 train, 20 validation, 20 test" in check.finding
    for number in (1, 2, 3):
        (raw / f"ETL9G_{number:02d}").touch()
    later = preflight_check.dataset(raw, folder)
    prepare = f"python scripts/prepare_dataset.py --etl9g-dir '{raw}' --output-dir {folder}"
    assert (later.status, later.command) == ("note", prepare)
    assert later.finding.endswith("without ETL9G_03, which came later")
    chunk = folder / "etl9g_dataset_chunk_02.npz"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    damaged = preflight_check.dataset(raw, folder)
    assert (damaged.status, "chunk_02.npz is damaged (images does not fit" in damaged.finding) == ("MISSING", True)
    chunk.unlink()
    gone = preflight_check.dataset(raw, folder)
    assert (gone.status, "etl9g_dataset_chunk_02.npz is missing" in gone.finding) == ("MISSING", True)
    none = preflight_check.dataset(raw, tmp_path)
    assert (none.status, none.finding) == ("MISSING", f"{tmp_path} is not a prepared dataset")


def test_a_prepared_dataset_is_enough(tiny_dataset, tmp_path, monkeypatch, capsys):
    data, models = tiny_dataset(), tmp_path / "models"
    folders = ["--etl9g-dir", tmp_path, "--data-dir", data, "--model-dir", models]
    code, lines = run_main(monkeypatch, capsys, *folders)
    assert code == 0
    assert any(line.startswith("note     raw files") for line in lines)
    assert any(line.startswith("ok       dataset") for line in lines)
    assert lines[-1] == f"  python scripts/train_etl9g_model.py --data-dir {data} --model-dir {models}"
    assert not models.exists()


def test_commands_stand_on_lines_of_their_own_once_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight_check, "REQUIREMENTS", tmp_path / "requirements.txt")
    (tmp_path / "requirements.txt").write_text("no-such-thing>=1\nnor-this>=2\n")
    code, lines = run_main(monkeypatch, capsys)
    assert code == 1
    assert max(map(len, lines)) <= 80
    commands = [line.strip() for line in lines if line.startswith(" " * 4) and not line.startswith(" " * 5)]
    assert commands == [
        "pip install -r requirements.txt",
        "python scripts/synthesize_etl9g.py --sets 20 --out ETL9G/standin",
        "python scripts/prepare_dataset.py --etl9g-dir ETL9G --output-dir dataset",
    ]
    assert lines[-1] == "training cannot start yet: 4 things are missing"


def test_a_model_folder_that_cannot_be(tiny_dataset, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    folders = ["--data-dir", tiny_dataset(), "--model-dir", tmp_path / "file" / "models"]
    code, lines = run_main(monkeypatch, capsys, *folders)
    assert code == 1
    assert any(line.startswith("MISSING  models") for line in lines)
    assert lines[-1] == "training cannot start yet: 1 thing is missing"
