"""Whatever is killed, and whenever: the same command again ends with the same files, byte for byte, and no others.

In CI each script is killed once at a random place; `python -m pytest tests/test_crashes.py -m long` kills 200 times.
"""

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import etl9g_format
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
    raw = made / "ETL9G"
    for script in TINY:
        save_float(script, made / f"{script}.pth")
    save_int8("train_etl9g_model", made / "int8.pth")
    cnn = ["--model-path", made / "train_etl9g_model.pth"]
    onnx = ["--data-dir", data]
    limits = ["--compare", 20, "--test-samples", 40, "--times-faster", 0, "--most-megabytes", 10, "--agreement", 90]
    return {
        "raw": ("synthesize_etl9g", ["--sets", 4, "--out", raw, "--seed", 5, "--processes", 1]),
        "synthesize_etl9g": ("synthesize_etl9g", ["--sets", 3, "--out", "standin", "--seed", 5, "--processes", 2]),
        "prepare_dataset": ("prepare_dataset", ["--etl9g-dir", raw, "--output-dir", "dataset", "--processes", 2]),
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
class Case:
    """A command, and its run that nobody disturbed: the files, how long it took, how often it touched one."""

    script: str
    flags: list
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    events: int = 0

    def start(self, folder: Path, at: int = 0, action: Callable[[], None] = kill) -> ScriptRun:
        """The command in this folder; at its file event number `at` it does `action`."""
        return ScriptRun(self.script, self.flags, folder, functools.partial(prepare_process, folder, at, action))

    def ends_alike(self, folder: Path) -> None:
        again = self.start(folder)
        assert again.finish() == 0, again.errors
        assert snapshot(folder) == self.files


def prepare_process(folder: Path, at: int, action: Callable[[], None]) -> FileEvents:
    """Raw files of one set of 60 characters, made and read by forked workers; and the watch on a folder."""
    characters, sheets, places = etl9g_format.set_layout()
    etl9g_format.SETS_PER_FILE = 1
    etl9g_format.set_layout = lambda: (characters[:60], sheets[:60], places[:60])
    etl9g_format.records_per_set = lambda: 60
    multiprocessing.set_start_method("fork", force=True)
    return FileEvents(folder, at, action)


@pytest.fixture(scope="module")
def undisturbed(commands, tmp_path_factory) -> Callable[[str], Case]:
    @functools.cache
    def run(name: str) -> Case:
        folder = tmp_path_factory.mktemp(name)
        case = Case(*commands[name])
        if name == "prepare_dataset":
            made = Case(*commands["raw"]).start(folder.with_name("raw"))
            assert made.finish() == 0, made.errors
        whole = case.start(folder)
        assert whole.finish() == 0, whole.errors
        files = snapshot(folder)
        assert files
        return dataclasses.replace(case, files=files, seconds=whole.seconds, events=whole.events)

    return run


def killed_at_a_file(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 as it is about to open, rename or remove its Nth file."""
    number = dice.randint(1, case.events)
    run = case.start(folder, number)
    assert run.finish() == -signal.SIGKILL, run.errors
    return f"file event {number} of {case.events}"


def killed_at_a_time(case: Case, folder: Path, dice: random.Random) -> str:
    """kill -9 in the midst of whatever it does."""
    for _ in range(20):
        run, seconds = case.start(folder), dice.uniform(0, case.seconds)
        time.sleep(seconds)
        run.send(signal.SIGKILL)
        if run.finish() == -signal.SIGKILL:
            return f"after {seconds:.3f} s of {case.seconds:.3f} s"
        shutil.rmtree(folder)  # it was quicker this time
    raise AssertionError("it ended before it could be killed, twenty times")


@pytest.mark.parametrize("name", CASES)
def test_killed_once(name, undisturbed, tmp_path):
    case = undisturbed(name)
    print(killed_at_a_file(case, tmp_path / "killed", random.Random()))
    case.ends_alike(tmp_path / "killed")


@pytest.mark.parametrize("name", ["synthesize_etl9g", "prepare_dataset", "train_etl9g_model", "train_qat"])
def test_a_second_writer_is_refused(name, undisturbed, tmp_path):
    """And disturbs nothing; one that comes after the first was killed is not refused."""
    case, folder, paused = undisturbed(name), tmp_path / "shared", tmp_path / "paused"
    first = case.start(folder, case.events // 2, functools.partial(stop, paused))
    while not paused.exists():
        assert first.process.is_alive(), first.errors
        time.sleep(0.01)
    second = case.start(folder)
    assert second.finish() == 2
    assert len(second.errors.splitlines()) == 1
    assert "is being written by another process: wait for its end, or choose another folder" in second.errors
    first.send(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL
    case.ends_alike(folder)


@pytest.mark.long
@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in CASES for seed in range(LONG[name])])
def test_killed_200_times(name, seed, undisturbed, tmp_path):
    """Every third run is killed twice: the second time as it goes on."""
    case, dice = undisturbed(name), random.Random(f"{name} {seed}")
    how = killed_at_a_time if seed % 2 else killed_at_a_file
    print(how(case, tmp_path / "killed", dice))
    if seed % 3 == 2:
        again = case.start(tmp_path / "killed")
        time.sleep(dice.uniform(0, case.seconds))
        if again.process.is_alive():
            again.send(signal.SIGKILL)
        assert again.finish() in (0, -signal.SIGKILL), again.errors
    case.ends_alike(tmp_path / "killed")
