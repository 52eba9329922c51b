"""Rounding, folding, ranges; every architecture computes with integers what it did with floats."""

import re

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from data.prepared import PreparedDataset
from engine import checkpoints
from files.command_line import InputError
from inference.recognizer import single_thread
from quantization.files import load_float, load_quantized
from quantization.making import calibration_images
from quantization.network import calibrate, convert, prepare
from quantization.rounding import LARGEST_ACTIVATION, LARGEST_WEIGHT, LSTM, Activation, Convolution, Observer, Weight
from tiny_models import CLASSES, TINY, save_float, save_int8, some_images, tiny_model


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
    assert {v.dtype for name, v in state.items() if name.endswith(".integers")} == {torch.int8, torch.int32}
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


def test_files_of_other_kinds_are_refused(tmp_path):
    plain = save_float("train_etl9g_model", tmp_path / "float.pth")
    with pytest.raises(InputError, match=re.escape("scripts/quantize_model.py")):
        load_quantized(plain)
    int8 = save_int8("train_etl9g_model", tmp_path / "int8.pth")
    with pytest.raises(InputError, match="quantised already"):
        load_float(int8)
    content = checkpoints.load(int8)
    checkpoints.save(tmp_path / "torn.pth", content | {"model": {}})
    with pytest.raises(InputError, match="do not fit"):
        load_quantized(tmp_path / "torn.pth")


def test_calibration_sees_every_class_as_often_and_none_held_out(tiny_dataset):
    dataset = PreparedDataset(tiny_dataset(samples_per_set=8))
    split = dataset.splits["train"]
    label_of = {
        dataset.images(split.positions[i : i + 1]).numpy().tobytes(): int(split.labels[i]) for i in range(len(split))
    }

    def labels(**changes) -> list[int]:
        images = (255 * torch.cat(calibration_images(dataset, 20, **changes))).round().to(torch.uint8)
        return sorted(label_of[image.numpy().tobytes()] for image in images)

    assert labels() == [k for k in range(5) for _ in range(4)]
    assert labels(held_out="う") == [k for k in (0, 1, 3, 4) for _ in range(5)]


def test_an_lstm_is_pytorch_s_but_for_the_rounding():
    torch.manual_seed(0)
    layer = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    x = torch.randn(2, 7, 6)
    with torch.no_grad():
        expected, rounded = layer(x)[0], LSTM(layer)(x)[0]
    assert 0 < float((rounded - expected).abs().max()) < 0.02
