"""Files for phones: each is run and compared where it can be run, and explains itself."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.calibration import store
from export import any_image, edge
from export.any_image import convert_any_image
from export.int8_file import describe_int8
from export.onnx_file import ConversionError
from export.onnx_file import convert as convert_to_onnx
from export.qdq_graph import write as write_int8
from inference.recognizer import Recognizer
from quantization.files import load_quantized, load_trained
from script_runs import run_script
from tiny_models import CLASSES, TINY, save_float, save_int8, some_images


@pytest.fixture(scope="module")
def cnn(tmp_path_factory) -> Path:
    return save_float("train_etl9g_model", tmp_path_factory.mktemp("edge") / "cnn.pth")


def test_ort_of_a_float_onnx_file_and_of_one_that_takes_pictures(cnn, monkeypatch):
    monkeypatch.setattr(any_image, "COMPARED", 60)
    plain, pictures = cnn.with_suffix(".onnx"), cnn.with_name("pictures.onnx")
    convert_to_onnx(cnn, plain, None)
    convert_any_image(plain, pictures, None, 18, 3)
    for source in (plain, pictures):
        done = run_script("convert_to_edge", "ort", "--model-path", source)
        assert (done.returncode, done.stderr) == (0, "")
        assert "equal to the original on 64 images" in done.stdout
        made = Recognizer(source.with_suffix(".ort"))
        assert (made.classes, made.facts["source"]) == (CLASSES, "test shapes")
        assert made.takes_pictures == (source is pictures)
    images = some_images(4).numpy()
    made, original = Recognizer(plain.with_suffix(".ort")), load_trained(cnn)[0]
    with torch.inference_mode():
        assert np.allclose(made.logits(images), original(torch.from_numpy(images)).numpy(), atol=1e-4)
    assert not list(cnn.parent.glob(".*"))


def test_ort_of_an_int8_model(tmp_path):
    network, facts = load_quantized(save_int8("train_hiercode", tmp_path / "quantized_hiercode_int8.pth"))
    write_int8(network, tmp_path / "int8.onnx", 14)
    describe_int8(tmp_path / "int8.onnx", facts, {})
    assert "equal" in edge.convert("ort", tmp_path / "int8.onnx", tmp_path / "int8.ort", None)


def test_a_file_with_other_logits_gets_no_name(cnn, tmp_path, monkeypatch):
    plain, true = tmp_path / "model.onnx", Recognizer.logits
    convert_to_onnx(cnn, plain, None)
    monkeypatch.setattr(Recognizer, "logits", lambda self, x: true(self, x) + ("model.ort" in str(self.path)) * 0.1)
    with pytest.raises(ConversionError, match=r"logits differ by 0\.1"):
        edge.convert("ort", plain, tmp_path / "made.ort", None)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


SLOW = ("train_radical_rnn", "train_vit")  # the LSTM, unrolled, takes as long as all the others


@pytest.mark.parametrize("script", [pytest.param(s, marks=[pytest.mark.long] if s in SLOW else []) for s in TINY])
def test_executorch(script, tmp_path):
    pytest.importorskip("executorch", reason="requirements-edge.txt is not installed")
    from executorch.runtime import Runtime

    path, image = save_float(script, tmp_path / "model.pth"), some_images(1)
    store(path, {"temperature": 0.5})
    assert "equal to the original on 64 images" in edge.convert("executorch", path, tmp_path / "model.pte", None)
    program = Runtime.get().load_program(tmp_path / "model.pte")
    assert program.load_method("classes").execute([]) == [CLASSES]
    assert program.load_method("confidence").execute([]) == ['{"temperature": 0.5}']
    (logits,) = program.load_method("forward").execute([image])
    with torch.inference_mode():
        assert torch.allclose(logits, load_trained(path)[0](image), atol=1e-4)


@pytest.mark.parametrize("script", TINY)
def test_coreml(script, tmp_path):
    coremltools = pytest.importorskip("coremltools", reason="requirements-edge.txt is not installed")
    output = tmp_path / "model.mlpackage"
    shutil.copytree(Path(__file__).parent, output)  # something that was there before
    line = edge.convert("coreml", save_float(script, tmp_path / "model.pth"), output, None)
    assert ("not run" in line) == (sys.platform != "darwin")
    description = coremltools.models.MLModel(str(output), skip_model_load=True).get_spec().description
    assert [feature.name for feature in (*description.input, *description.output)] == ["input_image", "logits"]
    assert description.metadata.userDefined["classes"] == CLASSES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.mlpackage", "model.pth"]
    assert not list(output.glob("*.py"))


def test_wrong_calls(cnn, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    int8 = save_int8("train_etl9g_model", tmp_path / "quantized_cnn_int8.pth")
    for kind, path, *messages in (
        ("ort", cnn, "ort takes an ONNX file"),
        ("ort", tmp_path / "none.onnx", "is missing"),
        ("ort", tmp_path / "bad.onnx", "is not an ONNX model"),
        ("executorch", int8, "is INT8", "the package executorch is missing"),
        ("coreml", int8, "is INT8", "the package coremltools is missing"),
    ):
        done = run_script("convert_to_edge", kind, "--model-path", path)
        assert done.returncode == 2
        assert any(message in done.stderr.splitlines()[-1] for message in messages)
