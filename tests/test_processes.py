"""One training by many processes is the training of one: the same curve, one writer, stops and restarts included.

CI shares each training between two processes; `python -m pytest tests/test_processes.py -m long` between three and
four, and runs torchrun on two hosts, which are network namespaces.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine import checkpoints
from script_runs import SCRIPTS, ScriptRun
from tiny_models import TINY, save_float

TRAININGS = sorted(path.stem for path in SCRIPTS.glob("train_*.py"))
FEW = ["--epochs", 2, "--hiragana-repeats", 1, "--device", "cpu", "--precision", "fp32", "--ema-decay", 0.9]
# What no two sums agree on, Adam makes steps of; small ones, so that the curves can be told apart from wrong ones.
SLOW = ["--learning-rate", 1e-4]
RANDOM = {"train_etl9g_model": ["--dropout", 0.2], "train_vit": ["--drop-path", 0.3]}


def tiny(script: str) -> list:
    return [word for name, value in TINY.get(script, {}).items() for word in (f"--{name}", value)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def one_of(count: int, rank: int, port: int) -> Iterator[None]:
    """What torchrun tells the processes that it starts."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if count > 1:
        os.environ.update({name: str(value) for name, value in told.items()} | {"TORCHELASTIC_RUN_ID": "test"})
    yield


def start(count: int, script: str, flags: list, folder: Path, *differing: list) -> list[ScriptRun]:
    """A script in so many processes, all with the same flags or each with its own `differing` ones too."""
    port = free_port()
    return [
        ScriptRun(
            script,
            [*flags, *(differing[rank] if differing else [])],
            folder.with_name(f"{folder.name}_{count}_{rank}"),
            functools.partial(one_of, count, rank, port),
        )
        for rank in range(count)
    ]


def share(count: int, script: str, flags: list, folder: Path) -> str:
    """A training from beginning to end by so many processes, which write into `folder`; returns what they said."""
    runs = start(count, script, [*flags, "--model-dir", folder], folder)
    assert [run.finish() for run in runs] == [0] * count, [run.errors for run in runs]
    said = [(run.output / "out").read_text() for run in runs]
    assert not any(said[1:])
    assert not any(run.errors for run in runs)
    return said[0]


def last(folder: Path) -> dict:
    return checkpoints.load(max((folder / "checkpoints").rglob("*.pt")))


def assert_same_curve(one: Path, other: Path, tolerance: float = 1e-3) -> None:
    """Of metrics, and of the weights' average and the statistics of batch norm in it, at the end."""
    curves = [
        [json.loads(line) for line in next(folder.glob("*/metrics.jsonl")).read_text().splitlines()]
        for folder in (one, other)
    ]
    assert len(curves[0]) == len(curves[1]) == 2
    for mine, theirs in zip(*curves, strict=True):
        for name in mine.keys() - {"images_per_second", "seconds"}:
            assert mine[name] == pytest.approx(theirs[name], rel=tolerance), name
    states = [last(folder)["ema"] for folder in (one, other)]
    for name, value in states[0].items():
        difference = (value.double() - states[1][name].double()).norm() / value.double().norm().clamp(min=0.1)
        assert difference < 10 * tolerance, (name, difference)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def flags_of(tiny_dataset, tmp_path_factory) -> Callable[[str], list]:
    """The flags of each script's training. A batch of 9 makes unequal parts. As INT8 a CNN: the same last bit of a sum,
    rounded to another integer, changes a narrow ViT's validation loss by a thousandth, a CNN's by a fiftieth of it."""
    data, floats = tiny_dataset(samples_per_set=3), tmp_path_factory.mktemp("floats")
    model = save_float("train_etl9g_model", floats / "cnn.pth")

    def flags(script: str) -> list:
        own = ["--model-path", model, "--calibration-images", 20] if script == "train_qat" else RANDOM.get(script, [])
        return ["--data-dir", data, *FEW, *SLOW, "--batch-size", 9, *tiny(script), *own]

    return flags


@pytest.fixture(scope="module")
def alone(flags_of, tmp_path_factory) -> Callable[[str], Path]:
    """The folder that a script's training by one process leaves."""

    @functools.cache
    def train(script: str) -> Path:
        folder = tmp_path_factory.mktemp("alone") / script
        share(1, script, flags_of(script), folder)
        return folder

    return train


SHARED = [pytest.param(script, 2) for script in TRAININGS]
SHARED += [pytest.param(script, count, marks=pytest.mark.long) for script in TRAININGS for count in (3, 4)]


@pytest.mark.parametrize(("script", "count"), SHARED)
def test_shared_by_processes_it_is_the_same_training(script, count, flags_of, alone, tmp_path):
    said = share(count, script, flags_of(script), tmp_path / "shared")
    assert f"{count} processes" in said
    assert last(tmp_path / "shared")["processes"] == count
    assert files(tmp_path / "shared").keys() == files(alone(script)).keys()
    assert_same_curve(alone(script), tmp_path / "shared")


def test_twice_by_two_processes_the_weights_are_the_same_bit_for_bit(flags_of, tmp_path):
    ends = []
    for name in ("first", "second"):
        share(2, "train_etl9g_model", flags_of("train_etl9g_model"), tmp_path / name)
        ends.append(last(tmp_path / name)["model"])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def wait_for(done: Callable[[], object], runs: list) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        assert all(run.process.exitcode is None for run in runs), [run.errors for run in runs]
        time.sleep(0.005)


