"""Probabilities with a temperature, the threshold, the calibration error, and the script that fits them."""

import json

import numpy as np
import pytest
import torch

from characters import kinds
from characters.jis import etl9g_classes
from data.samples import dataset_samples
from evaluation.calibration import area_under_curve, fitted_temperature, store
from evaluation.model import load_model
from export import any_image, onnx_file, safetensors_file
from files.command_line import InputError
from handwriting import out_of_set
from inference import confidence
from inference.confidence import Confidence, confidence_of
from inference.recognizer import Recognizer
from quantization.files import load_trained
from script_runs import run_script
from test_evaluate import CLASSES, linear_model
from tiny_models import save_float, save_int8

LOGITS = np.array([[1.0, 3.0, 2.0], [-4.0, 0.0, 0.5]])


@pytest.mark.parametrize("temperature", [1, 0.5, 3])
def test_probabilities_are_pytorchs(temperature):
    scaled = torch.from_numpy(LOGITS) / temperature
    np.testing.assert_allclose(confidence.probabilities(LOGITS, temperature), scaled.softmax(1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(Confidence(temperature).probabilities(LOGITS), scaled.softmax(1).numpy(), rtol=1e-12)
    assert np.isfinite(confidence.probabilities(np.array([[1e4, -1e4]]), 0.01)).all()


def test_what_lies_below_the_threshold_is_unknown():
    np.testing.assert_allclose(confidence.lead(LOGITS), [1, 0.5 + 3.5 / 3])
    assert Confidence(threshold=1.1).known(LOGITS).tolist() == [False, True]
    assert Confidence().known(LOGITS - 1e6).tolist() == [True, True]


def test_what_a_file_says_is_read_or_refused():
    assert confidence_of(None, "file") == confidence_of("", "file") == confidence_of({}, "file") == Confidence()
    content = {"temperature": 0.7, "score": "lead", "threshold": 1.5, "kept": 0.97}
    for given in (content, json.dumps(content)):
        assert confidence_of(given, "file") == Confidence(0.7, 1.5)
    wrong = ["{", "[1]", "[" * 100_000, '{"threshold": Infinity}', '{"score": "energy"}', '{"score": []}']
    wrong += ['{"temperature": 0}', '{"temperature": 1e-9}', '{"temperature": "1"}', '{"temperature": NaN}']
    for text in wrong:
        with pytest.raises(InputError, match="file: its confidence is damaged"):
            confidence_of(text, "file")


def test_reliability_and_its_error_by_hand():
    shares = np.array([0.95, 0.97, 1.0, 0.5, 0.52])
    bins = confidence.reliability(shares, np.array([True, True, False, True, False]))
    assert [row["samples"] for row in bins] == [2, 3]
    assert [row["right"] for row in bins] == [0.5, pytest.approx(2 / 3)]
    assert [row["probability"] for row in bins] == pytest.approx([0.51, 2.92 / 3])
    assert confidence.calibration_error(bins) == pytest.approx((2 * 0.01 + (2.92 - 2)) / 5)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_fitted(temperature):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 12)).astype(np.float32)
    draw = random.random((len(logits), 1)) < confidence.probabilities(logits, temperature).cumsum(axis=1)
    labels = draw.argmax(axis=1)
    fitted = fitted_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.04)
    for other in (0.98 * fitted, 1.02 * fitted):
        losses = [-np.log(confidence.probabilities(logits, t)[range(20_000), labels]).mean() for t in (fitted, other)]
        assert losses[0] < losses[1]
    with pytest.raises(InputError, match="no temperature fits: the model is right on all"):
        fitted_temperature(logits, logits.argmax(axis=1))


def test_area_under_the_curve_by_counting_pairs():
    inside, outside = np.array([3.0, 2.0, 2.0, 0.5]), np.array([2.0, 1.0, 0.0])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    assert area_under_curve(inside, outside) == pytest.approx(sum(pairs) / len(pairs))


def test_out_of_set_characters_are_none_of_the_classes():
    classes, level_2 = etl9g_classes(), kinds.level_2()
    assert (len(level_2), level_2[0], level_2[-1]) == (3390, "弌", "熙")
    assert set("アガン") <= set(out_of_set.characters_of("katakana", classes))
    assert not set("ロカニヘ") & set(out_of_set.characters_of("katakana", classes))
    assert set("ロカ") <= set(out_of_set.characters_of("katakana", "あ"))  # nothing there that has their shape
    assert len(out_of_set.characters_of("Latin", classes)) == 62


