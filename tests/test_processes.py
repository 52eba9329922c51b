"""One training by several processes: one writer, one voice, the same curve within its noise, stops and restarts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine import checkpoints, devices
from tiny_models import TINY

SCRIPTS = Path(__file__).parents[1] / "scripts"
FEW = ["--epochs", 2, "--hiragana-repeats", 1, "--device", "cpu", "--precision", "fp32", "--ema-decay", 0.9]


def start(
    folder: Path,
    *flags: object,
    processes: int = 2,
    script: str = "train_etl9g_model",
    run: Path | None = None,
    **torchrun: int,
):
    """A training, shared by processes that torchrun starts, or by itself, that writes into `folder`; `run` instead of
    the script is what is started."""
    shape = [word for name, value in TINY[script].items() for word in (f"--{name}", value)]
    words = [run or SCRIPTS / f"{script}.py", *FEW, *shape, "--batch-size", 9, "--model-dir", folder, *flags]
    if processes > 1:
        launch = [word for name, value in torchrun.items() for word in (f"--{name}", value)]
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *launch, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": os.devnull}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


def last(folder: Path) -> dict:
    return checkpoints.load(checkpoints.existing(folder / "checkpoints" / next((folder / "checkpoints").iterdir()))[-1])


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def wait_for_steps(process: subprocess.Popen, folder: Path) -> None:
    while not list(folder.rglob("checkpoint_epoch_*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.fixture
def data(tiny_dataset) -> list:
    return ["--data-dir", tiny_dataset(samples_per_set=8)]


def test_shared_by_two_processes_the_curve_stays_within_its_noise(data, tmp_path):
    folders = {1: tmp_path / "alone", 2: tmp_path / "shared"}
    for processes, folder in folders.items():
        code, out, err = finish(start(folder, *data, "--batch-size", 40, processes=processes))
        assert code == 0, err
        assert out.count("  val. ") == 2  # one voice
        assert ("2 processes" in out) == (processes == 2)
        assert last(folder)["processes"] == processes
    names = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in folders.values()]
    assert names[0] == names[1]
    curves = [
        [json.loads(line) for line in (f / "cnn/metrics.jsonl").read_text().splitlines()] for f in folders.values()
    ]
    for alone, shared in zip(*curves, strict=True):
        assert shared["samples"] == alone["samples"]
        for name in ("train_loss", "validation_loss"):
            assert shared[name] == pytest.approx(alone[name], rel=0.2), name


WITH_THREADS = """
import atexit, pathlib, runpy, sys
tasks = pathlib.Path("/proc/self/task")
atexit.register(lambda: sys.stderr.write(f"{sorted(p.read_text() for p in tasks.glob('*/comm'))}\\n"))
sys.argv[0] = SCRIPT
sys.path.insert(0, str(pathlib.Path(SCRIPT).parent))
runpy.run_path(SCRIPT, run_name="__main__")
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_no_thread_of_gloo_outlives_the_training(data, tmp_path, stopped):
    wrapper = tmp_path / "with_threads.py"
    wrapper.write_text(WITH_THREADS.replace("SCRIPT", repr(str(SCRIPTS / "train_etl9g_model.py"))))
    process = start(tmp_path / "models", *data, "--checkpoint-minutes", 1e-9, run=wrapper)
    if stopped:
        wait_for_steps(process, tmp_path)
        os.kill(children(process.pid)[-1], signal.SIGTERM)
    code, _, err = finish(process)
    assert bool(code) == stopped
    threads = [line for line in err.splitlines() if line.startswith("['")]
    assert len(threads) == 2 and "gloo" not in str(threads), err


def test_asked_to_stop_all_stop_and_fewer_go_on(data, tmp_path):
    process = start(tmp_path, *data, "--checkpoint-minutes", 1e-9)
    wait_for_steps(process, tmp_path)
    os.kill(children(process.pid)[-1], signal.SIGTERM)  # only the last of them is asked
    _, out, err = finish(process)
    assert "continue with --resume-from" in out, err
    assert last(tmp_path)["epoch"] < 2
    code, out, err = finish(start(tmp_path, *data, "--resume-from", "auto", processes=1))
    assert code == 0, err
    assert "resumed from" in out
    assert (last(tmp_path)["epoch"], last(tmp_path)["processes"]) == (2, 1)


def test_what_fails_in_one_process_is_said_once(data, tmp_path):
    for number, (flags, line) in enumerate(
        (
            (["--resume-from", "missing.pt"], "error: missing.pt is missing: "),
            (["--batch-size", 2], "error: --batch-size 2 is too small for 3 processes"),
        )
    ):
        _, _, err = finish(start(tmp_path / str(number), *data, *flags, processes=3 if number else 2))
        assert [text for text in err.splitlines() if text.startswith("error: ")] == [
            text for text in err.splitlines() if line in text
        ]
        assert err.count(line) == 1, err


def test_a_killed_process_ends_the_job_and_torchrun_starts_it_again(data, tmp_path):
    """With the end of a run that nothing disturbed, bit for bit."""
    flags = [*data, "--resume-from", "auto"]
    assert finish(start(tmp_path / "whole", *flags, script="train_vit"))[0] == 0
    restarts = {"max-restarts": 1}
    job = start(tmp_path / "killed", *flags, "--checkpoint-minutes", 1e-9, script="train_vit", **restarts)
    wait_for_steps(job, tmp_path / "killed")
    os.kill(children(job.pid)[1], signal.SIGKILL)
    code, out, err = finish(job)
    assert code == 0, err
    assert "another process of this training ended" in err
    assert "resumed from" in out
    ends = [last(tmp_path / name) for name in ("whole", "killed")]
    for part in ("model", "ema"):
        assert all(torch.equal(value, ends[1][part][name]) for name, value in ends[0][part].items())


def test_each_process_draws_its_own_numbers_and_the_first_those_of_a_single_one():
    assert devices.derive_seed(7, 2, 5, 0) == devices.derive_seed(7, 2, 5)  # a run alone is a group of one
    assert len({devices.derive_seed(7, 2, 5, rank) for rank in range(8)}) == 8
