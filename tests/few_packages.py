"""Scripts run as where a few packages are installed, and what these need, but no others."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
READING = "onnxruntime numpy pillow"  # what recognize.py needs
WITHOUT_OTHERS = """
import importlib.metadata, os, re, runpy, sys

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

def needed_by(name):
    try:
        required = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:  # of another system
        return []
    lines = [line for line in required if "extra ==" not in line]
    return [plain(re.match("[A-Za-z0-9._-]+", line)[0]) for line in lines]

class Without:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

kept, names = set(), sys.argv.pop(1).split()
while names:
    kept.add(name := names.pop())
    names += {*needed_by(name)} - kept
others = {m for m, of in importlib.metadata.packages_distributions().items() if not {*map(plain, of)} & kept}
assert "onnx" in others
sys.meta_path.insert(0, Without)
"""
RUN = """
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
RUN_EACH = """
for script in sys.argv[1:]:
    print("\\n" + script, flush=True)
    if not (child := os.fork()):
        os.dup2(1, 2)
        sys.argv = [script, "--help"]
        runpy.run_path(script, run_name="__main__")
        sys.exit()
    print(f"exit code {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", flush=True)
"""


def run_script(script: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """What `subprocess.run` gives of a script, in text."""
    command = [sys.executable, "-c", WITHOUT_OTHERS + RUN, READING, SCRIPTS / f"{script}.py", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def run_code(code: str, packages: str, cwd: Path) -> subprocess.CompletedProcess:
    """The same of Python code, where the named packages are installed."""
    command = [sys.executable, "-c", WITHOUT_OTHERS + code, packages]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def helps(scripts: list[Path]) -> dict[str, list[str]]:
    """What each script prints when it is asked for --help, and its exit code in the last line; a fork for each."""
    command = [sys.executable, "-c", WITHOUT_OTHERS + RUN_EACH, READING, *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    parts = done.stdout.split(f"\n{SCRIPTS}/")[1:]
    return {name: lines for name, *lines in (part.splitlines() for part in parts)}
