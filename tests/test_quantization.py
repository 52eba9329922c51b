"""INT8: rounding, folding, ranges; integers compute what floats did; calibration from the command line, its cost."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

import quantize_model
from data.prepared import PreparedDataset
from data.samples import Samples, dataset_samples
from engine import checkpoints, training
from files.command_line import InputError, run
from inference.recognizer import single_thread
from quantization import loss
from quantization.files import load_quantized
from quantization.loss import accuracy_table, lookalikes, measure, predictions
from quantization.making import calibration_images, quantize
from quantization.network import calibrate, convert, prepare
from quantization.rounding import LARGEST_ACTIVATION, LARGEST_WEIGHT, Activation, Convolution, Observer, Weight
from script_runs import run_script
from tiny_models import CLASSES, TINY, save_float, save_int8, some_images, tiny_model
from train_etl9g_model import ARCHITECTURE, CNNConfig


def test_rows_are_rounded_by_hand():
    weight = Weight(torch.tensor([[1.28, -1.0, 0.011], [0.0, 0.0, 0.0], [-0.064, 0.0318, 0.0]]))
    rounded = weight.integers()
    assert rounded.scale.tolist() == pytest.approx([0.02, 1e-9, 0.001])
    assert rounded.integers.tolist() == [[64, -50, 1], [0, 0, 0], [-64, 32, 0]]
    torch.testing.assert_close(rounded()[0], torch.tensor([1.28, -1.0, 0.02]))
    torch.testing.assert_close(weight(), rounded())
    # Processors without VNNI add two products in 16 bits; with weights up to 127 one answer in 26 was another there.
    assert 2 * LARGEST_WEIGHT * LARGEST_ACTIVATION < 2**15


def test_activations_are_rounded_as_onnxruntime_rounds_them():
    scale, zero_point = 0.037, 101
    x = torch.cat([torch.linspace(-6, 9, 4001), scale * (torch.arange(-110, 170) + 0.5)])
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 14]>
        rounding (float[n] x) => (float[n] y) <float scale = {{{scale}}}, uint8 zero = {{{zero_point}}}> {{
            q = QuantizeLinear (x, scale, zero)
            y = DequantizeLinear (q, scale, zero)
        }}""")
    activation = Activation()
    activation.scale, activation.zero_point = torch.tensor(scale), torch.tensor(zero_point)
    expected = single_thread(model.SerializeToString()).run(None, {"x": x.numpy()})[0]
    np.testing.assert_array_equal(activation.integers()(x).numpy(), expected)


def test_zero_is_a_step_of_every_range():
    activation = Activation()
    for low, high in ((-1.0, 3.0), (0.0, 0.7), (-5.0, 0.0), (-0.001, 2000.0)):
        activation.set_range(low, high)
        assert 0 <= int(activation.zero_point) <= 255
        assert activation(torch.zeros(3)).tolist() == [0, 0, 0]
        rounded = activation(torch.linspace(low, high, 999))
        assert len(rounded.unique()) in range(250, 257)
        assert float((rounded - torch.linspace(low, high, 999)).abs().max()) <= 1.01 * float(activation.scale)


def test_a_range_gives_up_what_is_rare():
    """One value of a million is far out: the least squared error is had by cutting it off, but not the others."""

    def best_range(values: torch.Tensor) -> tuple[float, float]:
        observer = Observer()
        observer.add(values)
        observer.settle()
        observer.add(values)
        return observer.best_range()

    low, high = best_range(torch.cat([torch.rand(1_000_000), torch.tensor([2.0])]))
    assert low == 0
    assert 0.95 < high < 1.1
    assert best_range(torch.zeros(5)) == (0.0, 1.0)


