"""The README and the model card keep their word: commands exist and take the flags given, links lead somewhere, and the
card's figures are those of the files it is about."""

import re
from pathlib import Path

import pytest

from export.hub_folder import STANDIN_LICENCE
from quantization.files import load_trained
from script_runs import run_script

ROOT = Path(__file__).resolve().parent.parent
README, CARD = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "model-card.md"))


def calls(text: str) -> dict[str, set[str]]:
    """Of each script that a document calls, the flags it gives it; a script named after another has what follows."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"python (scripts/\w+\.py[^\n`#&]*)", text):
        for word in line.split():
            if word.endswith(".py"):
                flags = found.setdefault(Path(word).name, set())
            elif word.startswith("--"):
                flags.add(word)
    return found


CALLS = calls(README + CARD)
RELEASED = ROOT / "models/released"


@pytest.mark.parametrize("script", sorted(CALLS))
def test_commands_exist_and_take_their_flags(script):
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"--[a-z0-9-]+", done.stdout))
    assert CALLS[script] <= known, f"{script} does not know {CALLS[script] - known}"


def test_every_script_has_its_line_and_every_line_its_script():
    named = set(re.findall(r"`(\w+\.py)`", README))
    assert named == {path.name for path in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize("document", [README, CARD], ids=["README", "model card"])
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
    for name in re.findall(r"(?:scripts|tests)/\w+\.py|requirements[\w-]*\.txt", document):
        assert (ROOT / name).is_file(), name


def test_the_two_commands_are_there():
    assert "pip install -r requirements.txt && python scripts/quickstart.py" in README
    assert "pip install -r requirements-dev.txt && python -m pytest" in README


WORD = r"(?!(?:yes|no|on|off|true|false|null)\b)[A-Za-z][\w.+-]*"
ENTRY = rf"(\w+):(?: ({WORD})|((?:\n- {WORD})+))\n"


def front_matter(text: str) -> dict[str, str | list[str]]:
    """The YAML at a model card's head, in the one form that needs no quotes: words, and lists of words."""
    opening, head, _ = text.split("---\n", 2)
    assert opening == "", "the card must begin with its YAML"
    assert re.fullmatch(f"(?:{ENTRY})+", head), "not such words and lists"
    entries = re.findall(ENTRY, head)
    found = {key: word or words.split("\n- ")[1:] for key, word, words in entries}
    assert len(found) == len(entries), "an entry is there twice"
    return found


def test_the_model_cards_yaml_is_what_a_hub_reads():
    told = front_matter(CARD)
    assert told["license"] == STANDIN_LICENCE
    assert (told["language"], told["library_name"], told["metrics"]) == ("ja", "pytorch", ["accuracy"])
    assert {"kanji", "hiragana"} < set(told["tags"])
    assert len(told["datasets"]) == 1


@pytest.mark.parametrize(
    "broken",
    ["license mit", "tags:", "- kanji", "a: [b", "a: b: c", "a: b\na: c", " a: b", "a: no", "a: b\n- c", "a:\n  - b"],
)
def test_yaml_that_is_none_is_noticed(broken):
    with pytest.raises(AssertionError):
        front_matter(f"---\n{broken}\n---\ntext\n")


def test_the_model_cards_figures_are_those_of_the_released_files():
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", CARD.partition("<!-- FIGURES")[2].partition("<!-- END")[0], re.M)
    assert {name for name, _ in rows} == {path.name for path in RELEASED.glob("*.safetensors")}
    for name, row in rows:
        path = RELEASED / name
        _, parameters, size, validation, *_ = (cell.strip() for cell in row.split("|"))
        model, facts = load_trained(path)
        assert size == f"{path.stat().st_size:,}"
        assert parameters == f"{sum(p.numel() for p in model.parameters()):,}"
        top1, top5 = (facts["metrics"][f"validation_{which}"] for which in ("top1", "top5"))
        assert validation == f"{top1:.2f} ({top5:.2f})"
        assert facts["source"].startswith("KanjiVG")
