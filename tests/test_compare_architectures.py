"""The comparison of architectures in tiny form: every figure is there and belongs to what was made."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import compare_architectures
from engine.checkpoints import save
from evaluation import comparison
from files.command_line import InputError
from quantization.files import load_trained
from script_runs import forked_stages, run_script
from test_evaluate import bar_model
from tiny_models import tiny_model

SCRIPT = Path(compare_architectures.__file__)
CLASSES = "語晴清あが一品"
CNN = "cnn --width 0.25 --embedding 16 --batch-size 16"
HIERCODE = "hiercode --width 0.25 --dimensions 8 --batch-size 16"


def call(cwd: Path, *words: object) -> tuple[int, str, str]:
    done = run_script(SCRIPT, *words, cwd=cwd, within=forked_stages)
    return done.returncode, done.stdout, done.stderr


def test_one_budget_one_table(tiny_dataset, tmp_path):
    data = tiny_dataset(CLASSES, samples_per_set=4)
    flags = ["--data-dir", data, "--epochs", 2, "--rounds", 1, "--output-dir", "out"]
    code, out, err = call(tmp_path, CNN, HIERCODE, *flags)
    assert code == 0, err
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (result["epochs"], result["training_samples"], result["source"]) == (2, 4 * 4 * 7, "test shapes")
    for row, name in zip(result["rows"], (CNN, HIERCODE), strict=True):
        folder = tmp_path / "out" / "_".join(word.lstrip("-") for word in name.split())
        best = folder / ("best_kanji_model.pth" if "cnn" in name else "hiercode_model_best.pth")
        model, facts = load_trained(best)
        assert row["name"] == name
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["bytes"] == next(folder.glob("*.onnx")).stat().st_size
        assert facts["epoch"] <= 2
        assert row["unseen_writers"]["samples"] == 4 * 7
        assert min(row[k] for k in ("flops", "training_images_per_second", "latency_ms", "images_per_second")) > 0
        assert f"| {name} | " in out
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > 800


def test_wrong_calls(tiny_dataset, tmp_path):
    with pytest.raises(InputError, match="there is no architecture resnet: there are cnn, "):
        comparison.read_entries(["resnet"], tmp_path)
    for entry in ("qat", ""):  # INT8 is no further architecture
        with pytest.raises(InputError, match="there is no architecture"):
            comparison.read_entries([entry], tmp_path)
    with pytest.raises(SystemExit) as ended:
        comparison.read_entries(["vit --depht 4"], tmp_path)
    assert ended.value.code == 2
    code, _, err = call(tmp_path, "--images", "nowhere")
    assert (code, err) == (2, "error: nowhere is missing: --images takes a folder of images\n")
    assert call(tmp_path, "--epochs", "0")[0] == 2


def test_another_budget_needs_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "run_script", lambda *_: None)
    (entry,) = comparison.read_entries(["cnn"], tmp_path)
    for epochs in ("1", "1"):
        comparison.make(entry, tmp_path, ["--epochs", epochs])
    with pytest.raises(InputError, match="was trained with another budget"):
        comparison.make(entry, tmp_path, ["--epochs", "4"])


def test_an_lstm_is_counted(tmp_path):
    (entry,) = comparison.read_entries(["radical_rnn"], tmp_path)
    model, facts = tiny_model("train_radical_rnn")
    save(entry.best, facts | {"metrics": {}, "model": model.state_dict()})
    entry.exported.write_bytes(b"")
    read = [module for module in model.modules() if isinstance(module, torch.nn.LSTM)]
    numbers = sum(weight.numel() for layer in read for name, weight in layer.named_parameters() if "weight" in name)
    assert numbers
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # as one operator it is not
        model(torch.zeros(1, 1, 64, 64))
    steps = (comparison.size(entry)["flops"] - counter.get_total_flops()) / (2 * numbers)
    assert steps == int(steps) > 0


def test_without_matplotlib_nothing_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare_architectures.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(compare_architectures, "read_entries", lambda *_: pytest.fail("it began"))
    monkeypatch.setattr("sys.argv", ["compare_architectures.py"])
    with pytest.raises(InputError, match="the picture needs the package matplotlib"):
        compare_architectures.main()


def test_benchmark_times_every_stage_and_refuses_too_slow_a_model(tiny_dataset, standin, tmp_path):
    model = bar_model(tmp_path / "bars.onnx")
    flags = ["--rounds", 1, "--json", tmp_path / "figures.json", "--model", model]
    done = run_script("benchmark", "--data-dir", tiny_dataset(), "--etl9g-dir", standin[0], "--batch-size", 8, *flags)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures) == 2 + 1 + 3 + 4
    assert min(figures.values()) > 0
    assert all(f"{name} " in done.stdout for name in figures)
    assert run_script("benchmark", *flags, "--reference", model, "--times-faster", 0.01).returncode == 0
    slow = run_script("benchmark", *flags, "--reference", model, "--times-faster", 1000)
    assert slow.returncode == 1
    assert slow.stderr == f"error: {model} is not 1000 times as fast as {model}\n"
