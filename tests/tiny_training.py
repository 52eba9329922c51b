"""Trainings of a CNN so narrow that a test has no time to wait, in this process or in one of their own."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from data.prepared import METADATA_FILE
from engine import checkpoints
from train_etl9g_model import CNNConfig

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_etl9g_model.py"

TINY = {"width": 0.25, "embedding": 16, "device": "cpu", "precision": "fp32"}

TINY_FLAGS = ["--width", "0.25", "--embedding", "16", "--device", "cpu", "--precision", "fp32"]


def config(data: Path, models: Path, **changes) -> CNNConfig:
    return CNNConfig(**(TINY | {"data_dir": str(data), "model_dir": str(models), "batch_size": 8} | changes))


def start(cwd: Path, *flags: object) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, *TINY_FLAGS, *map(str, flags)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def weights(models: Path) -> dict[str, torch.Tensor]:
    last = checkpoints.existing(models / "checkpoints" / "cnn")[-1]
    content = checkpoints.load(last)
    return content["model"] | {f"ema.{k}": v for k, v in content["ema"].items()}


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def another_source(folder: Path) -> Path:
    """The same dataset, said to be of other data."""
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8")) | {"source": "ETL9G", "generator": None}
    (folder / METADATA_FILE).write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def finite(path: Path) -> bool:
    content = checkpoints.load(path)
    tensors = [*content["model"].values(), *(content.get("ema") or {}).values()]
    return all(bool(value.isfinite().all()) for value in tensors)
