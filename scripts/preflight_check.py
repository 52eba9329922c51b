"""Check that everything is here to train: Python, packages, device, memory, disk, raw files, prepared dataset.

    python scripts/preflight_check.py

One line for each check: ok, note (training can start all the same) or MISSING, with the command that mends it. Exit
code 0 if training can start, 1 if not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from files.command_line import InputError, first_line, parser, run
from files.machine import available_memory, cores
from files.packages import fits, installed, required

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
INSTALL = "pip install -r requirements.txt"
UPGRADE = "pip install --upgrade -r requirements.txt"
WIDTH = 80
GB = 1e9
RAW_FILE, CHUNK = 0.1 * GB, 0.05 * GB  # of 12,144 samples: as raw records, and prepared
RAW_NAME = "ETL9G_[0-9][0-9]"
ALL_FILES, STANDIN_FILES = 50, 5  # ETL9G has 50; 20 data sets of stand-in make 5
MODELS = 1 * GB  # checkpoints of one run, and some models
TRAINING_MEMORY = 4 * GB  # the whole ETL9G trains in that


@dataclass
class Check:
    """What a check shows: "ok", "note" or "MISSING", its subject, what there is, and the command that mends it."""

    status: str
    subject: str
    finding: str
    command: str | None = None

    def __str__(self) -> str:
        """The check in aligned columns, folded where it is long."""
        start = f"{self.status:<9}{self.subject:<24}"
        fold = textwrap.TextWrapper(WIDTH, start, " " * len(start), break_on_hyphens=False, break_long_words=False)
        return fold.fill(self.finding)


def python_version() -> Check:
    version = "{}.{}.{}".format(*sys.version_info)
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("ok", "Python", version)
    return Check("MISSING", "Python", "{} is older than {}.{}: install a newer one".format(version, *OLDEST_PYTHON))


def package(name: str, bound: str) -> Check:
    """Of a package of the requirements, with what `files.packages.required` says of its version."""
    version, distribution = installed(name)
    if not version:
        return Check("MISSING", name, "is not installed", INSTALL)
    here = version if distribution == name else f"{version} ({distribution})"
    exact, number = bound.startswith("=="), bound[2:]
    if not fits(version, bound):
        return Check("MISSING", name, f"{here} is {'not' if exact else 'older than'} {number}", UPGRADE)
    return Check("ok", name, here + (f", at least {number}" if bound and not exact else ""))


def attempt(subject: str, check: Callable[..., Check], *folders: Path) -> Check:
    """The check, or what keeps it from being made: a package that it needs is missing or broken."""
    try:
        return check(*folders)
    except (ImportError, OSError) as error:  # OSError: a library that a package brings does not load
        return Check("MISSING", subject, f"cannot be checked: {first_line(error)}", INSTALL)


def device() -> Check:
    """What training would run on."""
    import torch

    from engine.devices import fast_bf16

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    speed = "bf16" if fast_bf16(torch.device(kind)) else "fp32"
    if kind == "cuda":
        card, count = torch.cuda.get_device_properties(0), torch.cuda.device_count()
        more = f", one of {count}" if count > 1 else ""
        return Check("ok", "device", f"{card.name}, {card.total_memory / GB:.0f} GB, {speed}{more}")
    speed = speed.replace("bf16", "fast bf16")
    return Check("ok", "device", f"CPU, {cores()} core{'s'[: cores() != 1]}, {speed}; no GPU that PyTorch can use")


def memory() -> Check:
    free = available_memory()
    if free is None:
        return Check("note", "memory", "this system does not say how much is free; 4 GB are enough")
    need = f"; the whole ETL9G needs {TRAINING_MEMORY / GB:.0f}, a stand-in less" if free < TRAINING_MEMORY else ""
    return Check("note" if need else "ok", "memory", f"{free / GB:.1f} GB free{need}")


def existing_parent(folder: Path) -> Path:
    return next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.is_dir())


def raw_paths(etl9g_dir: Path) -> list[Path]:
    """The raw files that are there, whatever is in them: the real ones, or else the stand-in's."""
    return list(etl9g_dir.glob(RAW_NAME)) or list((etl9g_dir / "standin").glob(RAW_NAME))


def disk(etl9g_dir: Path, data_dir: Path, model_dir: Path) -> Iterator[Check]:
    """One check for each file system that something has still to be written to."""
    chunks = len(list(data_dir.glob("etl9g_dataset_chunk_*.npz")))
    raw = max(chunks, len(raw_paths(etl9g_dir)))  # who has the dataset needs the raw files no more
    least, most = (
        {etl9g_dir: RAW_FILE * max(0, files - raw), data_dir: CHUNK * max(0, files - chunks), model_dir: MODELS}
        for files in (raw or STANDIN_FILES, ALL_FILES)
    )
    systems: dict[int, list[Path]] = {}
    for folder in (etl9g_dir, data_dir, model_dir):
        systems.setdefault(existing_parent(folder).stat().st_dev, []).append(folder)
    for folders in systems.values():
        free = shutil.disk_usage(existing_parent(folders[0])).free
        now, whole = (sum(needed[folder] for folder in folders) for needed in (least, most))
        room = f"{free / GB:.1f} GB free for {', '.join(map(str, folders))}"
        if free < now:
            remedy = "free some space, or use another disk"
            yield Check("MISSING", "disk", f"{room}; {now / GB:.1f} GB are needed: {remedy}")
            continue
        room += ": enough for what is here" if free < whole else ""
        yield Check("note" if free < whole else "ok", "disk", f"{room}; the whole ETL9G needs {whole / GB:.1f} GB")


