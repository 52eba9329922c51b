"""How every script begins: where Python or a package is too old, missing, or the output closed."""

import ast
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import few_packages
from files import packages, start
from files.packages import OldPackage
from inference import recognizer

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
DOORS = sorted(path for path in SCRIPTS.glob("*.py") if path.stem != "optimization_config")
HEAD = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import files.start
"""
MISSING = r"error: the package \w+ is missing: pip install -r requirements\.txt"


@pytest.mark.parametrize("door", DOORS, ids=lambda path: path.stem)
def test_every_script_imports_the_start_before_all_else(door):
    """An old Python has to be able to read both."""
    for path in (door, SCRIPTS / "files/start.py", SCRIPTS / "files/__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    tree = ast.parse(door.read_text(encoding="utf-8"), feature_version=(3, 8))
    body = [node for node in tree.body[1:] if getattr(node, "module", "") != "__future__"]
    head = ast.parse(HEAD).body
    assert [ast.dump(node) for node in body[: len(head)]] == [ast.dump(node) for node in head]


@pytest.mark.parametrize(("version", "code"), [((3, 8, 18), 2), ((3, 10, 0), 2), ((3, 11, 0), 0), ((4, 0, 0), 0)])
def test_an_old_python_is_said_to_be_one(version, code):
    lines = f"import sys; sys.version_info = {version}; sys.path.insert(0, {str(SCRIPTS)!r}); import files.start"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    says = "error: this is Python {}.{}.{}; the scripts need Python 3.11 or newer: install it and start them with it\n"
    assert (done.returncode, done.stdout, done.stderr) == (code, "", says.format(*version) if code else "")


def test_without_the_other_packages_a_script_names_one_that_is_missing():
    helps = few_packages.helps(DOORS)
    assert list(helps) == [path.name for path in DOORS]
    for name, lines in helps.items():
        if name in ("recognize.py", "preflight_check.py"):
            assert (lines[0][:6], lines[-1]) == ("usage:", "exit code 0")
        else:
            assert re.fullmatch(MISSING + "\nexit code 1", "\n".join(lines)), (name, lines)


def test_a_package_that_is_too_old_is_named_where_something_fails(monkeypatch, capsys):
    versions = {"numpy": "1.20.3", "onnxruntime": "1.17.3+cu12"}

    def distributions(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=versions[name])] if name in versions else []

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    start.explain(AttributeError, AttributeError("no such thing\nmore"), None)
    numpy = 'numpy 1.20.3 is older than 1.26: pip install "numpy>=1.26"'
    onnxruntime = 'onnxruntime 1.17.3+cu12 is older than 1.22: pip install "onnxruntime>=1.22"'
    assert capsys.readouterr().err == f"error: {numpy}; {onnxruntime} (what failed: no such thing)\n"
    start.explain(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == ""
    versions.clear()
    start.explain(AttributeError, AttributeError("no such thing"), None)
    assert capsys.readouterr().err == "AttributeError: no such thing\n"  # as Python says it


@pytest.mark.parametrize(("name", "module"), [("numpy", recognizer.np), ("onnxruntime", recognizer.onnxruntime)])
def test_a_package_too_old_to_read_with_is_not_a_damaged_model(name, module, monkeypatch):
    monkeypatch.setattr(module, "__version__", "1.2.3")
    says = f"{name} 1.2.3 is too old, this needs {packages.READING[name]} or newer: pip install -U {name}"
    with pytest.raises(OldPackage, match=says):
        recognizer.Recognizer(recognizer.RELEASED)


def test_the_readme_and_the_requirements_ask_for_no_older_packages():
    line = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "Pillow>=" in line)
    assert shlex.split(line) == ["pip", "install", *(f"{name}>={least}" for name, least in packages.READING.items())]
    assert line.count('"') == 6  # a shell would write to a file named =1.19
    bounds = {name: packages.release(bound) for name, _, bound in packages.requirements(packages.REQUIREMENTS)}
    assert all(bounds[name] >= packages.release(least) for name, least in packages.READING.items())


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_fault(closed, tmp_path):
    """As under pythonw, too. Python's own file for the output must not be the next one that is opened."""
    for words, code in (("--help", 0), ("missing.png", 2)):
        command = [sys.executable, SCRIPTS / "recognize.py", words]
        done = subprocess.run(
            ["bash", "-c", f"{shlex.join(map(str, command))} {closed}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert done.stdout == "" or closed == "2>&-"
    lines = f"import os, sys; sys.path.insert(0, {str(SCRIPTS)!r}); import files.start; file = open('f', 'w')"
    lines += "; os.write(1, b'out'); os.write(2, b'err'); print('x', file=file)"  # as a library does
    subprocess.run(["bash", "-c", f"{shlex.join([sys.executable, '-c', lines])} {closed}"], cwd=tmp_path, check=True)
    assert (tmp_path / "f").read_text() == "x\n"


def test_python_need_not_look_beside_the_script(tmp_path):
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    command = [sys.executable, SCRIPTS / "recognize.py", "missing.png"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1][:28]) == (2, "error: missing.png is missing"[:28])
