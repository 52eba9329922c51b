"""The notebook runs from its first cell to its last, with a training of a second."""

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_it_reads_trains_exports_and_reads_again(standin, tmp_path, monkeypatch):
    notebook = nbformat.read(EXAMPLES / "read_and_train.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are kept by git
    monkeypatch.setenv("MINUTES", "0")
    monkeypatch.setenv("WORK", str(tmp_path))
    shutil.copytree(standin[0], tmp_path / "raw")  # what its own command would draw, and need not draw again
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "U+866B/sample.png: 虫" in printed  # by the released model
    assert printed.count("U+866B/sample.png") == 2
    assert "epoch   1/1  loss" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert (tmp_path / "kanji_model.onnx").is_file()
