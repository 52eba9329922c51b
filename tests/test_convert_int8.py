"""The INT8 ONNX file: equal to PyTorch, really of its opset, integers throughout, refused where it falls short."""

import importlib
import json
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import convert_int8_pytorch_to_quantized_onnx
from characters.jis import etl9g_classes
from data.samples import dataset_samples
from export import int8_file, older_opset, onnx_file, qdq_graph
from inference.recognizer import Recognizer, single_thread
from quantization.files import load_quantized
from quantization.network import calibrate, convert, integer_model, prepare
from script_runs import run_script
from structure.codes import symbols_of
from tiny_models import CLASSES, TINY, save_int8, some_images, tiny_model
from train_hiercode import HierCode, HierCodeConfig

SCRIPT = Path(convert_int8_pytorch_to_quantized_onnx.__file__)


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> dict[str, Path]:
    """An INT8 file of each architecture."""
    folder = tmp_path_factory.mktemp("int8")
    return {script: save_int8(script, folder / f"quantized_{script}_int8.pth") for script in TINY}


@pytest.mark.parametrize(
    ("script", "opset"), [*((script, 14) for script in TINY), ("train_hiercode", 17), ("train_vit", 20)]
)
def test_the_file_computes_what_pytorch_does(script, opset, int8, tmp_path):
    network, _ = load_quantized(int8[script])
    path = tmp_path / "model.onnx"
    qdq_graph.write(network, path, opset)
    assert onnx_file.opset_of(onnx.load(path)) == opset
    assert int8_file.left_in_float(path) == []
    session = single_thread(path)
    for size in (1, 3, 40):
        images = some_images(size, seed=size)
        expected = network(images).numpy()
        logits = session.run(["logits"], {"input_image": images.numpy()})[0]
        assert float(np.abs(logits - expected).mean()) < 0.01 * float(expected.std())
    graph = onnx.load(path).graph
    kinds = {constant.data_type for constant in graph.initializer if np.prod(constant.dims) > 700}
    assert kinds <= {TensorProto.INT8} | ({TensorProto.FLOAT} if script == "train_vit" else set())  # its positions
    assert not any(node.domain for node in graph.node)


def test_a_file_is_proved_and_described(int8, tiny_dataset, monkeypatch):
    monkeypatch.setattr(int8_file, "BATCHES", {1: 3, 64: 1})
    data = tiny_dataset(samples_per_set=8)
    report = int8_file.convert(int8["train_hiercode"], None, data, opset=14, compare=20)
    path = int8["train_hiercode"].with_name("train_hiercode_int8_quantized_quantized_int8_onnx_opset14.onnx")
    assert str(path) in report
    assert "times as fast" in report
    recognizer = Recognizer(path)
    assert recognizer.classes == CLASSES
    facts = recognizer.facts
    assert (facts["script"], facts["source"]) == ("train_hiercode", "test shapes")
    assert json.loads(facts["config"])["dimensions"] == 32
    assert json.loads(facts["quantization"]) == {"how": "calibration"}
    samples = dataset_samples(data, "test", {})
    logits = recognizer.logits(samples.images(np.arange(len(samples.characters))))
    right = np.array(list(CLASSES))[logits.argmax(1)] == samples.characters
    assert json.loads(facts["metrics"]) == {"test_top1": 100 * right.mean(), "test_samples": 40}


@pytest.mark.parametrize(
    ("classes", "stored"), [("あい一人語晴", True), (etl9g_classes()[500:1500], True), (etl9g_classes(), False)]
)
def test_prototypes_are_stored_where_they_are_smaller_than_codes(classes, stored, tmp_path):
    settings = {"width": 0.25, "dimensions": 128}
    model = HierCode(HierCodeConfig(**settings), classes).eval()
    network = prepare(model)
    calibrate(network, [some_images()])
    network, path = convert(network), tmp_path / "int8.onnx"
    qdq_graph.write(network, path, 14)
    constants = [list(constant.dims) for constant in onnx.load(path).graph.initializer]
    assert ([len(classes), 128] in constants) == stored
    assert ([len(symbols_of(classes)), 128] in constants) != stored  # the components' vectors
    assert int8_file.left_in_float(path) == []
    assert path.stat().st_size < int8_file.size_limit(model, classes)
    images = some_images(30, seed=1)
    with torch.no_grad():
        expected = network(images).numpy()
    logits = single_thread(path).run(["logits"], {"input_image": images.numpy()})[0]
    assert float(np.abs(logits - expected).mean()) < 0.01 * float(expected.std())


