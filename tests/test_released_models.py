"""The released models are those that models/README.md lists, and read what unseen writers of the stand-in wrote."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from safetensors import safe_open

from characters.jis import etl9g_classes
from evaluation.model import load_model
from standin_sample import SAMPLES, load

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models/released"
LISTED = re.findall(
    r"^\| `([\w.]+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|", (ROOT / "models/README.md").read_text(encoding="utf-8"), re.M
)
NAMES = [name for name, _, _ in LISTED]
LEAST_RIGHT = 0.88  # of the sample's 400; the models' own figures are above 0.91, two standard errors are 0.027


def facts_of(name: str) -> tuple[dict[str, str], str]:
    """What a file says about its model, and all that it says in words, the exporter's notes on its nodes included."""
    if name.endswith(".safetensors"):
        with safe_open(MODELS / name, framework="pt") as file:
            facts = file.metadata()
        return facts | {"classes": json.loads(facts["classes"])}, "\n".join(facts.values())
    model = onnx.load(MODELS / name)
    parts = [model, model.graph, *model.functions, *model.graph.node, *(n for f in model.functions for n in f.node)]
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return facts, "\n".join([*(p.doc_string for p in parts), *(e.value for p in parts for e in p.metadata_props)])


def test_every_file_is_listed_and_no_other():
    assert {path.name for path in MODELS.iterdir() if path.suffix in {".onnx", ".safetensors"}} == set(NAMES)


@pytest.mark.parametrize(("name", "size", "digest"), LISTED, ids=NAMES)
def test_a_file_is_the_one_that_is_listed_and_describes_itself(name, size, digest):
    content = (MODELS / name).read_bytes()
    assert f"{len(content):,}" == size
    assert hashlib.sha256(content).hexdigest() == digest
    facts, words = facts_of(name)
    assert facts["classes"] == "".join(etl9g_classes())
    assert "KanjiVG" in facts["source"]
    assert not re.search(r"(?<![\w.*/])/\w+/|[A-Z]:\\\\", words), "a path of the machine it was made on"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_reads_unseen_writers(name):
    images, characters = load()
    if "any_image" in name:
        session = onnxruntime.InferenceSession(str(MODELS / name), providers=["CPUExecutionProvider"])
        pictures = np.round(255 * (1 - images[:, 0]))[..., None].astype(np.uint8)  # dark on white, (N, 64, 64, 1)
        best = [session.run(["classes"], {"image": picture[None]})[0][0, 0] for picture in pictures]
        classes = session.get_modelmeta().custom_metadata_map["classes"]
    else:
        model = load_model(MODELS / name)
        best = np.concatenate([model.logits(part).argmax(axis=1) for part in np.array_split(images, 8)])
        classes = model.classes
    right = np.array(list(classes))[best] == characters
    assert len(right) == SAMPLES
    assert right.mean() >= LEAST_RIGHT


@pytest.mark.parametrize("document", ["README.md", "model-card.md"])
def test_the_documents_lines_of_python_run_as_they_stand(document, tmp_path, monkeypatch):
    """On a photo that was taken with the camera turned, ink on a transparent ground."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.S)
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
    (likeliest,) = [value for value in scope.values() if isinstance(value, list) and len(value) == 10]
    assert likeliest[0][0] == characters[0]
    assert 0.5 < likeliest[0][1] <= 1
