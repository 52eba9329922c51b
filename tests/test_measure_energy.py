"""Energy: the script that is measured does what it does alone, and ends as it would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_a_script_is_measured_and_does_what_it_does_alone(tmp_path):
    alone = run_script("character_structure.py", "語", "晴", cwd=tmp_path)
    for _ in range(2):
        options = ("--country", "jpn", "--every", "0.1", "--output", tmp_path / "new" / "energy.jsonl")
        done = run_script("measure_energy.py", *options, "character_structure.py", "語", "晴", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(alone.stdout)
        assert " Wh in " in done.stdout.splitlines()[-1]
        assert "Japan" in done.stdout.splitlines()[-1]
    lines = (tmp_path / "new" / "energy.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    for found in map(json.loads, lines):
        assert (found["script"], found["words"], found["exit_code"]) == ("character_structure.py", ["語", "晴"], 0)
        assert found["energy_consumed"] > 0
        assert found["emissions"] / found["energy_consumed"] == pytest.approx(0.485, abs=0.2)  # kg a kWh, Japan's mix


def test_it_ends_as_the_script_does(tmp_path):
    options = ("--country", "JPN", "--output", tmp_path / "energy.jsonl")
    done = run_script("measure_energy.py", *options, "train_vit.py", "--epochs", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--epochs must be greater than 0" in done.stderr
    assert json.loads((tmp_path / "energy.jsonl").read_text(encoding="utf-8"))["exit_code"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--country", "JPN", "no_such.py"), "no_such.py is no script of"),
        (("--country", "JPN", "measure_energy.py"), "measure_energy.py is no script of"),
        (("--country", "JPN", "../tests/conftest.py"), "conftest.py is no script of"),
        (("--country", "Japan", "train_vit.py"), "three letters"),
        (("--country", "QQQ", "train_vit.py"), "QQQ is no country"),
        (("--country", "JPN", "--every", "0", "train_vit.py"), "--every must be greater than 0"),
    ],
)
def test_wrong_calls(arguments, told, tmp_path):
    done = run_script("measure_energy.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
