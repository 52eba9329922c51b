"""The INT8 ONNX file: equal to PyTorch, really of its opset, integers throughout, refused where it falls short."""

import importlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import convert_int8_pytorch_to_quantized_onnx
from data.samples import dataset_samples
from export import int8_file, older_opset, onnx_file, qdq_graph
from inference.recognizer import Recognizer, single_thread
from quantization.files import load_quantized
from quantization.network import integer_model
from script_runs import run_script
from tiny_models import CLASSES, TINY, save_int8, some_images, tiny_model

SCRIPT = Path(convert_int8_pytorch_to_quantized_onnx.__file__)


def opset_of(path: Path) -> int:
    return next(entry.version for entry in onnx.load(path).opset_import if entry.domain in {"", "ai.onnx"})


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> dict[str, Path]:
    """An INT8 file of each architecture."""
    folder = tmp_path_factory.mktemp("int8")
    return {script: save_int8(script, folder / f"quantized_{script}_int8.pth") for script in TINY}


@pytest.mark.parametrize(("script", "opset"), [*((script, 14) for script in TINY), ("train_vit", 20)])
def test_the_file_computes_what_pytorch_does(script, opset, int8, tmp_path):
    network, _ = load_quantized(int8[script])
    path = tmp_path / "model.onnx"
    qdq_graph.write(network, path, opset)
    assert opset_of(path) == opset
    assert int8_file.left_in_float(path) == []
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for size in (1, 3, 40):
        images = some_images(size, seed=size)
        expected = network(images).numpy()
        logits = session.run(["logits"], {"input_image": images.numpy()})[0]
        assert float(np.abs(logits - expected).mean()) < 0.01 * float(expected.std())
    graph = onnx.load(path).graph
    kinds = {constant.data_type for constant in graph.initializer if np.prod(constant.dims) > 700}
    assert kinds <= {TensorProto.INT8} | ({TensorProto.FLOAT} if script == "train_vit" else set())  # its positions
    assert not any(node.domain for node in graph.node)


def test_what_stays_in_float_is_noticed(tmp_path):
    model, _ = tiny_model("train_etl9g_model")
    onnx_file.export(model, tmp_path / "float.onnx", 18)
    left = int8_file.left_in_float(tmp_path / "float.onnx")
    assert len([name for name in left if "Conv" in name]) == 7
    assert len(left) == 9


def convert(path: Path, data: Path, output: Path | None = None, opset: int = 14, **limits) -> str:
    return int8_file.convert(path, output, data, opset, compared=20, tested=40, **limits)


def test_a_file_is_proved_and_described(int8, tiny_dataset, monkeypatch):
    monkeypatch.setattr(int8_file, "BATCHES", {1: 3, 64: 1})
    data = tiny_dataset(samples_per_set=8)
    report = convert(int8["train_hiercode"], data)
    path = int8["train_hiercode"].with_name("train_hiercode_int8_quantized_quantized_int8_onnx_opset14.onnx")
    assert str(path) in report
    assert "times as fast" in report
    assert opset_of(path) == 14
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


@pytest.mark.parametrize("script", TINY)
def test_the_size_limit_leaves_room_for_integers_but_not_for_floats(script, tmp_path):
    """Of a model so wide that its weights outweigh its graph."""
    wide = {name: 4 * value for name, value in TINY[script].items() if name != "depth"}
    architecture = importlib.import_module(script).ARCHITECTURE
    model = architecture.model(architecture.config(**wide), CLASSES).eval()
    qdq_graph.write(integer_model(model), tmp_path / "int8.onnx", 14)
    onnx_file.export(model, tmp_path / "float.onnx", 18)
    limit = int8_file.size_limit(model, CLASSES)
    assert 0.8 * limit < (tmp_path / "int8.onnx").stat().st_size + 2000 < limit  # and its metadata
    assert (tmp_path / "float.onnx").stat().st_size > 2.5 * limit


def test_what_falls_short_is_refused(int8, tiny_dataset, tmp_path, monkeypatch):
    """Size alone; and a float file of other weights that is taken for the INT8 one."""
    data, never = tiny_dataset(), tmp_path / "never.onnx"
    path = int8["train_etl9g_model"]
    monkeypatch.setattr(int8_file, "BATCHES", {1: 3})
    with pytest.raises(onnx_file.ConversionError, match=r"not converted: 0\.0\d\d MB, more than 0\.001 MB"):
        convert(path, data, never, most_bytes=1000)

    def write_another(network, path, opset):
        onnx_file.export(tiny_model("train_etl9g_model", seed=5)[0], path, 18)

    monkeypatch.setattr(int8_file, "write", write_another)
    with pytest.raises(onnx_file.ConversionError, match=r"opset 18, not 20; left in float: Conv.*agrees with"):
        convert(path, data, never, opset=20)
    assert not list(tmp_path.iterdir())


def test_the_script_ends_with_one_line_where_it_fails(int8, tiny_dataset, tmp_path):
    flags = ["--data-dir", tiny_dataset(), "--compare", 4, "--test-samples", 4, "--most-megabytes", 0.001]
    calls = [
        (["--model-path", int8["train_etl9g_model"], *flags, "--output", "never.onnx"], 1, "was not converted"),
        (["--model-path", "missing.pth", *flags], 2, "missing.pth is missing"),
        (["--model-path", int8["train_etl9g_model"], "--opset", 13], 2, "--opset"),
    ]
    for call, code, words in calls:
        done = run_script(SCRIPT, *call, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def small_model(nodes: list, constants: dict[str, np.ndarray], ranks: tuple[int, int]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * k) for n, k in zip("xy", ranks, strict=True)]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_an_older_opset_computes_the_same():
    """LayerNormalization, reductions and a part of a shape: the operators that changed since."""
    random = np.random.default_rng(0)
    gain, shift = random.normal(size=(2, 8)).astype(np.float32)
    constants = {"gain": gain, "shift": shift, "axis": np.array([1], np.int64), "rest": np.array([-1], np.int64)}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["normal"], axis=-1, epsilon=1e-3),
        helper.make_node("ReduceMax", ["normal", "axis"], ["most"], keepdims=0),
        helper.make_node("ReduceL2", ["normal", "axis"], ["length"], keepdims=1),
        helper.make_node("Shape", ["x"], ["first"], start=0, end=1),
        helper.make_node("Concat", ["first", "rest"], ["flat"], axis=0),
        helper.make_node("Div", ["normal", "length"], ["unit"]),
        helper.make_node("Reshape", ["unit", "flat"], ["rows"]),
        helper.make_node("Concat", ["rows", "most"], ["y"], axis=1),
    ]
    model, x = small_model(nodes, constants, (3, 2)), random.normal(size=(3, 4, 8)).astype(np.float32)
    expected = single_thread(model.SerializeToString()).run(None, {"x": x})[0]
    for opset in (17, 14):
        older = older_opset.downgrade(model, opset)
        onnx.checker.check_model(older, full_check=True)
        assert older.opset_import[0].version == opset
        logits = single_thread(older.SerializeToString()).run(None, {"x": x})[0]
        np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert "LayerNormalization" not in {node.op_type for node in older.graph.node}


def test_what_an_older_opset_cannot_say_is_refused():
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")
    model = small_model([resize], {"scales": np.ones(2, np.float32)}, (2, 2))
    with pytest.raises(onnx_file.ConversionError, match="opset 14 has no Resize"):
        older_opset.downgrade(model, 14)
