"""Scripts run as a person runs them, each in a process of its own that can be killed, without the wait for imports:
the processes are forked from one that has imported everything and done nothing."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from characters import jis
from files import command_line
from records import etl9g
from tiny_models import TINY, save_float, save_int8

SCRIPTS = Path(__file__).parents[1] / "scripts"
TRAININGS = sorted(path.stem for path in SCRIPTS.glob("train_*.py"))
PRELOADED = ["onnx", "onnxruntime", "cv2", "torch.onnx", "torch._dynamo", "onnxscript", "pytest"]
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
TIMES = ("images_per_second", "seconds")  # of an epoch, in metrics.jsonl
OUTPUT = "made"  # below the working folder of a case

_server = multiprocessing.get_context("forkserver")


def _server_started() -> multiprocessing.context.ForkServerContext:
    _server.set_forkserver_preload([*PRELOADED, *sorted(path.stem for path in SCRIPTS.glob("*.py"))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        forkserver.ensure_running()
    return _server


def _become(script: str, flags: list[str], folder: Path, output: Path, around: Callable) -> None:
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [str(SCRIPTS / f"{script}.py"), *flags]
    with around():
        runpy.run_path(sys.argv[0], run_name="__main__")


class ScriptRun:
    """One script in its process, with `folder` as its working folder; its output and errors go to files elsewhere.

    `around` makes the context in the process in which the script is run; it must be picklable. A fresh process is one
    of a new interpreter: the forked ones share what is random at its start, as the order of a set is.
    """

    def __init__(
        self, script: str, flags: list, folder: Path, around: Callable, fresh: bool = False, output: Path | None = None
    ):
        self.output = output or output_of(folder)
        for place in (folder, self.output):
            place.mkdir(parents=True, exist_ok=True)
        arguments = (script, [str(flag) for flag in flags], folder, self.output, around)
        self.begin = time.monotonic()
        context = multiprocessing.get_context("spawn") if fresh else _server_started()
        self.process = context.Process(target=_become, args=arguments)
        self.process.start()

    def send(self, number: int) -> None:
        if self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
                os.kill(self.process.pid, number)

    def finish(self, seconds: float = 1800) -> int:
        """Its exit code, below 0 for the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it had not ended after {seconds} s: {self.errors}")
        self.seconds = time.monotonic() - self.begin
        return self.process.exitcode

    @property
    def errors(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.output / "err").read_text()
        return ""


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """The environment of the test, which the process that all are forked from does not share."""
    os.environ.clear()
    os.environ.update(variables)
    yield


@contextlib.contextmanager
def all_of(*contexts: Callable[[], AbstractContextManager]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context())
        yield


@contextlib.contextmanager
def forked_stages(failing: str = "") -> Iterator[None]:
    """The scripts that a script runs one after the other are forked from it; one may be made to fail."""

    def become(script: Path, *words: str) -> None:
        if script.stem == failing:
            sys.exit(3)
        sys.argv = [str(script), *words]
        runpy.run_path(str(script), run_name="__main__")

    def start(command: list) -> multiprocessing.Process:
        assert command[0] == sys.executable
        process = multiprocessing.get_context("fork").Process(target=become, args=(Path(command[1]), *command[2:]))
        process.wait = lambda: (process.join(), process.exitcode)[1]
        process.start()
        return process

    command_line.subprocess = types.SimpleNamespace(Popen=start)
    yield


