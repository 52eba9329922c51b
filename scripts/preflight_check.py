"""Check that everything is here to train: Python, packages, device, memory, disk, raw files, prepared dataset.

    python scripts/preflight_check.py

One line for each check: ok, note (training can start all the same) or MISSING, with the command that mends it. Exit
code 0 if training can start, 1 if not.
"""

import argparse
import importlib.metadata
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from files.command_line import InputError, first_line, run
from files.workers import cores

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
OTHER_BUILDS = {  # distributions that bring the same module as the one required
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
INSTALL = "pip install -r requirements.txt"
UPGRADE = "pip install --upgrade -r requirements.txt"
WIDTH = 80
GB = 1e9
RAW_FILE, CHUNK = 0.1 * GB, 0.05 * GB  # of 12,144 samples: as raw records, and prepared
ALL_FILES, STANDIN_FILES = 50, 5  # ETL9G has 50; 20 data sets of stand-in make 5
MODELS = 1 * GB  # checkpoints of one run, and some models
TRAINING_MEMORY = 4 * GB  # the whole ETL9G trains in that


@dataclass
class Check:
    """What a check found: "ok", "note" or "MISSING", the subject, what there is, and the command that mends it."""

    status: str
    subject: str
    found: str
    command: str | None = None


def python_version() -> Check:
    found = "{}.{}.{}".format(*sys.version_info)
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("ok", "Python", found)
    return Check("MISSING", "Python", "{} is older than {}.{}: install a newer one".format(found, *OLDEST_PYTHON))


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with: (2, 11, 0) of "2.11.0+cu128"."""
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0]))


def is_older(version: str, bound: str) -> bool:
    found, least = release(version), release(bound)
    length = max(len(found), len(least))
    return found + (0,) * (length - len(found)) < least + (0,) * (length - len(least))


def required_packages(path: Path) -> dict[str, str]:
    """Of a requirements file {name: the least version, "==" before it where it is to be that one, "" for any}."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this toolkit is not whole, get it again")
    packages = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*([^;#]*)", line):
            bound = re.search(r"(==|[>~]=)\s*([0-9.]+)", match[2])
            packages[match[1]] = ("==" if bound[1] == "==" else "") + bound[2] if bound else ""
    return packages


def package(name: str, bound: str) -> Check:
    for distribution in (name, *OTHER_BUILDS.get(name, ())):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        told = version if distribution == name else f"{version} ({distribution})"
        if bound.startswith("==") and release(version) != release(bound[2:]):
            return Check("MISSING", name, f"{told} is not {bound[2:]}", UPGRADE)
        if bound.startswith("=="):
            return Check("ok", name, told)
        if bound and is_older(version, bound):
            return Check("MISSING", name, f"{told} is older than {bound}", UPGRADE)
        return Check("ok", name, told + (f", at least {bound}" if bound else ""))
    return Check("MISSING", name, "is not installed", INSTALL)


def load(*names: str):
    """Modules of this toolkit. Raises ImportError with one line if a package that they need is missing or broken."""
    try:
        return [importlib.import_module(name) for name in names]
    except (ImportError, OSError) as error:  # OSError: a library that a package brings does not load
        raise ImportError(f"cannot be checked: {first_line(error)}") from error


def device() -> Check:
    """What training would run on."""
    try:
        torch, devices = load("torch", "engine.devices")
    except ImportError as error:
        return Check("MISSING", "device", str(error), INSTALL)
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        more = f", one of {torch.cuda.device_count()}" if torch.cuda.device_count() > 1 else ""
        speed = "bf16" if devices.fast_bf16(torch.device("cuda")) else "fp32"
        return Check("ok", "device", f"{facts.name}, {facts.total_memory / GB:.0f} GB, {speed}{more}")
    speed = "fast bf16" if devices.fast_bf16(torch.device("cpu")) else "fp32"
    return Check("ok", "device", f"CPU, {cores()} core{'s'[: cores() != 1]}, {speed}; no GPU that PyTorch can use")


def available_memory() -> float | None:
    """Bytes that a new process can have, or None where the system does not tell."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(1024.0 * int(line.split()[1]))
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            limits.append(int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except OSError:
        pass  # not Linux, or no limit on this group: what was read until here counts
    if not limits and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    return min(limits, default=None)


def memory() -> Check:
    free = available_memory()
    if free is None:
        return Check("note", "memory", "this system does not tell how much is free; 4 GB are enough")
    told = f"{free / GB:.1f} GB free"
    if free < TRAINING_MEMORY:
        return Check("note", "memory", f"{told}; the whole ETL9G needs {TRAINING_MEMORY / GB:.0f}, a stand-in less")
    return Check("ok", "memory", told)


def existing_parent(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def count_files(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern))) if folder.is_dir() else 0


def disk(etl9g_dir: Path, data_dir: Path, model_dir: Path) -> Iterator[Check]:
    """One check for each file system that something has still to be written to."""
    raw = count_files(etl9g_dir, "ETL9G_[0-9][0-9]") or count_files(etl9g_dir / "standin", "ETL9G_[0-9][0-9]")
    chunks = count_files(data_dir, "etl9g_dataset_chunk_*.npz")

    def needed(files: int) -> dict:
        return {
            etl9g_dir: RAW_FILE * max(0, files - max(raw, chunks)),
            data_dir: CHUNK * max(0, files - chunks),
            model_dir: MODELS,
        }

    systems: dict = {}
    for folder in (etl9g_dir, data_dir, model_dir):
        systems.setdefault(existing_parent(folder).stat().st_dev, []).append(folder)
    for folders in systems.values():
        free = shutil.disk_usage(existing_parent(folders[0])).free
        least, most = (
            sum(needed(files)[f] for f in folders) for files in (max(raw, chunks) or STANDIN_FILES, ALL_FILES)
        )
        told = f"{free / GB:.1f} GB free for {', '.join(map(str, folders))}"
        if free < least:
            yield Check(
                "MISSING", "disk", f"{told}; {least / GB:.1f} GB are needed: free some space, or use another disk"
            )
        elif free < most:
            yield Check("note", "disk", f"{told}: enough for what is here, the whole ETL9G needs {most / GB:.1f} GB")
        else:
            yield Check("ok", "disk", f"{told}; the whole ETL9G needs {most / GB:.1f} GB")


def unwritable(folder: Path) -> Check | None:
    """What keeps a folder from being written to, if anything does."""
    parent = existing_parent(folder)
    if any(p.exists() and not p.is_dir() for p in (folder, *folder.parents)):
        return Check("MISSING", "models", f"{folder} is, or lies in, a file: give a folder with --model-dir")
    if not os.access(parent, os.W_OK):
        return Check("MISSING", "models", f"{parent} may not be written to: give another folder with --model-dir")
    return None


def write_standin(etl9g_dir: Path) -> str:
    return f"python scripts/synthesize_etl9g.py --sets 20 --out {shlex.quote(str(etl9g_dir / 'standin'))}"


def prepare(etl9g_dir: Path, data_dir: Path) -> str:
    folders = (shlex.quote(str(folder)) for folder in (etl9g_dir, data_dir))
    return "python scripts/prepare_dataset.py --etl9g-dir {} --output-dir {}".format(*folders)


def raw_files(etl9g_dir: Path) -> tuple[Check, list[str]]:
    """The check of the raw files, and the names of those that are there."""
    try:
        (etl9g_format,) = load("records.etl9g")
    except ImportError as error:
        return Check("MISSING", "raw files", str(error), INSTALL), []
    try:
        paths = etl9g_format.find_raw(etl9g_dir)
    except InputError as error:
        return Check("MISSING", "raw files", str(error)), []
    except FileNotFoundError:
        missing = f"none in {etl9g_dir}: put the real files there, or make a stand-in"
        return Check("MISSING", "raw files", missing, write_standin(etl9g_dir)), []
    names = [path.name for path in paths]
    found = [etl9g_format.read_records(path) for path in paths]
    problems = [problem for _, problem in found if problem]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Check("MISSING", "raw files", f"{problems[0]}{more}: get it again"), names
    marks = sorted({etl9g_format.standin_mark(records) or "real ETL9G" for records, _ in found})
    if len(marks) > 1:
        return Check("MISSING", "raw files", f"{paths[0].parent} mixes {' and '.join(marks)}: keep them apart"), names
    told = f"{len(paths)} in {paths[0].parent}, sizes right ({marks[0]})"
    if marks == ["real ETL9G"] and len(paths) < ALL_FILES:
        return Check("note", "raw files", f"{told}; the whole ETL9G has {ALL_FILES}"), names
    return Check("ok", "raw files", told), names


def dataset(etl9g_dir: Path, data_dir: Path, raw_names: list[str]) -> Check:
    """The prepared dataset: whether it can be read, and whether it holds all raw files that are there."""
    command = prepare(etl9g_dir, data_dir)
    try:
        (etl9g_dataset,) = load("data.prepared")
    except ImportError as error:
        return Check("MISSING", "dataset", str(error), INSTALL)
    try:
        data = etl9g_dataset.PreparedDataset(data_dir)
        data.check_images()
    except (InputError, OSError) as error:
        if not (data_dir / etl9g_dataset.METADATA_FILE).is_file():
            return Check("MISSING", "dataset", f"{data_dir} is not a prepared dataset", command)
        return Check("MISSING", "dataset", first_line(error), command)
    sizes = ", ".join(f"{len(data.splits[name]):,} {name}" for name in etl9g_dataset.SPLITS)
    told = f"{len(data.labels):,} samples of {len(data.classes):,} classes in {data_dir} ({data.source}): {sizes}"
    lacking = sorted(set(raw_names) - {row["file"] for row in data.metadata["files"]})
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return Check("note", "dataset", f"{told}; without {lacking[0]}{more}, which came later", command)
    return Check("ok", "dataset", told)


def all_checks(etl9g_dir: Path, data_dir: Path, model_dir: Path) -> Iterator[Check]:
    yield python_version()
    for name, bound in required_packages(REQUIREMENTS).items():
        yield package(name, bound)
    yield device()
    yield memory()
    yield from disk(etl9g_dir, data_dir, model_dir)
    if problem := unwritable(model_dir):
        yield problem
    raw, names = raw_files(etl9g_dir)
    prepared = dataset(etl9g_dir, data_dir, names)
    if raw.status == "MISSING" and prepared.status != "MISSING":
        raw.status = "note"  # the dataset is there already
    yield raw
    yield prepared


def line(check: Check) -> str:
    """A check as text in aligned columns, folded where it is long."""
    start = f"{check.status:<9}{check.subject:<24}"
    return textwrap.fill(
        check.found,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=False,
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="folder of the raw files (default ETL9G)")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--model-dir", type=Path, default=Path("models"), help="where models go (default models)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    missing, commands = 0, [None]
    for check in all_checks(arguments.etl9g_dir, arguments.data_dir, arguments.model_dir):
        print(line(check), flush=True)
        missing += check.status == "MISSING"
        if check.command not in commands:
            print(f"    {check.command}", flush=True)
            commands.append(check.command)
    if missing:
        print(f"\ntraining cannot start yet: {missing} {'thing is' if missing == 1 else 'things are'} missing")
        sys.exit(1)
    folders = {"--data-dir": arguments.data_dir, "--model-dir": arguments.model_dir}
    told = " ".join(f"{flag} {shlex.quote(str(folder))}" for flag, folder in folders.items())
    print(f"\ntraining can start:\n  python scripts/train_etl9g_model.py {told}")


if __name__ == "__main__":
    run(main)
