"""The benchmark: every stage is timed, and a model that is too slow is refused."""

import pytest
import torch

from engine import timing
from script_runs import run_script
from test_evaluate import bar_model


def test_benchmark_times_every_stage_and_refuses_too_slow_a_model(tiny_dataset, standin, tmp_path):
    model = bar_model(tmp_path / "bars.onnx")
    flags = ["--rounds", 1, "--model", model]
    done = run_script("benchmark", "--data-dir", tiny_dataset(), "--etl9g-dir", standin[0], *flags)
    assert done.returncode == 0, done.stderr
    figures = [float(line[40:].replace(",", "")) for line in done.stdout.splitlines()[1:]]  # after its name
    assert len(figures) == 2 + 1 + 3
    assert min(figures) > 0
    assert run_script("benchmark", *flags, "--reference", model, "--times-faster", 0.01).returncode == 0
    slow = run_script("benchmark", *flags, "--reference", model, "--times-faster", 1000)
    assert slow.returncode == 1
    assert slow.stderr == f"error: {model} is not 1000 times as fast as {model}\n"


@pytest.mark.parametrize(
    ("threads", "seconds", "taken"),
    [
        (2, {1: 1.0, 2: 0.55}, False),  # a quiet machine
        (2, {1: 1.0, 2: 1.1}, False),  # noise
        (2, {1: 1.0, 2: 3.0}, True),
        (8, {7: 1.0, 8: 2.0}, True),
        (1, {1: 1.0}, False),  # there is none to leave to others
    ],
)
def test_a_core_is_taken_if_one_thread_fewer_is_faster(threads, seconds, taken, monkeypatch):
    def timed(actions, _):
        for action in actions.values():
            action()
        return {n: seconds[n] for n in actions}

    tried = []
    monkeypatch.setattr(timing, "interleaved", timed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", tried.append)
    assert timing.core_is_taken() is taken
    assert tried == sorted(seconds)  # the last one is as it was
