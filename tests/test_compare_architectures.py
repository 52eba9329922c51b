"""The comparison of architectures in tiny form: every figure is there and belongs to what was made; the benchmark."""

import json

import pytest

from evaluation import comparison
from files.command_line import InputError
from quantization.files import load_trained
from script_runs import forked_stages, run_script
from test_evaluate import bar_model

CLASSES = "語晴清あが一品"
CNN = "cnn --width 0.25 --embedding 16 --batch-size 16"
HIERCODE = "hiercode --width 0.25 --dimensions 8 --batch-size 16"


def test_one_budget_one_table(tiny_dataset, tmp_path):
    data = tiny_dataset(CLASSES, samples_per_set=4)
    flags = ["--data-dir", data, "--epochs", 2, "--output-dir", "out"]
    done = run_script("compare_architectures", CNN, HIERCODE, *flags, cwd=tmp_path, within=forked_stages)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert (result["epochs"], result["training_samples"], result["source"]) == (2, 4 * 4 * 7, "test shapes")
    for row, name in zip(result["rows"], (CNN, HIERCODE), strict=True):
        words = [*name.split(), "epochs", "2", "seed", "0"]  # another budget has another folder
        folder = tmp_path / "out" / "_".join(word.lstrip("-") for word in words)
        best = folder / ("best_kanji_model.pth" if "cnn" in name else "hiercode_model_best.pth")
        model, facts = load_trained(best)
        assert row["name"] == name
        assert row["parameters"] == sum(p.numel() for p in model.parameters())
        assert row["bytes"] == next(folder.glob("*.onnx")).stat().st_size
        assert facts["config"]["epochs"] == 2
        assert min(row["training_images_per_second"], row["latency_ms"]) > 0
        assert row["unseen_writers"]["samples"] == 4 * 7
        assert f"| {name} | " in done.stdout


def test_wrong_calls(tmp_path):
    for entry in ("resnet", "qat", ""):  # INT8 is no further architecture
        with pytest.raises(InputError, match="there is no architecture"):
            comparison.read_entries([entry], ["--epochs", "1"], tmp_path)
    with pytest.raises(SystemExit, match="2"):
        comparison.read_entries(["vit --depht 4"], [], tmp_path)
    done = run_script("compare_architectures", "--images", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: nowhere is missing: --images takes a folder of images\n")


def test_benchmark_times_every_stage_and_refuses_too_slow_a_model(tiny_dataset, standin, tmp_path):
    model = bar_model(tmp_path / "bars.onnx")
    flags = ["--rounds", 1, "--json", tmp_path / "figures.json", "--model", model]
    done = run_script("benchmark", "--data-dir", tiny_dataset(), "--etl9g-dir", standin[0], *flags)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures) == 2 + 1 + 3
    assert min(figures.values()) > 0
    assert all(f"{name} " in done.stdout for name in figures)
    assert run_script("benchmark", *flags, "--reference", model, "--times-faster", 0.01).returncode == 0
    slow = run_script("benchmark", *flags, "--reference", model, "--times-faster", 1000)
    assert slow.returncode == 1
    assert slow.stderr == f"error: {model} is not 1000 times as fast as {model}\n"
