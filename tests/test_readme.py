"""The README keeps its word: its commands exist and take the flags it gives them, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python (scripts/\w+\.py[^\n`#&]*)", README)))


@pytest.mark.parametrize("script", sorted({command.split()[0] for command in COMMANDS}))
def test_commands_of_the_readme_exist_and_take_their_flags(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        if command.split()[0] == script:
            for flag in re.findall(r"--[a-z0-9-]+", command):
                assert flag in done.stdout, f"{script} does not know {flag}"


def test_every_script_has_its_line_and_every_line_its_script():
    named = set(re.findall(r"`(\w+\.py)`", README))
    assert named == {path.name for path in (ROOT / "scripts").glob("*.py")}


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_two_commands_are_there():
    assert "pip install -r requirements.txt && python scripts/quickstart.py" in README
    assert "pip install -r requirements-dev.txt && python -m pytest" in README
