"""Check that training can start: packages, device, memory, disk and data.

    python scripts/preflight_check.py

Prints one line for each check: ok, note (training can start all the same), or MISSING with a command that helps. The
exit code is 0 if training can start, else 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import textwrap
from collections import namedtuple
from collections.abc import Iterator

from files.command_line import InputError, first_line, parser, run
from files.machine import cores
from files.packages import INSTALL, REQUIREMENTS, release, requirements

MODULES = {"opencv-python-headless": "cv2", "onnxruntime": "onnxruntime"}  # which other distributions bring too
GB = 1e9
CHUNK, STANDIN = 0.05 * GB, 0.75 * GB  # of a raw file, prepared; raw files and dataset of 20 sets of stand-in
MODELS = 1 * GB  # checkpoints of one run, and some models
TRAINING_MEMORY = 4 * GB  # the whole ETL9G trains in that
Check = namedtuple("Check", ["status", "finding", "command"], defaults=[""])


def package(name: str, relation: str, bound: str) -> Check:
    """Of a line of the requirements: name, ">=" or "==", version; both empty where any version will do."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        another = importlib.util.find_spec(MODULES.get(name, "no such module"))
        return Check("ok", "another build of it") if another else Check("MISSING", "is not installed", INSTALL)
    own, needed = release(version), release(bound)
    if own == needed or (own > needed and relation != "=="):
        return Check("ok", version)
    return Check("MISSING", f"{version} is {'not' if relation == '==' else 'older than'} {bound}", INSTALL)


def device(_) -> Check:
    """What training would run on."""
    import torch

    from engine.devices import fast_bf16

    cuda = torch.cuda.is_available()
    speed = "fast bf16" if fast_bf16(torch.device("cuda" if cuda else "cpu")) else "fp32"
    if not cuda:
        return Check("ok", f"CPU, cores: {cores()}, {speed}; no GPU that PyTorch can use")
    card = torch.cuda.get_device_properties(0)
    return Check("ok", f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / GB:.0f} GB, {speed}")


def memory(_) -> Check:
    """What Linux says a new process can have."""
    facts = Path("/proc/meminfo")
    if not facts.is_file():
        return Check("note", "this system does not say how much is free; 4 GB are enough")
    free = 1024 * int(re.findall(r"MemAvailable:\s*(\d+)", facts.read_text(encoding="ascii"))[0])
    status = "ok" if free >= TRAINING_MEMORY else "note"
    return Check(status, f"{free / GB:.1f} GB free; the whole ETL9G needs {TRAINING_MEMORY / GB:.0f}, a stand-in less")


def disk(folders: argparse.Namespace) -> Check:
    """Whether models can be written, and the fullest of the folders' disks has room for what is still to be made."""
    parents = []
    for folder in (folders.etl9g_dir, folders.data_dir, folders.model_dir):
        parents.append(next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists()))
    if not parents[-1].is_dir() or not os.access(parents[-1], os.W_OK):
        return Check("MISSING", f"{parents[-1]} is no folder to write models into: give another one with --model-dir")
    free, needed = min(shutil.disk_usage(path).free for path in parents), MODELS
    if not (folders.data_dir / "metadata.json").is_file():
        needed += CHUNK * len(list(folders.etl9g_dir.rglob("[Ee][Tt][Ll]9[Gg]_[0-9][0-9]"))) or STANDIN
    room = f"{free / GB:.1f} GB free, {needed / GB:.1f} GB needed; the whole ETL9G takes 8.5 GB in all"
    return Check("MISSING" if free < needed else "ok", room)


def raw_files(folders: argparse.Namespace) -> Check:
    """Whether the raw files are whole, and of one source; not needed any more by who has the dataset."""
    from records.etl9g import find_raw, read_records, standin_mark

    missing = "note" if (folders.data_dir / "metadata.json").is_file() else "MISSING"
    try:
        paths = find_raw(folders.etl9g_dir)
    except FileNotFoundError:
        standin = shlex.quote(str(folders.etl9g_dir / "standin"))
        command = f"python scripts/synthesize_etl9g.py --sets 20 --out {standin}"
        return Check(missing, f"none in {folders.etl9g_dir}: put the real files there, or make a stand-in", command)
    except InputError as error:
        return Check(missing, str(error))
    contents = [read_records(path) for path in paths]
    if problems := [problem for _, problem in contents if problem]:
        return Check(missing, f"{problems[0]}: get it again (such files: {len(problems)})")
    marks = sorted({standin_mark(records) or "real ETL9G, 50 files" for records, _ in contents})
    if len(marks) > 1:
        return Check(missing, f"{paths[0].parent} mixes {' and '.join(marks)}: keep them apart")
    return Check("ok", f"{len(paths)} in {paths[0].parent}, sizes right ({marks[0]})")


def dataset(folders: argparse.Namespace) -> Check:
    """Whether the prepared dataset can be read."""
    from data.prepared import METADATA_FILE, SPLITS, PreparedDataset

    etl9g_dir, data_dir = (shlex.quote(str(folder)) for folder in (folders.etl9g_dir, folders.data_dir))
    command = f"python scripts/prepare_dataset.py --etl9g-dir {etl9g_dir} --output-dir {data_dir}"
    if not (folders.data_dir / METADATA_FILE).is_file():
        return Check("MISSING", f"{folders.data_dir} is not a prepared dataset", command)
    try:
        data = PreparedDataset(folders.data_dir)
        data.check_images()
    except (InputError, OSError) as error:
        return Check("MISSING", first_line(error), command)
    sizes = ", ".join(f"{len(data.splits[name]):,} {name}" for name in SPLITS)
    whole = f"{len(data.labels):,} samples of {len(data.classes):,} classes in {folders.data_dir}"
    return Check("ok", f"{whole} ({data.source}): {sizes}")


def all_checks(folders: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    """Subject and check, one after the other."""
    yield "Python", Check("ok", "{}.{}.{}".format(*sys.version_info))
    for name, relation, bound in requirements(REQUIREMENTS):
        yield name, package(name, relation, bound)
    for check in (device, memory, disk, raw_files, dataset):
        try:
            result = check(folders)
        except InputError as error:
            result = Check("MISSING", str(error))
        except (ImportError, OSError) as error:  # a package that it needs is missing, or does not load
            result = Check("MISSING", f"cannot be checked: {first_line(error)}", INSTALL)
        yield check.__name__.replace("_", " "), result


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="the raw files (default ETL9G)")
    flags.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    flags.add_argument("--model-dir", type=Path, default=Path("models"), help="the folder for models (default models)")
    folders = flags.parse_args()
    missing, commands = 0, [""]
    for subject, (status, finding, command) in all_checks(folders):
        start = f"{status:<9}{subject:<24}"
        fold = textwrap.TextWrapper(80, start, " " * len(start), break_on_hyphens=False, break_long_words=False)
        print(fold.fill(finding), flush=True)
        missing += status == "MISSING"
        if command not in commands:
            print(f"    {command}", flush=True)
            commands.append(command)
    if missing:
        print(f"\ntraining cannot start yet; missing: {missing}")
        sys.exit(1)
    data, models = (shlex.quote(str(folder)) for folder in (folders.data_dir, folders.model_dir))
    print(f"\ntraining can start:\n  python scripts/train_etl9g_model.py --data-dir {data} --model-dir {models}")


if __name__ == "__main__":
    run(main)
