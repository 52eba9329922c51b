"""The export: what it writes, what it tells, and that it notices a wrong file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import checkpoints
import convert_to_onnx
from train_etl9g_model import CNN, CNNConfig

SCRIPTS = Path(convert_to_onnx.__file__).parent
CLASSES = "あいう亜腕"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    """A tiny CNN with random weights and running statistics, saved as training saves it."""
    torch.manual_seed(0)
    model = CNN(CNNConfig(width=0.25, embedding=16), CLASSES)
    model.train()
    for _ in range(3):
        model(torch.rand(16, 1, 64, 64))
    path = tmp_path_factory.mktemp("models") / "best_kanji_model.pth"
    facts = {
        "script": "train_etl9g_model",
        "config": {"width": 0.25, "embedding": 16, "dropout": 0.0},
        "classes": CLASSES,
        "source": "KanjiVG stand-in",
        "metrics": {"validation_top1": 12.5},
    }
    checkpoints.save(path, facts | {"model": model.state_dict()})
    return path


@pytest.fixture(scope="module")
def exported(model_path) -> Path:
    output = convert_to_onnx.default_output(model_path)
    convert_to_onnx.convert(model_path, output, None)
    return output


def opset_of(path: Path) -> int:
    return next(entry.version for entry in onnx.load(path).opset_import if entry.domain in {"", "ai.onnx"})


def test_name_opset_and_metadata(exported):
    assert exported.name == "kanji_model.onnx"
    assert opset_of(exported) == convert_to_onnx.DEFAULT_OPSET
    facts = onnxruntime.InferenceSession(str(exported)).get_modelmeta().custom_metadata_map
    assert facts["classes"] == CLASSES
    assert facts["source"] == "KanjiVG stand-in"
    assert json.loads(facts["metrics"])["validation_top1"] == 12.5
    assert not list(exported.parent.glob(".*"))  # nothing half-written stays


def test_any_batch_gives_the_logits_of_pytorch(model_path, exported):
    model, _ = checkpoints.load_trained(model_path)
    session = onnxruntime.InferenceSession(str(exported))
    assert session.get_inputs()[0].name == "input_image"
    assert session.get_outputs()[0].name == "logits"
    for size in (1, 7, 65):
        batch = torch.rand(size, 1, 64, 64, generator=torch.Generator().manual_seed(size))
        with torch.no_grad():
            expected = model(batch).numpy()
        np.testing.assert_allclose(session.run(None, {"input_image": batch.numpy()})[0], expected, atol=1e-4)


def test_an_older_opset_is_really_that_opset(model_path, tmp_path):
    output = tmp_path / "old.onnx"
    convert_to_onnx.convert(model_path, output, None, opset=14)
    assert opset_of(output) == 14


def test_a_file_that_differs_from_pytorch_is_refused(model_path, exported):
    model, _ = checkpoints.load_trained(model_path)
    with torch.no_grad():
        model.classify[1].bias[2] += 0.01
    with pytest.raises(convert_to_onnx.ConversionError, match="differ"):
        convert_to_onnx.compare(model, exported, convert_to_onnx.probe_images(None, 64))


def test_a_failed_comparison_leaves_no_file(model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_to_onnx, "TOLERANCE", -1.0)
    with pytest.raises(convert_to_onnx.ConversionError):
        convert_to_onnx.convert(model_path, tmp_path / "never.onnx", None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-path", "missing.pth"], "missing.pth is missing"),
        (["--model-path", "text.pth"], "is not a checkpoint"),
        (["--model-path", "text.pth", "--opset", "5"], "--opset"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, arguments, message):
    (tmp_path / "text.pth").write_text("no model")
    command = [sys.executable, SCRIPTS / "convert_to_onnx.py", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
