"""preflight_check.py on folders and machines of every state, true ones as far as a test can make them."""

import shutil
import subprocess
import sys
from argparse import Namespace
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import preflight_check
from engine import devices
from preflight_check import INSTALL, Check
from records.etl9g import RECORD, STANDIN_MARK, records_per_file

SCRIPT = Path(preflight_check.__file__)
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def folders(tmp_path) -> Namespace:
    return Namespace(etl9g_dir=tmp_path / "ETL9G", data_dir=tmp_path / "dataset", model_dir=tmp_path / "models")


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
    ("version", "relation", "bound", "status"),
    [
        ("2.11.0", ">=", "2.11", "ok"),
        ("2.9.1", ">=", "2.11", "MISSING"),
        ("2.11", ">=", "2.11.0", "ok"),
        ("2.15.0+cu128", ">=", "2.15.1", "MISSING"),
        ("2.15.0a0+git1234567", ">=", "2.11", "ok"),
        ("20260714", ">=", "20250816", "ok"),
        ("1.10", "==", "1.1", "MISSING"),
        ("1.2.0", "==", "1.2", "ok"),
        ("3", "", "", "ok"),
    ],
)
def test_versions_are_compared_as_numbers(version, relation, bound, status, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert preflight_check.package("numpy", relation, bound).status == status


def test_requirements_are_read_with_their_bounds(folders, tmp_path, monkeypatch):
    own = dict(preflight_check.all_checks(folders))
    assert {"torch", "numpy", "onnxruntime", "safetensors", "tqdm", "fonttools"} <= own.keys()
    path = tmp_path / "requirements.txt"
    lines = "# comment >= 1\n-r other.txt\n\nnumpy >= 1.26, <3  # why\nPillow\ntqdm==1.0\ntorch>=999.1\nno-such-thing"
    path.write_text(lines + "\nopencv-another-build>=9\n")
    monkeypatch.setattr(preflight_check, "REQUIREMENTS", path)
    monkeypatch.setitem(preflight_check.MODULES, "opencv-another-build", "cv2")
    checks = dict(preflight_check.all_checks(folders))
    assert checks["numpy"] == Check("ok", np.__version__)
    assert (checks["Pillow"].status, checks["opencv-another-build"].status) == ("ok", "ok")
    assert checks["no-such-thing"] == Check("MISSING", "is not installed", INSTALL)
    assert checks["torch"] == Check("MISSING", f"{version('torch')} is older than 999.1", INSTALL)
    assert checks["tqdm"].finding.endswith(" is not 1.0")
    others = ["Python", "device", "memory", "disk", "raw files", "dataset"]
    assert list(checks)[1:-5] == ["numpy", "Pillow", "tqdm", "torch", "no-such-thing", "opencv-another-build"]
    assert [*list(checks)[:1], *list(checks)[-5:]] == others


def test_without_any_package_it_says_so_and_does_not_break(tmp_path):
    done = subprocess.run([sys.executable, "-S", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "MISSING  torch                   is not installed" in lines
    assert lines.count(f"    {INSTALL}") == 1
    assert "MISSING  device                  cannot be checked: No module named 'torch'" in lines
    assert lines[-1].startswith("training cannot start yet; missing: ")
    assert not list(tmp_path.iterdir())


def test_the_device_is_named(monkeypatch):
    assert preflight_check.device(None).status == "ok"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    card = SimpleNamespace(name="NVIDIA T4", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(devices, "fast_bf16", lambda device: device.type != "cuda")
    assert preflight_check.device(None) == Check("ok", "2 x NVIDIA T4, 16 GB, fp32")


def test_memory_and_disk(folders, monkeypatch):
    """The models take 1 GB, a stand-in of 20 sets 0.75, each raw file 0.05 of a dataset."""
    for least, status in ((0, "ok"), (1e15, "note")):
        monkeypatch.setattr(preflight_check, "TRAINING_MEMORY", least)
        assert preflight_check.memory(None).status == status

    def enough(free: float) -> bool:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10e9, 0, free))
        return preflight_check.disk(folders).status == "ok"

    assert (enough(1.7e9), enough(1.8e9)) == (False, True)
    (folders.etl9g_dir / "standin").mkdir(parents=True)
    for name in ("ETL9G_01", "ETL9G_02", "ETL9G_03", "etl9g_04", "etl9g_05"):
        (folders.etl9g_dir / "standin" / name).touch()
    assert (enough(1.2e9), enough(1.3e9)) == (False, True)
    folders.data_dir.mkdir()
    (folders.data_dir / "metadata.json").touch()
    assert (enough(0.9e9), enough(1.1e9)) == (False, True)
    folders.model_dir.touch()
    assert "is no folder to write models into" in preflight_check.disk(folders).finding


def test_raw_files_real_and_stand_in(folders):
    raw = folders.etl9g_dir
    absent = preflight_check.raw_files(folders)
    assert (absent.status, absent.command) == (
        "MISSING",
        f"python scripts/synthesize_etl9g.py --sets 20 --out {raw}/standin",
    )
    for number in (1, 2):
        write_raw_file(raw / "standin" / f"ETL9G_{number:02d}", STANDIN_MARK + b" 7/0")
    standin = f"2 in {raw}/standin, sizes right (KanjiVG stand-in 7/0)"
    assert preflight_check.raw_files(folders) == Check("ok", standin)
    write_raw_file(raw / "ETL9G_01")  # the real ones come first
    real = f"1 in {raw}, sizes right (real ETL9G, 50 files)"
    assert preflight_check.raw_files(folders) == Check("ok", real)
    write_raw_file(raw / "ETL9G_02", STANDIN_MARK + b" 7/0")
    mixed = preflight_check.raw_files(folders)
    assert (mixed.status, "mixes KanjiVG stand-in 7/0 and real ETL9G" in mixed.finding) == ("MISSING", True)
    with (raw / "ETL9G_02").open("rb+") as file:
        file.truncate(8199 * 100)
    short = "ETL9G_02 is short: 819,900 bytes where an ETL9G file has 99,568,656"
    assert short in preflight_check.raw_files(folders).finding
    (raw / "ETL8G_01").touch()
    other = dict(preflight_check.all_checks(folders))["raw files"]
    assert (other.status, "ETL8G_01" in other.finding) == ("MISSING", True)


def test_dataset_whole_and_not(tiny_dataset, tmp_path):
    folder = tiny_dataset()
    folders = Namespace(etl9g_dir=tmp_path / "raw files", data_dir=folder)
    whole = preflight_check.dataset(folders)
    assert whole.status == "ok"
    assert "120 samples of 5 classes" in whole.finding
    assert "(test shapes): 80 train, 20 validation, 20 test" in whole.finding
    chunk = folder / "etl9g_dataset_chunk_02.npz"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    damaged = preflight_check.dataset(folders)
    assert (damaged.status, "chunk_02.npz is damaged" in damaged.finding) == ("MISSING", True)
    chunk.unlink()
    gone = preflight_check.dataset(folders)
    assert (gone.status, "etl9g_dataset_chunk_02.npz is missing" in gone.finding) == ("MISSING", True)
    prepare = f"python scripts/prepare_dataset.py --etl9g-dir '{tmp_path}/raw files' --output-dir {tmp_path}"
    none = preflight_check.dataset(Namespace(etl9g_dir=tmp_path / "raw files", data_dir=tmp_path))
    assert none == Check("MISSING", f"{tmp_path} is not a prepared dataset", prepare)


def test_a_prepared_dataset_is_enough(tiny_dataset, tmp_path, monkeypatch, capsys):
    data, models = tiny_dataset(), tmp_path / "models"
    folders = ["--etl9g-dir", tmp_path, "--data-dir", data, "--model-dir", models]
    code, lines = run_main(monkeypatch, capsys, *folders)
    assert code == 0
    assert any(line.startswith("note     raw files") for line in lines)
    assert any(line.startswith("ok       dataset") for line in lines)
    assert lines[-1] == f"  python scripts/train_etl9g_model.py --data-dir {data} --model-dir {models}"
    assert not models.exists()
