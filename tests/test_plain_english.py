"""The documents, help texts, messages and docstrings are plain English: none of the words of plain_english.txt, no long
sentence, no long line. The diary's history is left as it is."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_suffix(".txt").with_name("plain_english.txt")
DOCUMENTS = [path for path in sorted(ROOT.rglob("*.md")) if not {"node_modules", ".venv"} & set(path.parts)]
DOCUMENTS += sorted((ROOT / "examples").glob("*.ipynb"))
SOURCES = sorted((ROOT / "scripts").rglob("*.py"))
PAGE = [ROOT / "web/index.html", *sorted((ROOT / "web").glob("*.js"))]
LONGEST_LINE, MOST_WORDS = 120, 40  # of a document; of a sentence


def avoided() -> dict[str, str]:
    """Each pattern of the list, and what to write instead."""
    lines = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split(" → ") for line in lines)


AVOIDED = avoided()


def faults(text: str) -> list[str]:
    """The words that a text should avoid, each with what to write instead."""
    found = [(re.search(rf"\b(?:{pattern})\b", text, re.I), instead) for pattern, instead in AVOIDED.items()]
    return [f"{match[0]!r}: write {instead}" for match, instead in found if match]


def prose(markdown: str) -> str:
    """A document without code, tables, headings, and YAML at its head."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.S)
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.S)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("|", "#", "    ", "!")))
    return re.sub(r"`[^`]*`", "X", text)


def sentences(text: str) -> list[str]:
    """Sentences; a paragraph and an item of a list end one."""
    paragraphs = re.split(r"\n\s*\n", re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n\n", text, flags=re.M))
    return [part for one in paragraphs for part in re.split(r"(?<=[.:;?!])\s+", one) if part]


def read(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return text.partition("\n| ")[0] if path.name == "PROJECT_DIARY.md" else text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_is_plain(path):
    text = read(path)
    assert faults(prose(text) + "\n".join(line for line in text.splitlines() if line.startswith(("|", "#")))) == []
    long = [line for line in text.splitlines() if len(line) > LONGEST_LINE and not line.startswith(("|", "<!--"))]
    assert long == []
    assert [one for one in sentences(prose(text)) if len(one.split()) > MOST_WORDS] == []


def words_of(path: Path) -> list[tuple[int, str]]:
    """The line and text of each docstring, help text and message of a module: strings of at least three words."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = [(node.lineno, node.value) for node in nodes if isinstance(node, ast.Constant) and type(node.value) is str]
    return [(line, text) for line, text in texts if len(text.split()) >= 3]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_help_messages_and_docstrings_are_plain(path):
    assert [(line, found) for line, text in words_of(path) if (found := faults(text))] == []


@pytest.mark.parametrize("path", PAGE, ids=lambda path: path.name)
def test_the_page_is_plain(path):
    assert faults(path.read_text(encoding="utf-8")) == []


def test_what_is_to_be_avoided_is_seen():
    assert faults("Nothing is told.") == [f"'told': write {AVOIDED['told']}"]
    assert faults("An untold story") == []
    assert [len(one.split()) for one in sentences(prose("# A b\none two.\nthree `x\ny` four\n\n- five\n"))] == [2, 3, 1]
