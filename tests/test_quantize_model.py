"""Calibration from the command line, and what is counted of its loss."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import quantize_model
from data.samples import Samples, dataset_samples
from engine import training
from files.command_line import run
from quantization import loss
from quantization.files import load_quantized
from quantization.loss import accuracy_table, lookalikes, measure, predictions
from quantization.making import quantize
from script_runs import run_script
from tiny_models import CLASSES, TINY, save_float, save_int8
from train_etl9g_model import ARCHITECTURE, CNNConfig


class Fixed(torch.nn.Module):
    """Answers by the number of the image, which is in its first pixel."""

    def __init__(self, answers: list[int]):
        super().__init__()
        self.answers = answers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(CLASSES))[[self.answers[int(number)] for number in images[:, 0, 0, 0]]]


def numbered(characters: str) -> Samples:
    def images(rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(rows[:, None, None, None], (len(rows), 1, 64, 64)).astype(np.float32)

    return Samples(np.array(list(characters)), images, {})


def test_lookalikes_and_losses_by_hand(monkeypatch):
    samples = numbered("ああいいうう亜亜腕腕")
    network = Fixed([0, 1, 0, 1, 2, 2, 3, 4, 4, 4])  # あ for い and い for あ, 腕 for 亜
    monkeypatch.setattr(loss, "PAIRS", 1)
    assert lookalikes(network, CLASSES, samples) == "あい"
    monkeypatch.setattr(loss, "PAIRS", 100)
    assert lookalikes(network, CLASSES, samples) == "あい亜腕"
    better = Fixed([0, 0, 1, 1, 2, 0, 3, 3, 4, 4])
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
    path = tmp_path / "quantized_cnn_int8.pth"
    network, facts = load_quantized(path)
    assert str(path) in report
    measured = facts["quantization"]["measured"]
    assert measured["images"]["samples"] == 1
    assert measured["test"]["float_top1"] > 90
    assert measured["test"]["int8_top1"] > measured["test"]["float_top1"] - 5
    samples = dataset_samples(data, "test", facts["config"])
    right = predictions(network, CLASSES, samples, np.arange(40)) == samples.characters
    assert facts["metrics"]["test_top1"] == measured["test"]["int8_top1"] == 100 * right.mean()
    named = {"test_samples", "test_lookalike_samples", "test_top1"}
    assert named <= facts["metrics"].keys() <= {name.replace("test", k) for name in named for k in ("test", "images")}
    assert (facts["quantization"]["how"], facts["quantization"]["images"]) == ("calibration", 20)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_float("train_etl9g_model", folder / "float.pth")
    save_int8("train_etl9g_model", folder / "int8.pth")
    return folder


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
        ("float.pth", ["--limit", "0"], "--limit"),
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
