"""Doors and rooms: what is run lies in scripts/, what is imported in rooms, and imports only point up the floors."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
# From the top: a module imports from its own room and from those named before it. Doors come last.
ORDER = """optimization_config files characters structure records images handwriting inference data
engine.architecture engine.layers engine rnn quantization export evaluation"""
FLOORS = ORDER.split()
LONGEST_FILE, LONGEST_FUNCTION, MOST_LINES, MOST_DOORS = 300, 60, 12950, 25


def modules(scripts: Path) -> dict[str, str]:
    """The source of each module, by its name as it is imported; a room's __init__.py by the room's."""
    names = {path: ".".join(path.relative_to(scripts).with_suffix("").parts) for path in sorted(scripts.rglob("*.py"))}
    return {name.removesuffix(".__init__"): path.read_text(encoding="utf-8") for path, name in names.items()}


def imports(source: str, known: set[str]) -> set[str]:
    """The modules among those known that a source imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & known or {node.module}
    return names & known


def floor(module: str) -> int:
    """Where a module stands in FLOORS, by the longest name there that fits it; a door comes after all."""
    fitting = [name for name in FLOORS if f"{module}.".startswith(f"{name}.")]
    return FLOORS.index(max(fitting, key=len)) if fitting else len(FLOORS)


def faults(scripts: Path) -> list[str]:
    """What is against the plan in a folder of doors and rooms."""
    sources = modules(scripts)
    rooms = {path.parent.name for path in scripts.glob("*/*.py")}
    doors = {path.stem for path in scripts.glob("*.py")} - set(FLOORS)
    graph = {name: imports(source, sources.keys() - {name}) for name, source in sources.items()}
    arrows = [(name, imported) for name, names in graph.items() for imported in sorted(names)]
    wrong = [f"{name} imports the door {imported}" for name, imported in arrows if imported in doors]
    wrong += [f"{name} imports {imported}, below it" for name, imported in arrows if floor(imported) > floor(name)]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(f"a circle: {' < '.join(error.args[1])}")
    for name, source in sources.items():
        functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        wrong += [f"{name}.{f.name} is long" for f in functions if f.end_lineno - f.lineno >= LONGEST_FUNCTION]
        wrong += [f"{name} is long"] * (len(source.splitlines()) > LONGEST_FILE)
    named = {room for room in rooms if ast.get_docstring(ast.parse(sources.get(room, "")))}
    wrong += [f"{room} does not say what it holds" for room in sorted(rooms - named)]
    wrong += ["there are too many lines"] * (sum(len(s.splitlines()) for s in sources.values()) > MOST_LINES)
    return wrong + ["there are too many doors"] * (len(doors) > MOST_DOORS)


def test_doors_and_rooms():
    assert faults(SCRIPTS) == []


LONG_FUNCTION = "def f():\n" + "    pass\n" * LONGEST_FUNCTION
VIOLATIONS = {
    "files.a imports the door show": {"files/a.py": "def f():\n    import show\n"},
    "rnn.a imports evaluation.b, below it": {"rnn/a.py": "from evaluation.b import c", "evaluation/b.py": "c = 1"},
    "engine.layers imports engine.run, below it": {"engine/layers.py": "from engine import run", "engine/run.py": ""},
    "a circle": {"files/a.py": "import files.b", "files/b.py": "from files.a import c"},
    "files.a.f is long": {"files/a.py": LONG_FUNCTION},
    "files.a is long": {"files/a.py": "\n" * (LONGEST_FILE + 1)},
    "there are too many lines": {f"files/a{i}.py": "\n" * LONGEST_FILE for i in range(MOST_LINES // LONGEST_FILE + 1)},
    "there are too many doors": {f"door{i}.py": "" for i in range(MOST_DOORS + 1)},
    "files does not say what it holds": {"files/__init__.py": ""},
}


@pytest.mark.parametrize("fault", ["", *VIOLATIONS])
def test_each_violation_is_seen(fault, tmp_path):
    content = {"show.py": "from files import a", "files/a.py": "import os", "files/__init__.py": '"""Files."""'}
    for path, source in (content | VIOLATIONS.get(fault, {})).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    seen = faults(tmp_path)
    assert any(line.startswith(fault) for line in seen) if fault else not seen
