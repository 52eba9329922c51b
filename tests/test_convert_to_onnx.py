"""The ONNX export, with and without the normalisation: what the file says and computes; wrong files are noticed."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from characters.confusable import Confusable
from data.prepared import PreparedDataset
from engine import checkpoints
from export import any_image, onnx_file
from export.varied_pictures import borderline_pictures, grey_of, varied_pictures
from files.command_line import InputError
from files.folders import beside
from images import normalization
from images.normalization import normalize
from inference.confidence import Confidence, lead
from inference.readings import read
from inference.recognizer import RELEASED, Recognizer
from quantization.files import load_trained
from script_runs import run_script
from tiny_models import CLASSES, tiny_model

SCRIPTS = Path(__file__).parents[1] / "scripts"
PICTURES = 60  # of 1,000; the borderline ones are among them
DRAWINGS = list(varied_pictures(CLASSES, PICTURES))[len(borderline_pictures()) :]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> Path:
    """A tiny CNN, saved as training saves it."""
    model, facts = tiny_model("train_etl9g_model")
    facts["config"] |= {"data_dir": "/home/a/dataset", "teacher": "/home/a/b.pth"}
    path = tmp_path_factory.mktemp("models") / "best_kanji_model.pth"
    checkpoints.save(path, facts | {"metrics": {"validation_top1": 12.5}, "model": model.state_dict()})
    return path


@pytest.fixture(scope="module")
def exported(model_path) -> Path:
    output = onnx_file.default_output(model_path)
    onnx_file.convert(model_path, output, None)
    return output


def test_name_opset_and_metadata(exported):
    assert exported.name == "kanji_model.onnx"
    assert onnx_file.opset_of(onnx.load(exported)) == onnx_file.DEFAULT_OPSET
    facts = onnxruntime.InferenceSession(str(exported)).get_modelmeta().custom_metadata_map
    assert (facts["classes"], facts["source"]) == (CLASSES, "test shapes")
    assert json.loads(facts["metrics"])["validation_top1"] == 12.5
    assert json.loads(facts["config"])["width"] == 0.25
    assert "/home" not in facts["config"]
    assert not list(exported.parent.glob(".*"))  # nothing half-written stays
    assert str(SCRIPTS.parent).encode() not in exported.read_bytes()  # as in the exporter's notes on every node


def test_a_file_that_differs_from_pytorch_is_refused_and_leaves_no_file(model_path, tmp_path, monkeypatch):
    def export_another(model, path, opset, true_export=onnx_file.export):
        another = copy.deepcopy(model)
        another.classify[1].bias.data[2] += 0.01
        true_export(another, path, opset)

    monkeypatch.setattr(onnx_file, "export", export_another)
    with pytest.raises(OSError, match="was not converted: the file's logits differ"):  # one line, exit code 1
        onnx_file.convert(model_path, tmp_path / "never.onnx", None)
    assert not list(tmp_path.iterdir())


def test_a_model_of_a_random_split_is_proved_on_its_own_test_samples(tiny_dataset, tmp_path):
    data = tiny_dataset(sets=2)  # which cannot be split by writer
    settings = {"split": "random", "seed": 3}
    images = onnx_file.probe_images(data, 64, settings)
    dataset = PreparedDataset(data, **settings)
    wanted = {image.numpy().tobytes() for image in dataset.images(dataset.splits["test"].positions)}
    assert {(255 * image).round().byte().numpy().tobytes() for image in images} == wanted


def test_what_is_made_of_a_released_model_does_not_take_its_place():
    released = SCRIPTS.parent / "models/released"
    output = onnx_file.default_output(released / "hiercode_model_best.safetensors")
    assert output == released.parent / "hiercode_model_best.onnx"
    assert onnx_file.default_output(Path("here/x.pth")) == Path("here/x.onnx")
    (taken,) = released.parent.glob("*.onnx")
    assert beside(taken.with_name("quantized_hiercode_int8.pth"), taken.name) == taken.with_name(f"my_{taken.name}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing.pth", "missing.pth is missing"),
        ("text.pth", "is not a checkpoint"),
        ("text.pth --opset 5", "--opset"),
        ("text.pth --any-image --opset 17", "--opset 18"),
        ("text.pth --top 5", "--any-image"),
        ("text.pth --any-image --top 0", "at least 1"),
        ("text.pth --output ./text.pth", "is the model itself"),
        ("text.onnx", "--any-image"),
        ("text.onnx --any-image", "is not an ONNX model"),
        ("text.onnx --any-image --opset 20", "no --opset, no --data-dir"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, arguments, message):
    for name in ("text.pth", "text.onnx"):
        (tmp_path / name).write_text("no model")
    result = run_script("convert_to_onnx", "--model-path", *arguments.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module", autouse=True)
def fewer_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(any_image, "COMPARED", PICTURES)
        yield


@pytest.fixture(scope="module")
def complete(model_path) -> Path:
    """The tiny CNN with the normalisation inside, as the script makes it."""
    output = onnx_file.default_output(model_path, any_image=True)
    line = any_image.convert_any_image(model_path, output, None, onnx_file.DEFAULT_OPSET, top=3)
    assert f"{PICTURES} of {PICTURES} varied pictures" in line
    return output


def test_a_file_for_any_image_says_what_it_takes_and_gives(complete):
    assert complete.name == "kanji_model_any_image.onnx"
    session = onnxruntime.InferenceSession(str(complete))
    taken = [(given.name, given.type, given.shape) for given in session.get_inputs()]
    assert taken == [("image", "tensor(uint8)", ["pictures", "height", "width", "channels"])]
    made = [(output.name, output.type, output.shape[1]) for output in session.get_outputs()[:3]]
    assert made[:2] == [("probabilities", "tensor(float)", 3), ("classes", "tensor(int64)", 3)]
    assert made[2:] == [("logits", "tensor(float)", len(CLASSES))]
    known = session.get_outputs()[3]
    assert (known.name, known.type, known.shape) == ("known", "tensor(bool)", ["pictures"])
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["classes"], facts["source"]) == (CLASSES, "test shapes")
    assert "uint8 (N, H, W, C)" in facts["input"]
    assert "(N, 3)" in facts["outputs"]


def test_it_reads_as_pytorch_after_normalization(model_path, complete):
    model, _ = load_trained(model_path)
    session = onnxruntime.InferenceSession(str(complete))
    blank = [np.full(shape, 200, np.uint8) for shape in ((1, 1, 1), (60, 90, 3), (300, 20, 4))]
    for picture in [*DRAWINGS, *blank]:
        image = normalize(grey_of(picture))
        with torch.no_grad():
            expected = model(torch.from_numpy(image)[None]).numpy() * image.any()
        shares, classes, logits, known = session.run(None, {"image": picture[None]})
        np.testing.assert_allclose(logits, expected, atol=1e-3)
        best, order = torch.from_numpy(logits).softmax(1).topk(3)
        np.testing.assert_allclose(shares, best.numpy(), atol=1e-6)
        np.testing.assert_array_equal(classes, order.numpy() if image.any() else [[0, 1, 2]])
        assert known.tolist() == [image.any()]  # its file has no threshold


def test_it_knows_what_is_none_of_the_classes_as_the_models_file_says(exported, tmp_path):
    logits = Recognizer(exported).picture_logits([grey_of(picture) for picture in DRAWINGS])
    threshold = float(np.median(lead(logits)))  # half of the drawings are none of them
    model = onnx.load(exported)
    confidence = {"temperature": 0.5, "threshold": threshold + 1e-6}
    model.metadata_props.add(key="confidence", value=json.dumps(confidence))
    onnx.save(model, tmp_path / "sure.onnx")
    any_image.convert_any_image(tmp_path / "sure.onnx", tmp_path / "any.onnx", None, 18, top=3)
    session = onnxruntime.InferenceSession(str(tmp_path / "any.onnx"))
    known = [session.run(["known"], {"image": picture[None]})[0][0] for picture in DRAWINGS]
    assert known == Confidence(**confidence).known(logits).tolist()
    assert {*known} == {True, False}


def test_a_quantised_file_of_an_older_opset_can_be_wrapped(tmp_path):
    output = tmp_path / "int8_any_image.onnx"
    any_image.convert_any_image(RELEASED, output, None, 18, top=5000)
    made, original = onnx.load(output), onnx.load(RELEASED)
    assert (onnx_file.opset_of(original), onnx_file.opset_of(made)) == (14, 18)
    integers = [tensor for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(tensor.dims) for tensor in integers) > 5e5  # its weights are still INT8
    facts, expected = ({entry.key: entry.value for entry in file.metadata_props} for file in (made, original))
    assert expected.items() < facts.items()
    assert Recognizer(output).session.get_outputs()[0].shape[1] == len(facts["classes"])  # fewer than the top 5,000
    with pytest.raises(InputError, match="already"):
        any_image.convert_any_image(output, tmp_path / "twice.onnx", None, 18, top=10)


@pytest.mark.parametrize(("name", "value"), [("INK", 0.6), ("WORKING_SIDE", 200), ("NOISE", 12), ("CONTENT", 50)])
def test_a_normalisation_that_differs_is_noticed(exported, tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(normalization, name, value)
    with pytest.raises(onnx_file.ConversionError, match="was not converted"):
        any_image.convert_any_image(exported, tmp_path / "never.onnx", None, 18, top=3)
    assert not list(tmp_path.iterdir())


def broken(complete: Path, path: Path, what: str) -> Path:
    """The file with one thing in it broken."""
    model = onnx.load(complete)
    nodes = {node.op_type: node for node in model.graph.node if not node.name.startswith("model/")}  # the last of each
    if what == "top":  # the least likely instead of the likeliest
        nodes["TopK"].attribute.append(onnx.helper.make_attribute("largest", 0))
    elif what == "blank":  # the logits of a picture without ink as they come
        gate = next(node for node in model.graph.node if "logits" in node.output)
        gate.op_type, gate.input[:] = "Identity", [gate.input[1]]
    else:
        bias = next(t for t in model.graph.initializer if t.name.startswith("model/") and t.dims == [len(CLASSES)])
        values = onnx.numpy_helper.to_array(bias) + np.float32([10, 0, 0, 0, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [("top", "do not fit the logits"), ("blank", "without ink is read as something"), ("weights", "read as with")],
)
def test_a_file_that_reads_otherwise_is_noticed(exported, complete, tmp_path, what, message):
    with pytest.raises(onnx_file.ConversionError, match=message):
        any_image.prove(broken(complete, tmp_path / "broken.onnx", what), exported)


def test_recognize_takes_either_file(exported, complete):
    pictures = [grey_of(picture).astype(np.float32) for picture in varied_pictures(CLASSES, PICTURES)]
    readings = (read(Recognizer(file), pictures, 3, Confusable()) for file in (exported, complete))
    expected, whole = ([reading.top for reading in by_file] for by_file in readings)
    assert [[character for character, _ in top] for top in whole] == [[c for c, _ in top] for top in expected]
    assert [] in whole  # what has no ink
    np.testing.assert_allclose([p for top in whole for _, p in top], [p for top in expected for _, p in top], atol=1e-3)
    with pytest.raises(InputError, match="takes pictures"):
        Recognizer(complete).logits(np.zeros((1, 1, 64, 64), np.float32))