@pytest.mark.parametrize("script", TINY)
def test_integers_compute_what_floats_did(script):
    model, _ = tiny_model(script)
    images = some_images()
    network = prepare(model)
    assert not any(isinstance(m, nn.Conv2d | nn.Linear | nn.LSTM) for m in network.modules())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == (script == "train_radical_rnn")  # it follows a sum; the others are folded
    calibrate(network, [images[:16], images[16:]])
    integer = convert(network)
    with torch.no_grad():
        expected, rounded, integers = model(images), network(images), integer(images)
    spread = float(expected.std())
    assert float((rounded - expected).abs().mean()) < 0.1 * spread
    assert float((integers - rounded).abs().mean()) < 0.03 * spread
    assert float((integers - expected).abs().max()) > 0  # it does round
    state = integer.state_dict()
    floats = [name for name, value in state.items() if value.is_floating_point() and value.numel() > 300]
    assert all("position" in name or name.endswith(".scale") for name in floats), floats
    eight = [v for v in state.values() if v.dtype == torch.int8 and v.ndim > 1]
    assert max(int(v.abs().max()) for v in eight[1:]) == LARGEST_WEIGHT
    assert min(int(v.min()) for v in eight) >= -LARGEST_WEIGHT


@pytest.mark.parametrize("script", TINY)
def test_every_parameter_of_a_prepared_model_gets_a_gradient(script):
    model, _ = tiny_model(script)
    network = prepare(model)
    nn.functional.cross_entropy(network(some_images(8)), torch.arange(8) % 5).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert not network.training


def test_a_convolution_s_output_is_rounded_once_and_images_exactly():
    """The map that the LSTM and a matrix both read has one range; an image's 256 greys are steps of its own."""
    network = prepare(tiny_model("train_radical_rnn")[0])
    ranges = {n: m for n, m in network.named_modules() if isinstance(m, Activation)}
    used = [node.target for node in network.graph.nodes if node.target in ranges]
    assert used.count("features_6_2_range") == 2  # after the convolution, and once more, flat, before the matrix
    assert len([name for name in ranges if name.startswith("features")]) == 7
    greys = torch.arange(256) / 255
    calibrate(network, [0.5 * some_images(4)])
    torch.testing.assert_close(ranges["images_range"](greys), greys)


