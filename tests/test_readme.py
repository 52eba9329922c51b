"""The README and the model card keep their word: commands exist and take the flags given, links lead somewhere, the
doors and rooms are all named, and the card's figures are those of the files it is about."""

import re
from pathlib import Path

import pytest

from quantization.files import load_trained
from script_runs import run_script

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS, RELEASED = ROOT / "scripts", ROOT / "models/released"
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "model-card.md")}
README, CARD = DOCUMENTS.values()


def calls(text: str) -> dict[str, set[str]]:
    """Of each script that a document calls, the flags it gives it; a script named after another has what follows."""
    flags_of: dict[str, set[str]] = {}
    for line in re.findall(r"python (scripts/\w+\.py[^\n`#&]*)", text):
        for word in line.split():
            if word.endswith(".py"):
                flags = flags_of.setdefault(Path(word).name, set())
            elif word.startswith("--"):
                flags.add(word)
    return flags_of


CALLS = calls(README + CARD)


@pytest.mark.parametrize("script", sorted(CALLS))
def test_commands_exist_and_take_their_flags(script):
    assert (SCRIPTS / script).is_file()
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    assert not CALLS[script] - set(re.findall(r"--[a-z0-9-]+", done.stdout))


def test_every_door_and_every_room_is_named():
    doors = {path.name for path in SCRIPTS.glob("*.py")}
    rooms = {path.parent.name + "/" for path in SCRIPTS.glob("*/__init__.py")}
    named = re.findall(r"`(?:scripts/)?(\w+\.py|\w+/)`", README)
    assert not (doors | rooms) - set(named)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_paths_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[name]):
        assert target.startswith("http") or (ROOT / target).exists(), target
    paths = r"(?:scripts|tests)/[\w/]+\.py|models/released/[\w/.]+\w|models/\w+_opset14\.onnx|requirements[\w-]*\.txt"
    for path in re.findall(paths, DOCUMENTS[name]):
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
        _, parameters, size, validation, *_ = (cell.strip() for cell in row.split("|"))
        model, facts = load_trained(path)
        assert size == f"{path.stat().st_size:,}"
        assert parameters == f"{sum(p.numel() for p in model.parameters()):,}"
        assert validation == "{validation_top1:.2f} ({validation_top5:.2f})".format(**facts["metrics"])
        assert facts["source"].startswith("KanjiVG")
