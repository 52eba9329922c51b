"""Trainings started as a person starts them and watched from outside: how fast they go, and what they hold.

benchmark.py asks for these figures. A training is given some time and then asked to stop; its last checkpoint says how
many steps it did in how many seconds.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import checkpoints
from atomic_file import write_text
from command_line import InputError
from etl9g_dataset import CHUNK_NAME, IMAGE_BYTES, METADATA_FILE, split_sets
from etl9g_format import SETS_PER_FILE, etl9g_classes
from normalization import CANVAS, CONTENT, CONTRACT
from prepare_dataset import write_mapping

SCRIPT = Path(__file__).with_name("train_etl9g_model.py")
CHUNKS = 96  # of a made-up dataset
TIMES_LARGER = 4  # than the memory
GIB = 2**30


class Watched:
    """A training of the CNN, for which `launcher` may stand in for Python and `group` is a control group to run in.

    As a context, which it ends in the way of Ctrl-C.
    """

    def __init__(self, data: Path, *flags: object, launcher: tuple = (), group: Path | None = None):
        self.folder = tempfile.TemporaryDirectory(prefix="watched")
        words = [sys.executable, *launcher, SCRIPT, "--data-dir", data, "--model-dir", self.folder.name, *flags]
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', group / "cgroup.procs"] if group else []
        told = os.environ | ({"OMP_NUM_THREADS": "1"} if launcher else {})
        self.process = subprocess.Popen(
            [str(word) for word in (*enter, *words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=told
        )

    def __enter__(self) -> "Watched":
        if not self.process.stdout.readline():  # it says what it trains when it begins
            raise ChildProcessError(f"{SCRIPT.name} ended with exit code {self.process.wait()} before it had begun")
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()

    def holds(self) -> dict[str, float]:
        """MiB of its own and of files in memory, open file handles, threads."""
        place = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        return {
            "own MiB": int(status["RssAnon"].split()[0]) / 1024,
            "file MiB": int(status["RssFile"].split()[0]) / 1024,
            "handles": len(list((place / "fd").iterdir())),
            "threads": int(status["Threads"]),
        }

    def images_per_second(self) -> float:
        """What it did until it was stopped."""
        content = checkpoints.load(checkpoints.existing(Path(self.folder.name) / "checkpoints" / "cnn")[-1])
        if content["epoch"] or not content["step"]:
            raise InputError("the dataset is too small, or the time too short, to take a rate inside the first epoch")
        return content["step"] * content["config"]["batch_size"] / content["position"]["epoch_seconds"]


def rate(data: Path, seconds: float, **how) -> float:
    """Images a second of a training that is given so many seconds."""
    with Watched(data, **how) as training:
        time.sleep(seconds)
    return training.images_per_second()


def shared(data: Path, processes: int, seconds: float, rounds: int) -> dict[str, float]:
    """Images a second by one process and by several, with a thread each, in turn."""
    figures: dict[int, list[float]] = {1: [], processes: []}
    for _ in range(rounds):
        for count, rates in figures.items():
            launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count)
            rates.append(rate(data, seconds, launcher=launcher))
            print(f"{count} processes: {rates[-1]:10,.0f} images/s", flush=True)
    one, many = (statistics.median(rates) for rates in figures.values())
    print(f"efficiency {100 * many / one / processes:.1f} %")
    return {"one process": one, f"{processes} processes": many}


def make_up_dataset(folder: Path, size: float) -> None:
    """Random pictures of random classes, so many bytes of them, in the form of a prepared dataset."""
    random, count = np.random.default_rng(0), int(size / CHUNKS / IMAGE_BYTES)
    for number in range(1, CHUNKS + 1):
        images = np.frombuffer(random.bytes(count * IMAGE_BYTES), np.uint8).reshape(count, CANVAS, CANVAS)
        labels = random.integers(len(etl9g_classes()), size=count, dtype=np.int16)
        sets = ((number - 1) * SETS_PER_FILE + np.arange(count) * SETS_PER_FILE // count).astype(np.int16)
        np.savez(folder / CHUNK_NAME.format(number), images=images, labels=labels, sets=sets)
    write_mapping(folder)
    metadata = {
        "source": "random bytes",
        "generator": "random bytes",
        "samples": CHUNKS * count,
        "classes": len(etl9g_classes()),
        "normalisation": {"contract": CONTRACT, "version": 1, "canvas": CANVAS, "content": CONTENT},
        "splits": split_sets(list(range(CHUNKS * SETS_PER_FILE))),
        "files": [{"file": f"ETL9G_{n:02d}", "records": count} for n in range(1, CHUNKS + 1)],
    }
    write_text(folder / METADATA_FILE, json.dumps(metadata))


@contextlib.contextmanager
def memory_limit(size: float) -> Iterator[Path]:
    """A control group whose processes, with the files that they read, have so many bytes of memory."""
    root = Path("/sys/fs/cgroup")
    second = (root / "cgroup.controllers").is_file()
    group = root / ("" if second else "memory") / f"benchmark{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(int(size)))
    except OSError as error:
        raise InputError(f"{group}: {error.strerror}: a memory limit takes Linux's control groups, and root") from None
    try:
        yield group
    finally:
        group.rmdir()


def forget(folder: Path) -> None:
    """Has the system drop the folder's files from memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remember(folder: Path) -> None:
    """Has the system read the folder's files into memory."""
    for path in folder.iterdir():
        path.read_bytes()


def larger_than_memory(scratch: Path, memory: float, seconds: float, rounds: int) -> dict[str, float]:
    """Images a second from a made-up dataset four times as large as the memory, and from the same one in memory."""
    figures: dict[str, list[float]] = {"in memory": [], f"in {memory / GIB:g} GiB": []}
    with tempfile.TemporaryDirectory(dir=scratch) as name, memory_limit(memory) as group:
        make_up_dataset(data := Path(name), TIMES_LARGER * memory)
        for _ in range(rounds):
            for (told, rates), limit in zip(figures.items(), (None, group), strict=True):
                forget(data) if limit else remember(data)
                rates.append(rate(data, seconds, group=limit))
                print(f"{told:<12} {rates[-1]:10,.0f} images/s", flush=True)
    free, limited = (statistics.median(rates) for rates in figures.values())
    print(f"{100 * limited / free:.1f} % of the rate in memory")
    return {"in memory": free, "limited": limited}


def soak(data: Path, minutes: float, looks: int = 20) -> list[dict[str, float]]:
    """What a training holds, from its second epoch on or from its start, looked at so many times."""
    found: list[dict[str, float]] = []
    flags = ("--epochs", 10_000, "--checkpoint-minutes", 1, "--keep-last-n", 2)
    with Watched(data, *flags) as training:
        for look in range(looks + 1):
            found.append({"minute": look * minutes / looks, **training.holds()})
            if not look:
                print("  ".join(f"{name:>9}" for name in found[0]))
            print("  ".join(f"{value:9,.1f}" for value in found[-1].values()), flush=True)
            if look < looks:
                time.sleep(60 * minutes / looks)
    return found
