"""The documents keep their word: commands exist and take the flags given, links lead somewhere, all scripts and folders
are listed, and the model card's figures are those of the files it is about."""

import re
from pathlib import Path

import pytest

from quantization.files import load_trained
from script_runs import run_script

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS, RELEASED = ROOT / "scripts", ROOT / "models/released"
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / f"{name}/README.md" for name in ("models", "web")),
        *ROOT.glob("docs/*.md"),
    ]
}
README, CARD = DOCUMENTS["README.md"], DOCUMENTS["model-card.md"]
MOST_LINES = 150  # of the README


def calls(text: str) -> dict[str, set[str]]:
    """Of each script that a document calls, the flags it gives it; a script named after another has what follows."""
    flags_of: dict[str, set[str]] = {}
    for line in re.findall(r"python (scripts/\w+\.py[^\n`#&]*)", text.replace("\\\n", " ")):
        for word in line.split():
            if word.endswith(".py"):
                flags = flags_of.setdefault(Path(word).name, set())
            elif word.startswith("--"):
                flags.add(word)
    return flags_of


def anchors(text: str) -> set[str]:
    """The headings of a document, as GitHub names them in links."""
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}


CALLS = calls(README + CARD + DOCUMENTS["docs/training.md"] + DOCUMENTS["docs/code.md"])


@pytest.mark.parametrize("script", sorted(CALLS))
def test_commands_exist_and_take_their_flags(script):
    assert (SCRIPTS / script).is_file()
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    assert not CALLS[script] - set(re.findall(r"--[a-z0-9-]+", done.stdout))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_LINES


def test_every_script_and_every_folder_is_listed():
    doors = {path.name for path in SCRIPTS.glob("*.py")}
    rooms = {path.parent.name + "/" for path in SCRIPTS.glob("*/__init__.py")}
    named = re.findall(r"`(?:scripts/)?(\w+\.py|\w+/)`", DOCUMENTS["docs/code.md"])
    assert not (doors | rooms) - set(named)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_paths_lead_somewhere(name):
    folder = (ROOT / name).parent
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", DOCUMENTS[name]):
        assert target.startswith("http") or (folder / target).exists(), target
        if heading and not target.startswith("http"):
            linked = (folder / target).resolve().relative_to(ROOT) if target else name
            assert heading in anchors(DOCUMENTS[str(linked)]), f"{linked}#{heading}"
    paths = r"(?:scripts|tests)/[\w/]+\.py|models/released/[\w/.]+\w|models/\w+_opset14\.onnx|requirements[\w-]*\.txt"
    for path in re.findall(paths, DOCUMENTS[name]) if name != "PROJECT_DIARY.md" else ():  # which is history
        assert (ROOT / path).is_file(), path


def test_the_model_cards_head_is_what_a_hub_reads():
    """Its YAML in the one form that needs no quotes: words, and lists of words."""
    opening, head, _ = CARD.split("---\n", 2)
    word = r"(?!(?:yes|no|on|off|true|false|null)\b)[A-Za-z][\w.+-]*"
    assert opening == ""
    assert re.fullmatch(rf"(?:\w+:(?: {word}|(?:\n- {word})+)\n)+", head)
    assert {"license: cc-by-sa-3.0", "language: ja", "library_name: pytorch", "- kanji"} <= set(head.splitlines())


def test_the_model_cards_figures_are_those_of_the_released_files():
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", CARD.partition("<!-- FIGURES")[2].partition("<!-- END")[0], re.M)
    assert {name for name, _ in rows} == {path.name for path in RELEASED.glob("*.safetensors")}
    for name, row in rows:
        path = RELEASED / name
        _, parameters, size, *_ = (cell.strip() for cell in row.split("|"))
        model, facts = load_trained(path)
        assert size == f"{path.stat().st_size:,}"
        assert parameters == f"{sum(p.numel() for p in model.parameters()):,}"
        assert facts["source"].startswith("KanjiVG")


def test_ci_and_github_run_the_readmes_test_command():
    command = re.search(r"^pip install .*python -m pytest$", README, re.M)[0]
    assert "grep -m1 -E '^pip install .*python -m pytest$' README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert f"run: {command}\n" in (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