@pytest.mark.parametrize("kind", out_of_set.KINDS)
def test_out_of_set_samples_are_drawn_in_the_input_contract(kind):
    images, shown = out_of_set.out_of_set_samples(kind, CLASSES, 12, seed=3)
    assert (images.shape, images.dtype) == ((12, 1, 64, 64), np.float32)
    assert 0 <= images.min() <= images.max() <= 1
    inked = images.any(axis=(1, 2, 3))
    assert inked.sum() <= 4 if kind == "blank" else kind == "grain" or inked.all()
    assert all(shown) == (kind in out_of_set.KINDS[:3])
    assert (out_of_set.out_of_set_samples(kind, CLASSES, 12, seed=3)[0] == images).all()


def test_the_script_fits_reports_and_writes_into_an_onnx_file(tiny_dataset, tmp_path):
    data = tiny_dataset(CLASSES, samples_per_set=40)
    samples = dataset_samples(data, "train", {})
    images = samples.images(np.arange(len(samples.characters)))[:, 0]
    means = np.stack([images[samples.characters == char].mean(axis=0) for char in CLASSES])
    # The likeness to the mean sample of each class is right on most of them.
    model = linear_model(tmp_path / "likeness.onnx", 0.005 * (means - means.mean(axis=0)), CLASSES)
    before = model.read_bytes()
    options = ("--model", model, "--data-dir", data, "--kept", "0.9", "--out-of-set", "20")
    done = run_script("calibrate_confidence", *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert model.read_bytes() == before
    again = run_script("calibrate_confidence", *options)
    assert again.stdout == f"{done.stdout}\nwritten into {model}\n"
    for word in ("largest logit", "katakana", "scribbles", "AUROC", "200 samples of the validation split"):
        assert word in done.stdout
    written = Recognizer(model)
    content = json.loads(written.facts["confidence"])
    assert written.confidence.temperature == content["temperature"]
    assert content["calibration_error"]["after"] < content["calibration_error"]["before"]
    samples = dataset_samples(data, "validation", {})
    known = written.confidence.known(written.logits(samples.images(np.arange(len(samples.characters)))))
    assert known.mean() == pytest.approx(0.9, abs=0.01)
    assert written.classes == CLASSES  # what else it said, it still says


FACTS = {"temperature": 0.5, "threshold": 1.25, "kept": 0.97}


def test_exports_carry_it_and_an_int8_file_has_its_own(tmp_path):
    checkpoint = save_float("train_hiercode", tmp_path / "hiercode_model_best.pth")
    safetensors_file.convert(checkpoint, tmp_path / "own.safetensors")
    int8 = save_int8("train_hiercode", tmp_path / "quantized_hiercode_int8.pth")
    for path in (checkpoint, tmp_path / "own.safetensors", int8):
        assert load_model(path).confidence == Confidence()
        weights = load_trained(path)[0].state_dict()
        store(path, FACTS)
        network, facts = load_trained(path)
        assert facts["confidence"] == FACTS
        assert all(value.equal(weights[name]) for name, value in network.state_dict().items())
    onnx_file.convert(checkpoint, tmp_path / "out.onnx", None)
    safetensors_file.convert(checkpoint, tmp_path / "out.safetensors")
    for path in tmp_path.iterdir():
        assert load_model(path).confidence == Confidence(0.5, 1.25), path


def test_a_file_for_any_image_divides_by_the_temperature(tmp_path, monkeypatch):
    monkeypatch.setattr(any_image, "COMPARED", 60)
    path = save_float("train_hiercode", tmp_path / "hiercode_model_best.pth")
    store(path, FACTS)
    any_image.convert_any_image(path, tmp_path / "any.onnx", None, 18, top=3)  # proves the probabilities
    assert Recognizer(tmp_path / "any.onnx").confidence == Confidence(0.5, 1.25)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model a.onnx --kept 1", "--kept"),
        ("--model damaged.onnx", "its confidence is damaged: run scripts/calibrate_confidence.py on it"),
    ],
)
def test_wrong_calls_end_with_one_line(tmp_path, words, message):
    linear_model(tmp_path / "a.onnx", np.zeros((5, 64, 64)), CLASSES)
    linear_model(tmp_path / "damaged.onnx", np.zeros((5, 64, 64)), CLASSES, confidence="{")
    done = run_script("calibrate_confidence", *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