def unwritable(folder: Path) -> Iterator[Check]:
    """What keeps a folder from being written to, if anything does."""
    if any(p.exists() and not p.is_dir() for p in (folder, *folder.parents)):
        yield Check("MISSING", "models", f"{folder} is, or lies in, a file: give a folder with --model-dir")
    elif not os.access(parent := existing_parent(folder), os.W_OK):
        yield Check("MISSING", "models", f"{parent} may not be written to: give another folder with --model-dir")


def raw_files(etl9g_dir: Path) -> Check:
    """Whether the raw files are whole, and of one source."""
    from records.etl9g import find_raw, read_records, standin_mark

    try:
        paths = find_raw(etl9g_dir)
    except InputError as error:
        return Check("MISSING", "raw files", str(error))
    except FileNotFoundError:
        standin = f"python scripts/synthesize_etl9g.py --sets 20 --out {shlex.quote(str(etl9g_dir / 'standin'))}"
        missing = f"none in {etl9g_dir}: put the real files there, or make a stand-in"
        return Check("MISSING", "raw files", missing, standin)
    contents = [read_records(path) for path in paths]
    problems = [problem for _, problem in contents if problem]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Check("MISSING", "raw files", f"{problems[0]}{more}: get it again")
    marks = sorted({standin_mark(records) or "real ETL9G" for records, _ in contents})
    if len(marks) > 1:
        return Check("MISSING", "raw files", f"{paths[0].parent} mixes {' and '.join(marks)}: keep them apart")
    whole = f"{len(paths)} in {paths[0].parent}, sizes right ({marks[0]})"
    if marks == ["real ETL9G"] and len(paths) < ALL_FILES:
        return Check("note", "raw files", f"{whole}; the whole ETL9G has {ALL_FILES}")
    return Check("ok", "raw files", whole)


def dataset(etl9g_dir: Path, data_dir: Path) -> Check:
    """Whether the prepared dataset can be read, and whether it holds all raw files that are there."""
    from data.prepared import METADATA_FILE, SPLITS, PreparedDataset

    folders = (shlex.quote(str(folder)) for folder in (etl9g_dir, data_dir))
    command = "python scripts/prepare_dataset.py --etl9g-dir {} --output-dir {}".format(*folders)
    if not (data_dir / METADATA_FILE).is_file():
        return Check("MISSING", "dataset", f"{data_dir} is not a prepared dataset", command)
    try:
        data = PreparedDataset(data_dir)
        data.check_images()
    except (InputError, OSError) as error:
        return Check("MISSING", "dataset", first_line(error), command)
    sizes = ", ".join(f"{len(data.splits[name]):,} {name}" for name in SPLITS)
    whole = f"{len(data.labels):,} samples of {len(data.classes):,} classes in {data_dir} ({data.source}): {sizes}"
    lacking = sorted({path.name for path in raw_paths(etl9g_dir)} - {row["file"] for row in data.metadata["files"]})
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return Check("note", "dataset", f"{whole}; without {lacking[0]}{more}, which came later", command)
    return Check("ok", "dataset", whole)


def all_checks(etl9g_dir: Path, data_dir: Path, model_dir: Path) -> Iterator[Check]:
    """One after the other; an old Python ends them, as its packages say nothing of another's."""
    yield (python := python_version())
    if python.status == "MISSING":
        return
    for name, bound in required(REQUIREMENTS).items():
        yield package(name, bound)
    yield attempt("device", device)
    yield memory()
    yield from disk(etl9g_dir, data_dir, model_dir)
    yield from unwritable(model_dir)
    raw = attempt("raw files", raw_files, etl9g_dir)
    prepared = attempt("dataset", dataset, etl9g_dir, data_dir)
    if raw.status == "MISSING" and prepared.status != "MISSING":
        raw.status = "note"  # the dataset is there already
    yield from (raw, prepared)


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="folder of the raw files (default ETL9G)")
    flags.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    flags.add_argument("--model-dir", type=Path, default=Path("models"), help="where models go (default models)")
    arguments = flags.parse_args()
    missing, commands = 0, [None]
    for check in all_checks(arguments.etl9g_dir, arguments.data_dir, arguments.model_dir):
        print(check, flush=True)
        missing += check.status == "MISSING"
        if check.command not in commands:
            print(f"    {check.command}", flush=True)
            commands.append(check.command)
    if missing:
        print(f"\ntraining cannot start yet: {missing} {'thing is' if missing == 1 else 'things are'} missing")
        sys.exit(1)
    data, models = (shlex.quote(str(folder)) for folder in (arguments.data_dir, arguments.model_dir))
    print(f"\ntraining can start:\n  python scripts/train_etl9g_model.py --data-dir {data} --model-dir {models}")


if __name__ == "__main__":
    run(main)
