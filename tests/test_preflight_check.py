"""preflight_check.py on folders and machines of every state, true ones as far as a test can make them."""

import ast
import json
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
from files import command_line
from preflight_check import Check
from records.etl9g import RECORD, STANDIN_MARK, records_per_file

SCRIPT = Path(preflight_check.__file__)
DiskUsage = namedtuple("DiskUsage", "total used free")


def write_raw_file(path: Path, mark: bytes = b"") -> None:
    """A raw file of the right size, empty but for the mark of its first record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = np.zeros(1, RECORD)
    first["undefined"] = np.void(mark.ljust(34, b"\0"))
    with path.open("wb") as file:
        file.write(first.tobytes())
        file.truncate(records_per_file() * RECORD.itemsize)  # sparse: takes no room


@pytest.mark.parametrize(
    ("version", "bound", "older"),
    [
        ("2.11.0", "2.11", False),
        ("2.9.1", "2.11", True),
        ("2.11", "2.11.0", False),
        ("2.15.0+cu128", "2.15.1", True),
        ("2.15.0a0+git1234567", "2.11", False),
        ("20260714", "20250816", False),
        ("1.26.4", "2", True),
    ],
)
def test_versions_are_compared_as_numbers(version, bound, older):
    assert preflight_check.is_older(version, bound) == older


def test_requirements_are_read_with_their_lower_bounds(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# comment >= 1\n-r other.txt\n\ntorch>=2.11\nnumpy >= 1.26, <3  # why\nPillow\n"
        "tqdm[notebook]~=4.66\nkanjivg>=20250816; python_version >= '3.11'\nonnx<2\nscipy==1.2.3\n"
        "opencv-python-headless>=4.10\n"
    )
    assert preflight_check.required_packages(path) == {
        "torch": "2.11",
        "numpy": "1.26",
        "Pillow": "",
        "tqdm": "4.66",
        "kanjivg": "20250816",
        "onnx": "",
        "scipy": "==1.2.3",
        "opencv-python-headless": "4.10",
    }


def test_the_projects_own_requirements_are_met_where_the_tests_run():
    packages = preflight_check.required_packages(preflight_check.REQUIREMENTS)
    assert {"torch", "numpy", "onnxruntime", "safetensors", "tqdm"} <= packages.keys()
    assert {preflight_check.package(name, bound).status for name, bound in packages.items()} == {"ok"}


def test_packages_that_are_absent_or_old(monkeypatch):
    assert preflight_check.package("numpy", "1.0").status == "ok"
    old = preflight_check.package("numpy", "999.1")
    assert (old.status, old.command) == ("MISSING", "pip install --upgrade -r requirements.txt")
    assert f"{np.__version__} is older than 999.1" in old.found
    assert preflight_check.package("numpy", f"=={np.__version__}").status == "ok"
    newer = preflight_check.package("numpy", "==1.0")
    assert (newer.status, newer.found) == ("MISSING", f"{np.__version__} is not 1.0")
    absent = preflight_check.package("no-such-distribution", "1.0")
    assert absent == Check("MISSING", "no-such-distribution", "is not installed", preflight_check.INSTALL)
    monkeypatch.setitem(preflight_check.OTHER_BUILDS, "no-such-distribution", ("numpy",))
    assert preflight_check.package("no-such-distribution", "1.0").status == "ok"


def test_an_old_python(monkeypatch):
    assert preflight_check.python_version().status == "ok"
    monkeypatch.setattr(preflight_check, "OLDEST_PYTHON", (99, 1))
    assert preflight_check.python_version().status == "MISSING"
    assert "older than 99.1" in preflight_check.python_version().found


def test_the_script_can_be_read_by_an_old_python():
    for module in (preflight_check, command_line):
        ast.parse(Path(module.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


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


def test_device_is_named():
    found = preflight_check.device()
    assert found.status == "ok"
    assert "core" in found.found or "GB" in found.found


def test_a_gpu_is_named_with_its_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    card = SimpleNamespace(name="NVIDIA T4", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    monkeypatch.setattr(devices, "fast_bf16", lambda device: device.type != "cuda")
    assert preflight_check.device() == Check("ok", "device", "NVIDIA T4, 16 GB, fp32, one of 2")


def test_memory(monkeypatch):
    assert preflight_check.available_memory() > 1e8
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
    folders = tmp_path / "ETL9G", tmp_path / "dataset", tmp_path / "models"
    assert next(preflight_check.disk(*folders)).status == "MISSING"
    for number in range(1, 6):
        (folders[0] / "standin").mkdir(parents=True, exist_ok=True)
        (folders[0] / "standin" / f"ETL9G_{number:02d}").touch()
    assert next(preflight_check.disk(*folders)).status == "MISSING"  # 0.25 GB and the models' 1 are still to come
    folders[1].mkdir()
    for number in range(1, 6):
        (folders[1] / f"etl9g_dataset_chunk_{number:02d}.npz").touch()
    assert next(preflight_check.disk(*folders)).status == "note"
    shutil.rmtree(folders[0])  # who has the dataset needs the raw files no more
    assert next(preflight_check.disk(*folders)).status == "note"


def test_raw_files_real_and_stand_in(tmp_path):
    absent, names = preflight_check.raw_files(tmp_path / "ETL9G")
    assert (absent.status, names) == ("MISSING", [])
    assert absent.command == f"python scripts/synthesize_etl9g.py --sets 20 --out {tmp_path}/ETL9G/standin"
    for number in (1, 2):
        write_raw_file(tmp_path / "ETL9G" / "standin" / f"ETL9G_{number:02d}", STANDIN_MARK + b" 7/0")
    check, names = preflight_check.raw_files(tmp_path / "ETL9G")
    assert (check.status, names) == ("ok", ["ETL9G_01", "ETL9G_02"])
    assert "2 in" in check.found
    assert "KanjiVG stand-in 7/0" in check.found
    write_raw_file(tmp_path / "ETL9G" / "ETL9G_33")
    check, names = preflight_check.raw_files(tmp_path / "ETL9G")  # the real ones come first
    assert (check.status, names) == ("note", ["ETL9G_33"])
    assert "real ETL9G" in check.found
    assert "has 50" in check.found


def test_raw_files_that_cannot_be_used(tmp_path):
    write_raw_file(tmp_path / "ETL9G_01")
    write_raw_file(tmp_path / "ETL9G_02", STANDIN_MARK + b" 7/0")
    mixed, _ = preflight_check.raw_files(tmp_path)
    assert mixed.status == "MISSING"
    assert "mixes KanjiVG stand-in 7/0 and real ETL9G" in mixed.found
    with (tmp_path / "ETL9G_02").open("rb+") as file:
        file.truncate(8199 * 100)
    short, _ = preflight_check.raw_files(tmp_path)
    assert short.status == "MISSING"
    assert "ETL9G_02 is short: 819,900 bytes where an ETL9G file has 99,568,656" in short.found
    (tmp_path / "ETL8G_01").touch()
    foreign, _ = preflight_check.raw_files(tmp_path)
    assert foreign.status == "MISSING"
    assert "ETL8G_01" in foreign.found


def test_dataset_whole_and_not(tiny_dataset, tmp_path):
    folder = tiny_dataset()
    check = preflight_check.dataset(Path("ETL9G"), folder, ["ETL9G_01", "ETL9G_02"])
    assert check.status == "ok"
    assert "120 samples of 5 classes" in check.found
    assert "(test shapes): 80 train, 20 validation, 20 test" in check.found
    later = preflight_check.dataset(Path("ETL9G"), folder, ["ETL9G_01", "ETL9G_02", "ETL9G_03"])
    assert (later.status, later.command) == (
        "note",
        f"python scripts/prepare_dataset.py --etl9g-dir ETL9G --output-dir {folder}",
    )
    assert "without ETL9G_03, which came later" in later.found
    chunk = folder / "etl9g_dataset_chunk_02.npz"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    damaged = preflight_check.dataset(Path("ETL9G"), folder, [])
    assert (damaged.status, "chunk_02.npz is damaged (images does not fit" in damaged.found) == ("MISSING", True)
    chunk.write_bytes(content)
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    (folder / "metadata.json").write_text(json.dumps(metadata | {"samples": 121}), encoding="utf-8")
    assert "not whole: 120 samples" in preflight_check.dataset(Path("ETL9G"), folder, []).found
    (folder / "etl9g_dataset_chunk_02.npz").unlink()
    gone = preflight_check.dataset(Path("ETL9G"), folder, [])
    assert gone.status == "MISSING"
    assert "etl9g_dataset_chunk_02.npz is missing" in gone.found
    none = preflight_check.dataset(Path("raw files"), tmp_path, [])
    assert none.status == "MISSING"
    assert none.command == f"python scripts/prepare_dataset.py --etl9g-dir 'raw files' --output-dir {tmp_path}"


def run_main(monkeypatch, capsys, *arguments: object) -> tuple[int, list[str]]:
    """Exit code and printed lines."""
    monkeypatch.setattr(sys, "argv", ["preflight_check.py", *map(str, arguments)])
    try:
        preflight_check.main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out.splitlines()


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


def test_a_toolkit_without_requirements_gets_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(preflight_check, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(sys, "argv", ["preflight_check.py"])
    with pytest.raises(SystemExit) as ended:
        command_line.run(preflight_check.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
