"""The benchmark: every stage is timed, and a model that is too slow is refused."""

import json

from script_runs import run_script
from test_evaluate import bar_model


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