@pytest.mark.parametrize("script", TINY)
def test_the_size_limit_leaves_room_for_integers_but_not_for_floats(script, tmp_path):
    """Of a model so wide that its weights outweigh its graph."""
    wide = {name: 4 * value for name, value in TINY[script].items() if name != "depth"}
    architecture = importlib.import_module(script).ARCHITECTURE
    model = architecture.model(architecture.config(**wide), CLASSES).eval()
    qdq_graph.write(integer_model(model), tmp_path / "int8.onnx", 14)
    limit = int8_file.size_limit(model, CLASSES)
    assert 0.8 * limit < (tmp_path / "int8.onnx").stat().st_size + 2000 < limit  # and its metadata
    assert 4 * sum(p.numel() for p in model.parameters()) > 2.5 * limit


def test_what_falls_short_is_refused(int8, tiny_dataset, tmp_path, monkeypatch):
    """A file that is too large, one of another model, and a float one."""
    call = (int8["train_etl9g_model"], tmp_path / "never.onnx", tiny_dataset(), 18, 20)
    another, in_float = load_quantized(int8["train_vit"])[0], tiny_model("train_etl9g_model")[0]
    with monkeypatch.context() as patch, pytest.raises(onnx_file.ConversionError, match=r"0\.0\d\d MB, more than 0\.0"):
        patch.setattr(int8_file, "size_limit", lambda model, classes: 10_000)
        int8_file.convert(*call)
    with monkeypatch.context() as patch, pytest.raises(onnx_file.ConversionError, match="top-1 agrees with PyTorch on"):
        patch.setattr(int8_file, "write", lambda network, *where: qdq_graph.write(another, *where))
        int8_file.convert(*call)
    with monkeypatch.context() as patch, pytest.raises(onnx_file.ConversionError, match="left in float: Conv"):
        patch.setattr(int8_file, "write", lambda network, *where: onnx_file.export(in_float, *where))
        int8_file.convert(*call)
    assert not list(tmp_path.iterdir())


def test_a_rounding_step_decides_between_classes_that_are_as_likely(int8, tiny_dataset, tmp_path, monkeypatch):
    """The second of PyTorch's choices, chosen by the file on one image of twenty, is wrong unless it is as near."""
    exported, network = int8_file.onnx_network, load_quantized(int8["train_etl9g_model"])[0]
    samples, rows = dataset_samples(tiny_dataset(), "test", {}), np.arange(20)
    with torch.inference_mode():
        best = network(torch.from_numpy(samples.images(rows))).topk(2)
    margin, second = float(best.values[0, 0] - best.values[0, 1]), int(best.indices[0, 1])

    def other_on_first(path):
        def logits(images):
            made = exported(path)(images).clone()
            made[0, second] += 2 * margin + 1e-3
            return made

        return logits

    onnx_path = tmp_path / "made.onnx"
    qdq_graph.write(network, onnx_path, 14)
    assert int8_file.agreement_of(network, onnx_path, samples, rows)[0] == 100
    monkeypatch.setattr(int8_file, "onnx_network", other_on_first)
    for tie, agrees in ((margin + 1e-4, 100), (margin - 1e-4, 95)):
        monkeypatch.setattr(int8_file, "TIE", tie)
        assert int8_file.agreement_of(network, onnx_path, samples, rows)[0] == pytest.approx(agrees)


def no_room():
    return mock.patch.object(int8_file, "size_limit", lambda model, classes: 10_000)


def test_the_script_ends_with_one_line_where_it_fails(int8, tiny_dataset, tmp_path):
    flags = ["--data-dir", tiny_dataset(), "--compare", 4]
    calls = [
        (["--model-path", int8["train_etl9g_model"], *flags, "--output", "never.onnx"], 1, "was not converted"),
        (["--model-path", "missing.pth", *flags], 2, "missing.pth is missing"),
        (["--model-path", int8["train_etl9g_model"], "--opset", 13], 2, "--opset"),
    ]
    for call, code, words in calls:
        done = run_script(SCRIPT, *call, cwd=tmp_path, within=no_room)
        assert done.returncode == code, done.stderr
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_operator_without_an_older_form_is_refused():
    text = """<ir_version: 8, opset_import: ["" : 18]> small (float[n, m] x) => (float[k, l] y)
        <float[2] scales = {1, 1}> { y = Resize (x, , scales) }"""
    with pytest.raises(onnx_file.ConversionError, match="opset 14 has no Resize"):
        older_opset.downgrade(onnx.parser.parse_model(text), 14)