def run_script(
    script: str | Path,
    *words: object,
    cwd: Path | None = None,
    within: Callable[[], AbstractContextManager] = contextlib.nullcontext,
) -> subprocess.CompletedProcess:
    """What `subprocess.run` gives of a script of this project, in text, without the wait for imports."""
    with tempfile.TemporaryDirectory() as output:
        around = functools.partial(all_of, functools.partial(environment, dict(os.environ)), within)
        run = ScriptRun(Path(script).stem, list(words), cwd or Path.cwd(), around, output=Path(output))
        code = run.finish()
        out, err = (Path(output, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess([str(script), *map(str, words)], code, out, err)


def output_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.output")


@contextlib.contextmanager
def file_events(folder: Path, at: int, action: Callable[[], None]) -> Iterator[None]:
    """Counts what the process itself, not its workers, does to files below a folder; at number `at` calls `action`."""
    folder, process, count = folder.resolve(), os.getpid(), 0

    def note(event: str, arguments: tuple) -> None:
        nonlocal count
        if event not in FILE_EVENTS or os.getpid() != process or isinstance(arguments[0], int):
            return
        if Path(os.fsdecode(arguments[0])).absolute().is_relative_to(folder):
            count += 1
            if count == at:
                action()

    sys.addaudithook(note)
    try:
        yield
    finally:
        at = 0
        (output_of(folder) / "events").write_text(str(count))


@contextlib.contextmanager
def few_characters(count: int) -> Iterator[None]:
    """Sets are of the first so many characters, made and read by forked workers."""
    order, sheets, places = etl9g.set_layout()
    classes = "".join(sorted(order[:count], key=jis.jis_code))
    smaller = {
        "etl9g_classes": lambda: classes,
        "set_layout": lambda: (order[:count], sheets[:count], places[:count]),
        "records_per_set": lambda: count,
    }
    for module in list(sys.modules.values()):
        for name in smaller.keys() & vars(module).keys():  # of each that has imported the function by its name
            setattr(module, name, smaller[name])
    multiprocessing.set_start_method("fork", force=True)
    yield


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of what is in it, without how long an epoch took."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        content = path.read_bytes()
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            content = json.dumps([{k: v for k, v in row.items() if k not in TIMES} for row in rows]).encode()
        hashes[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return hashes


@dataclasses.dataclass
class Case:
    """A command, and its run that nobody disturbed: files, bytes, seconds, and how often it touched a file."""

    script: str
    flags: list
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    events: int = 0

    def start(self, folder: Path, *inner: Callable[[], AbstractContextManager], fresh: bool = False) -> ScriptRun:
        first = (
            [functools.partial(few_characters, 20)] if self.script in ("synthesize_etl9g", "prepare_dataset") else []
        )
        return ScriptRun(self.script, self.flags, folder, functools.partial(all_of, *first, *inner), fresh)

    def start_until(self, folder: Path, number: int, action: Callable[[], None]) -> ScriptRun:
        """The command; as it is about to touch a file for the `number`th time, `action`."""
        return self.start(folder, functools.partial(file_events, folder, number, action))

    def ends_alike(self, folder: Path, fresh: bool = False) -> None:
        """The same command again ends well, with the same files and no others."""
        again = self.start(folder, fresh=fresh)
        assert again.finish() == 0, again.errors
        assert snapshot(folder) == self.files


def training_flags(script: str, data: Path, floats: Path) -> list:
    few = ["--epochs", 2, "--batch-size", 8, "--hiragana-repeats", 1, "--keep-last-n", 2, "--device", "cpu"]
    every_step = ["--checkpoint-minutes", 1e-9, "--resume-from", "auto"]
    own = [word for name, value in TINY.get(script, {}).items() for word in (f"--{name}", value)]
    if script == "train_qat":
        own = ["--model-path", floats / "train_etl9g_model.pth", "--calibration-images", 20]
    return ["--data-dir", data, "--model-dir", OUTPUT, *few, *every_step, *own]


def draw_folder(folder: Path) -> Path:
    """Pictures of some of the first twenty characters of a set."""
    random = np.random.default_rng(len(folder.name))
    for char in "亜唖娃":
        (folder / char).mkdir(parents=True)
        for number in range(4):
            corners = random.uniform(10, 90, 8).tolist()
            ImageDraw.Draw(picture := Image.new("L", (100, 100), 255)).line(corners, fill=0, width=4)
            picture.save(folder / char / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def commands(tiny_dataset, tmp_path_factory) -> dict[str, tuple[str, list]]:
    """Of each case the script and its flags; what they write goes below OUTPUT in the working folder."""
    data, models = tiny_dataset(), tmp_path_factory.mktemp("models")
    raw, drawn = models / "ETL9G", [draw_folder(models / name) for name in ("drawn", "sent")]
    for script in TINY:
        save_float(script, models / f"{script}.pth")
    save_int8("train_etl9g_model", models / "int8.pth")
    cnn = ["--model-path", models / "train_etl9g_model.pth"]
    onnx = [*cnn, "--data-dir", data]
    limits = ["--compare", 20, "--agreement", 90]
    return {
        "raw": ("synthesize_etl9g", ["--sets", 8, "--out", raw, "--seed", 5, "--processes", 2]),
        "synthesize_etl9g": ("synthesize_etl9g", ["--sets", 8, "--out", OUTPUT, "--seed", 5, "--processes", 2]),
        "prepare_dataset": ("prepare_dataset", ["--etl9g-dir", raw, "--output-dir", OUTPUT, "--processes", 2]),
        "prepare_images": ("prepare_dataset", ["--images", *drawn, "--output-dir", OUTPUT, "--processes", 2]),
        **{script: (script, training_flags(script, data, models)) for script in TRAININGS},
        "convert_to_onnx": ("convert_to_onnx", [*onnx, "--opset", 17, "--output", f"{OUTPUT}/model.onnx"]),
        "convert_to_safetensors": ("convert_to_safetensors", [*cnn, "--output", f"{OUTPUT}/model.safetensors"]),
        "hub_folder": ("convert_to_safetensors", [*cnn, "--folder", f"{OUTPUT}/hub"]),
        "quantize_model": ("quantize_model", [*cnn, "--data-dir", data, "--output", f"{OUTPUT}/int8.pth"]),
        "int8_onnx": (
            "convert_int8_pytorch_to_quantized_onnx",
            ["--model-path", models / "int8.pth", "--data-dir", data, "--output", f"{OUTPUT}/int8.onnx", *limits],
        ),
    }


@pytest.fixture(scope="session")
def undisturbed(commands, tmp_path_factory) -> Callable[[str], Case]:
    """undisturbed(name): a case and what comes of it when nothing goes wrong."""

    @functools.cache
    def run(name: str) -> Case:
        folder = tmp_path_factory.mktemp(name)
        case = Case(*commands[name])
        if name == "prepare_dataset":
            raw = Case(*commands["raw"]).start(folder.with_name("raw"))
            assert raw.finish() == 0, raw.errors
        whole = case.start_until(folder, 0, kill)
        assert whole.finish() == 0, whole.errors
        files = snapshot(folder)
        assert files
        return dataclasses.replace(
            case,
            files=files,
            bytes=sum((folder / name).stat().st_size for name in files),
            seconds=whole.seconds,
            events=int((output_of(folder) / "events").read_text()),
        )

    return run
