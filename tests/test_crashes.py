"""Whatever is killed, and whenever: the same command again ends with the same files, byte for byte, and no others.

In CI each script is killed once at a random place; `python -m pytest tests/test_crashes.py -m long` kills 200 times.
"""

import dataclasses
import functools
import hashlib
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import training
from script_runs import FileEvents, ScriptRun, kill, stop
from tiny_models import TINY, save_float, save_int8

TRAININGS = sorted(path.stem for path in Path(training.__file__).parent.glob("train_*.py"))
CONVERSIONS = ["convert_to_onnx", "any_image", "convert_to_safetensors", "hub_folder", "quantize_model", "int8_onnx"]
CASES = ["synthesize_etl9g", "prepare_dataset", *TRAININGS, *CONVERSIONS]
LONG = {"synthesize_etl9g": 18, "prepare_dataset": 18} | dict.fromkeys(TRAININGS, 20) | dict.fromkeys(CONVERSIONS, 11)
TIMES = ("images_per_second", "seconds")  # of an epoch, in metrics.jsonl


def training_flags(script: str, data: Path, floats: Path) -> list:
    few = ["--epochs", 2, "--batch-size", 8, "--hiragana-repeats", 1, "--keep-last-n", 2, "--device", "cpu"]
    every_step = ["--checkpoint-minutes", 1e-9, "--resume-from", "auto"]
    own = [word for name, value in TINY.get(script, {}).items() for word in (f"--{name}", value)]
    if script == "train_qat":
        own = ["--model-path", floats / "train_etl9g_model.pth", "--calibration-images", 20]
    return ["--data-dir", data, *few, *every_step, *own]


@pytest.fixture(scope="module")
def commands(tiny_dataset, tmp_path_factory) -> dict[str, tuple[str, list]]:
    """Of each case the script and its flags; what they write goes below the working folder."""
    data, made = tiny_dataset(), tmp_path_factory.mktemp("models")
    for script in TINY:
        save_float(script, made / f"{script}.pth")
    save_int8("train_etl9g_model", made / "int8.pth")
    cnn = ["--model-path", made / "train_etl9g_model.pth"]
    onnx = ["--data-dir", data]
    limits = ["--compare", 20, "--test-samples", 40, "--times-faster", 0, "--most-megabytes", 10, "--agreement", 90]
    return {
        **{script: (script, training_flags(script, data, made)) for script in TRAININGS},
        "convert_to_onnx": ("convert_to_onnx", [*cnn, *onnx, "--opset", 17, "--output", "made/model.onnx"]),
        "any_image": ("convert_to_onnx", [*cnn, *onnx, "--any-image", "--output", "made/any.onnx"]),
        "convert_to_safetensors": ("convert_to_safetensors", [*cnn, "--output", "made/model.safetensors"]),
        "hub_folder": ("convert_to_safetensors", [*cnn, "--folder", "made/hub"]),
        "quantize_model": ("quantize_model", [*cnn, "--data-dir", data, "--output", "made/int8.pth"]),
        "int8_onnx": (
            "convert_int8_pytorch_to_quantized_onnx",
            ["--model-path", made / "int8.pth", "--data-dir", data, "--output", "made/int8.onnx", *limits],
        ),
    }


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of what is in it, without how long an epoch took."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        content = path.read_bytes()
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            content = json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@dataclasses.dataclass
class Undisturbed:
    """A run that nobody killed: its files, how long it took, how often it touched a file."""

    script: str
    flags: list
    files: dict[str, str]
    seconds: float
    events: int


@pytest.fixture(scope="module")
def undisturbed(commands, standin, tmp_path_factory) -> Callable[[str], Undisturbed]:
    @functools.cache
    def run(case: str) -> Undisturbed:
        if case == "synthesize_etl9g":
            script, flags = case, ["--sets", 4, "--out", "standin", "--seed", 5, "--preview", "made/sheet.png"]
        elif case == "prepare_dataset":
            script, flags = case, ["--etl9g-dir", standin[0], "--output-dir", "dataset"]
        else:
            script, flags = commands[case]
        folder = tmp_path_factory.mktemp(case)
        whole = ScriptRun(script, flags, folder, functools.partial(FileEvents, folder, 0, kill))
        assert whole.finish() == 0, whole.errors
        files = snapshot(folder)
        shutil.rmtree(folder)
        assert files
        return Undisturbed(script, flags, files, whole.seconds, whole.events)

    return run


def ends_alike(whole: Undisturbed, folder: Path) -> None:
    again = ScriptRun(whole.script, whole.flags, folder)
    assert again.finish() == 0, again.errors
    assert snapshot(folder) == whole.files


def killed_at_a_file(whole: Undisturbed, folder: Path, dice: random.Random) -> str:
    """kill -9 as it is about to open, rename or remove its Nth file."""
    number = dice.randint(1, whole.events)
    run = ScriptRun(whole.script, whole.flags, folder, functools.partial(FileEvents, folder, number, kill))
    assert run.finish() == -signal.SIGKILL, run.errors
    return f"file event {number} of {whole.events}"


def killed_at_a_time(whole: Undisturbed, folder: Path, dice: random.Random) -> str:
    """kill -9 in the midst of whatever it does."""
    for _ in range(20):
        run, seconds = ScriptRun(whole.script, whole.flags, folder), dice.uniform(0, whole.seconds)
        time.sleep(seconds)
        run.send(signal.SIGKILL)
        if run.finish() == -signal.SIGKILL:
            return f"after {seconds:.3f} s of {whole.seconds:.3f} s"
        shutil.rmtree(folder)  # it was quicker this time
    raise AssertionError("it ended before it could be killed, twenty times")


@pytest.mark.parametrize("case", CASES)
def test_killed_once(case, undisturbed, tmp_path):
    whole, dice = undisturbed(case), random.Random()
    place = killed_at_a_file(whole, tmp_path / "killed", dice)
    print(place)
    ends_alike(whole, tmp_path / "killed")


@pytest.mark.parametrize("case", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "train_qat"])
def test_a_second_writer_is_refused(case, undisturbed, tmp_path):
    """And disturbs nothing; one that comes after the first was killed is not refused."""
    whole, folder, paused = undisturbed(case), tmp_path / "shared", tmp_path / "paused"
    pause = functools.partial(FileEvents, folder, whole.events // 2, functools.partial(stop, paused))
    first = ScriptRun(whole.script, whole.flags, folder, pause)
    while not paused.exists():
        assert first.process.is_alive(), first.errors
        time.sleep(0.01)
    second = ScriptRun(whole.script, whole.flags, folder)
    assert second.finish() == 2
    assert len(second.errors.splitlines()) == 1
    assert "is being written by another process: wait for its end, or choose another folder" in second.errors
    first.send(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL
    ends_alike(whole, folder)


@pytest.mark.long
@pytest.mark.parametrize(("case", "seed"), [(case, seed) for case in CASES for seed in range(LONG[case])])
def test_killed_200_times(case, seed, undisturbed, tmp_path):
    """Every third run is killed twice: the second time as it goes on."""
    whole, dice = undisturbed(case), random.Random(f"{case} {seed}")
    how = killed_at_a_time if seed % 2 else killed_at_a_file
    print(how(whole, tmp_path / "killed", dice))
    if seed % 3 == 2:
        again = ScriptRun(whole.script, whole.flags, tmp_path / "killed")
        time.sleep(dice.uniform(0, whole.seconds))
        if again.process.is_alive():
            again.send(signal.SIGKILL)
        assert again.finish() in (0, -signal.SIGKILL), again.errors
    ends_alike(whole, tmp_path / "killed")
