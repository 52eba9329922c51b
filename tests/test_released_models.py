"""The released models are those that models/README.md lists, and read what unseen writers of the stand-in wrote."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from safetensors import safe_open

from characters.class_lists import class_list
from characters.jis import etl9g_classes
from characters.same_shape import group_numbers
from evaluation.model import load_model
from inference.recognizer import SHORT_NAMES, model_path
from standin_sample import SAMPLES, load

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
FIGURES = json.loads((MODELS / "released/figures.json").read_text(encoding="utf-8"))["files"]
PATHS = {path.name: path for path in [*MODELS.glob("*_opset14.onnx"), *(MODELS / "released").iterdir()]}
NAMES = list(FIGURES)
LEAST_RIGHT = 0.88  # of the sample's 400; the models' own figures are above 0.91, two standard errors are 0.027


def facts_of(name: str) -> tuple[dict[str, str], str]:
    """What a file says about its model, and all that it says in words, the exporter's notes on its nodes included."""
    if name.endswith(".safetensors"):
        with safe_open(PATHS[name], framework="pt") as file:
            facts = file.metadata()
        return facts | {"classes": json.loads(facts["classes"])}, "\n".join(facts.values())
    model = onnx.load(PATHS[name])
    parts = [model, model.graph, *model.functions, *model.graph.node, *(n for f in model.functions for n in f.node)]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return facts, "\n".join([*(p.doc_string for p in parts), *(e.value for p in parts for e in p.metadata_props)])


def test_every_file_is_listed_and_no_other():
    kept = subprocess.run(["git", "ls-files", "models"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {Path(line).name for line in kept.splitlines() if line.endswith((".onnx", ".safetensors"))}
    assert files == set(FIGURES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_the_one_that_was_measured_and_describes_itself(name):
    assert hashlib.sha256(PATHS[name].read_bytes()).hexdigest() == FIGURES[name]["sha256"]
    facts, words = facts_of(name)
    assert facts["classes"] == class_list("all" if name.startswith("hiercode_all") else "etl9g")
    assert "KanjiVG" in facts["source"]
    assert not re.search(r"(?<![\w.*/])/\w+/|[A-Z]:\\\\", words), "a path of the machine it was made on"


def figures_in(row: dict) -> list[str]:
    """What a row of the documents says of a file, in their order."""
    kinds = ("made-up writers", "real drawings")
    both = [
        f"{row[kind]:.2f} ± {row[f'{kind}, standard error']:.2f}" if kind in row else "not measured" for kind in kinds
    ]
    return both + [f"{row[f'{what} and stated as known']:.2f}" for what in ("read", "wrong")]


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_give_the_figures_that_were_measured(name):
    size, row = f"{PATHS[name].stat().st_size:,}", FIGURES[name]
    rows = re.findall(rf"^\| `{name}` \| ([\d,]+) \| [^|]+ \|(.*)\|$", (MODELS / "README.md").read_text("utf-8"), re.M)
    assert rows == [(size, f" {' | '.join(figures_in(row))} ")]


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_readmes_table_gives_the_figures_that_were_measured(name):
    path = model_path(name)
    row = FIGURES[path.name]
    shown = [f"{row['real drawings']:.2f} %", f"{row['made-up writers']:.2f} %", f"{path.stat().st_size / 1e6:.2f} MB"]
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "")
    assert re.findall(rf"^\| .*\(`{name}`\).*? \| (.*?) \| (.*?) \| (.*?) \|", text, re.M) == [tuple(shown)]


def test_the_missions_own_program_runs_in_a_fresh_clone():
    """Its path, its input's name, a random picture."""
    session = onnxruntime.InferenceSession(
        str(ROOT / "models/hiercode_int8_quantized_quantized_int8_onnx_opset14.onnx"),
        providers=["CPUExecutionProvider"],
    )
    image = np.random.default_rng(0).random((1, 1, 64, 64), np.float32)
    (logits,) = session.run(None, {"input_image": image})
    assert logits.shape == (1, len(etl9g_classes()))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_reads_unseen_writers(name):
    images, characters = load()
    if "any_image" in name:
        session = onnxruntime.InferenceSession(str(PATHS[name]), providers=["CPUExecutionProvider"])
        pictures = np.round(255 * (1 - images[:, 0]))[..., None].astype(np.uint8)  # dark on white, (N, 64, 64, 1)
        best = [session.run(["classes"], {"image": picture[None]})[0][0, 0] for picture in pictures]
        classes = session.get_modelmeta().custom_metadata_map["classes"]
    else:
        model = load_model(PATHS[name])
        best = np.concatenate([model.logits(part).argmax(axis=1) for part in np.array_split(images, 8)])
        classes = model.classes
    shape, true = group_numbers(classes), [classes.index(character) for character in characters]
    right = shape[best] == shape[true]
    assert len(right) == SAMPLES
    assert right.mean() >= LEAST_RIGHT


def test_the_cards_lines_of_python_run_as_they_stand(tmp_path, monkeypatch, capsys):
    """On a photo that was taken with the camera turned, ink on a transparent ground."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "model-card.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    images, characters = load()
    opacity = Image.fromarray((255 * images[0, 0]).astype(np.uint8)).rotate(90, expand=True)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned; the picture is to be turned by 90° to the right
    black = Image.new("L", opacity.size)
    Image.merge("RGBA", [black, black, black, opacity]).save("photo.png", exif=turned)
    scope: dict = {}
    exec(program, scope)
    printed = capsys.readouterr().out
    assert printed.startswith(f"[('{characters[0]}', 0.9")
    Image.new("L", (300, 300), 255).save("photo.png")
    exec(program, scope)
    assert capsys.readouterr().out.startswith("none of these characters; the nearest: [('")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say how much memory was used")
def test_the_cards_lines_of_python_read_a_large_photo_in_little_memory(tmp_path):
    """24 megapixels in colour: less than 400 MB in all, what Python and the libraries take included."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "model-card.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "models").symlink_to(ROOT / "models")
    photo = Image.new("RGB", (6000, 4000), (230, 225, 215))
    photo.paste((30, 30, 60), (1500, 1900, 4500, 2100))  # 十
    photo.paste((30, 30, 60), (2900, 500, 3100, 3500))
    photo.save(tmp_path / "photo.png", compress_level=1)
    program += "\nprint(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    read, peak = done.stdout.splitlines()
    assert read.startswith("[('十', ")
    assert int(peak) < 400_000