def test_a_large_bias_has_room():
    layer = Convolution(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        layer.weight.value.zero_()
        layer.bias.value.copy_(torch.tensor([0.75, -3.0]))
        layer.convert(torch.tensor(1 / 255))
    torch.testing.assert_close(layer.bias(), torch.tensor([0.75, -3.0]))


@pytest.mark.parametrize("script", TINY)
def test_a_file_comes_back_as_it_was(script, tmp_path):
    path = save_int8(script, tmp_path / "quantized_x_int8.pth")
    assert torch.load(path, weights_only=True)["quantization"] == {"how": "calibration"}
    network = prepare(tiny_model(script)[0])
    calibrate(network, [some_images()])
    images = some_images(5, seed=2)
    loaded, facts = load_quantized(path)
    assert torch.equal(loaded(images), convert(network)(images))
    assert (facts["script"], facts["classes"]) == (script, CLASSES)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_float("train_etl9g_model", folder / "float.pth")
    save_int8("train_etl9g_model", folder / "int8.pth")
    return folder


def test_files_of_other_kinds_are_refused(models, tmp_path):
    with pytest.raises(InputError, match=re.escape("scripts/quantize_model.py")):
        load_quantized(models / "float.pth")
    checkpoints.save(tmp_path / "torn.pth", checkpoints.load(models / "int8.pth") | {"model": {}})
    with pytest.raises(InputError, match="do not fit"):
        load_quantized(tmp_path / "torn.pth")


def test_calibration_sees_every_class_as_often(tiny_dataset):
    dataset = PreparedDataset(tiny_dataset(samples_per_set=8))
    split = dataset.splits["train"]
    images = [image.numpy().tobytes() for image in dataset.images(split.positions)]
    label_of = dict(zip(images, split.labels.tolist(), strict=True))

    chosen = (255 * torch.cat(calibration_images(dataset, 20))).round().to(torch.uint8)
    assert sorted(label_of[image.numpy().tobytes()] for image in chosen) == [k for k in range(5) for _ in range(4)]


def test_lookalikes_and_losses_by_hand(monkeypatch):
    def answers(labels: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda images: torch.eye(len(CLASSES))[[CLASSES.index(labels[int(i)]) for i in images[:, 0]]]

    samples = Samples(np.array(list("ああいいうう亜亜腕腕")), lambda rows: rows[:, None], {}, list)
    network, better = answers("あいあいうう亜腕腕腕"), answers("ああいいうあ亜亜腕腕")
    monkeypatch.setattr(loss, "PAIRS", 1)
    assert lookalikes(network, CLASSES, samples) == "あい"
    monkeypatch.setattr(loss, "PAIRS", 100)
    assert lookalikes(network, CLASSES, samples) == "あい亜腕"
    figures = measure({"float": network, "int8": better}, CLASSES, samples, "あい", None)
    counts = {"samples": 10, "lookalike_samples": 4}
    float_top1 = {"float_top1": 70.0, "float_lookalike_top1": 50.0}
    assert figures == counts | float_top1 | {"int8_top1": 90.0, "int8_lookalike_top1": 100.0}
    lines = accuracy_table({"test": figures}).splitlines()
    assert "+20.00" in lines[1]
    assert lines[2].startswith("test, lookalikes")
    assert len({len(line) for line in lines}) == 1


def test_a_trained_model_becomes_int8(tiny_dataset, tmp_path):
    data = tiny_dataset(samples_per_set=8)
    settings = {"data_dir": str(data), "model_dir": str(tmp_path), "batch_size": 8, "device": "cpu"}
    training.fit(ARCHITECTURE, CNNConfig(**TINY["train_etl9g_model"], **settings, epochs=10, ema_decay=0.9))
    pictures = tmp_path / "pictures" / "あ"
    pictures.mkdir(parents=True)
    Image.fromarray(np.kron(np.eye(8), np.ones((9, 9))).astype(np.uint8) * 255).save(pictures / "1.png")
    report = quantize(tmp_path / ARCHITECTURE.best_file, data, None, 20, pictures.parent, None)
    network, facts = load_quantized(tmp_path / "quantized_cnn_int8.pth")
    assert f"{tmp_path}/quantized_cnn_int8.pth: " in report
    measured = facts["quantization"]["measured"]
    assert measured["images"]["samples"] == 1
    assert measured["test"]["int8_top1"] > measured["test"]["float_top1"] - 5 > 85
    samples = dataset_samples(data, "test", facts["config"])
    right = predictions(network, CLASSES, samples, np.arange(40)) == samples.characters
    assert facts["metrics"]["test_top1"] == measured["test"]["int8_top1"] == 100 * right.mean()
    assert not any("float" in name for name in facts["metrics"])
    assert (facts["quantization"]["how"], facts["quantization"]["images"]) == ("calibration", 20)


def test_wrong_calls_end_with_one_line(models, tiny_dataset, tmp_path, monkeypatch, capsys):
    data = str(tiny_dataset())
    (tmp_path / "龍").mkdir()
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "龍/a.png")
    monkeypatch.chdir(models)
    calls = [
        ("missing.pth", ["--data-dir", data], "missing.pth is missing"),
        ("int8.pth", ["--data-dir", data], "quantised already"),
        ("float.pth", ["--data-dir", "nothing"], "prepare_dataset.py"),
        ("float.pth", ["--data-dir", data, "--images", "nothing"], "holds no images"),
        ("float.pth", ["--data-dir", data, "--images", str(tmp_path)], "none is of the model's 5 classes"),
        ("float.pth", ["--calibration-images", "0"], "--calibration-images"),
        ("float.pth", ["--output", "float.pth"], "is the model itself"),
        ("float.pth", ["--output", "x.safetensors"], "is named *.pth"),
    ]
    for model, flags, words in calls:
        monkeypatch.setattr(sys, "argv", ["quantize_model.py", "--model-path", model, *flags])
        with pytest.raises(SystemExit) as ended:
            run(quantize_model.main)
        assert ended.value.code == 2, flags
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in models.iterdir()) == ["float.pth", "int8.pth"]


def test_the_script_runs_from_anywhere(models, tiny_dataset, tmp_path):
    flags = ["--model-path", models / "float.pth", "--data-dir", tiny_dataset(), "--output", "small.pth"]
    done = run_script(Path(quantize_model.__file__), *flags, "--limit", 9, "--calibration-images", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.pth"]
    assert done.stdout.splitlines()[1].split()[:2] == ["test", "9"]
    assert "calibrated on 8 images" in done.stdout