@pytest.mark.parametrize("counts", [(2, 1), pytest.param((4, 2, 1), marks=pytest.mark.long)])
def test_asked_to_stop_all_stop_after_the_same_step_and_fewer_go_on(counts, flags_of, alone, tmp_path):
    """Only the last of them is asked."""
    flags = [*flags_of("train_etl9g_model"), "--model-dir", tmp_path / "shared", "--resume-from", "auto"]
    seen = 0
    for count in counts[:-1]:
        runs = start(count, "train_etl9g_model", [*flags, "--checkpoint-minutes", 1e-9], tmp_path / "run")
        wait_for(lambda seen=seen: steps_done(tmp_path / "shared") > seen, runs)
        runs[-1].send(signal.SIGTERM)
        assert [run.finish() for run in runs] == [143] * count, [run.errors for run in runs]
        assert "go on with --resume-from" in (runs[0].output / "out").read_text()
        seen = steps_done(tmp_path / "shared")
    said = share(counts[-1], "train_etl9g_model", flags, tmp_path / "shared")
    assert "resumed from" in said
    assert_same_curve(alone("train_etl9g_model"), tmp_path / "shared")


def steps_done(folder: Path) -> int:
    found = list((folder / "checkpoints").rglob("*.pt"))
    if not found:
        return 0
    with contextlib.suppress(FileNotFoundError):  # it was the oldest
        content = checkpoints.load(max(found))
        return content["schedulers"][0]["last_epoch"]
    return 0


def test_what_fails_in_one_process_is_said_once(flags_of, tmp_path):
    flags = flags_of("train_etl9g_model")
    cases = [
        (0, [[], ["--data-dir", "missing"]], "error: missing is not a prepared dataset: run "),
        (1, [[], ["--learning-rate", 2e-4]], "error: the processes of this training do not have the same settings "),
        (2, [["--batch-size", 2]] * 3, "error: --batch-size 2 is too small for 3 processes\n"),
        (3, [["--resume-from", "missing.pt"]] * 2, "error: missing.pt is missing: "),
        (4, [["--learning-rate", 1e30]] * 2, "error: the "),
    ]
    for number, differing, line in cases:
        runs = start(len(differing), "train_etl9g_model", flags, tmp_path / f"run{number}", *differing)
        codes = [run.finish() for run in runs]
        assert all(code in (1, 2) for code in codes)
        errors = "".join(run.errors for run in runs)
        assert errors.startswith(line)
        assert errors.count("\n") == 1, errors


def torchrun(*flags: object, prefix: tuple = (), **told: str) -> subprocess.Popen:
    command = [*prefix, sys.executable, "-m", "torch.distributed.run", *map(str, flags)]
    environment = os.environ | told
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def test_a_killed_process_ends_the_job_and_torchrun_starts_it_again(flags_of, tmp_path):
    """With the end of a run that nothing disturbed, bit for bit."""
    flags = [*flags_of("train_vit"), "--resume-from", "auto", "--model-dir"]
    share(2, "train_vit", [*flags, tmp_path / "whole"], tmp_path / "whole")
    script = SCRIPTS / "train_vit.py"
    starts = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 1, script, "--checkpoint-minutes", 1e-9]
    job = torchrun(*starts, *flags, tmp_path / "killed")
    while not steps_done(tmp_path / "killed"):
        assert job.poll() is None, job.communicate()
        time.sleep(0.005)
    os.kill(children(job.pid)[1], signal.SIGKILL)
    out, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert "error: another process of this training ended" in errors
    assert "resumed from" in out
    ends = [last(tmp_path / name) for name in ("whole", "killed")]
    for part in ("model", "ema"):
        assert all(torch.equal(value, ends[1][part][name]) for name, value in ends[0][part].items())


@pytest.fixture
def two_hosts() -> Iterator[list[tuple[str, str]]]:
    """The names and addresses of two network namespaces that only reach each other."""
    names, addresses = [f"host{os.getpid()}{end}" for end in "ab"], ["10.99.7.1", "10.99.7.2"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ends = [f"v{os.getpid()}{end}" for end in "ab"]
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for name, end, address in zip(names, ends, addresses, strict=True):
                ip("link", "set", end, "netns", name)
                ip("-n", name, "link", "set", end, "name", "wire")
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
                ip("-n", name, "link", "set", "wire", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces are not permitted here: {error}")
        yield list(zip(names, addresses, strict=True))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.long
def test_two_hosts(two_hosts, flags_of, alone, tmp_path):
    """They share no folder: the second has neither the first one's checkpoints nor writes any file."""
    flags, script = flags_of("train_hiercode"), SCRIPTS / "train_hiercode.py"

    hosts = []
    for number, (name, address) in enumerate(two_hosts):
        meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{two_hosts[0][1]}:29500", "--rdzv-id", "test"]
        place = ["--nnodes", 2, "--nproc-per-node", 1, *meet, "--local-addr", address]
        place += ["--rdzv-conf", f"is_host={1 - number}"]
        command = [*place, script, *flags, "--model-dir", tmp_path / f"host{number}"]
        hosts.append(torchrun(*command, prefix=("ip", "netns", "exec", name), GLOO_SOCKET_IFNAME="wire"))
    ends = [host.communicate(timeout=180) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], ends
    (writer,) = (tmp_path / f"host{number}" for number in (0, 1) if (tmp_path / f"host{number}").exists())
    assert last(writer)["processes"] == 2
    assert_same_curve(alone("train_hiercode"), writer)
