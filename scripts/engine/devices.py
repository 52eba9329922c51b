"""The device a training runs on: which one, how precisely and how randomly it computes, and what it cannot do."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import numpy as np
import torch

from engine import processes
from files.command_line import InputError, first_line
from optimization_config import OptimizationConfig


def choose_device(name: str) -> torch.device:
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        if device.type == "cuda" and processes.count() > 1:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # it is the current one that is seeded
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used here: {first_line(error)}") from None
    return device


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than fp32 ones on this device (tensor cores, AMX, AVX512-BF16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # no public names yet
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in features)


def uses_bf16(config: OptimizationConfig, device: torch.device) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and fast_bf16(device))


def compiles_well(device: torch.device) -> bool:
    """Whether torch.compile can work on this device and is worth its time: its code for GPUs needs Triton."""
    gpu = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    return gpu and torch.cuda.get_device_capability(device) >= (7, 0)


def derive_seed(*numbers: int) -> int:
    """A seed that depends on all of these, in 32 bits: PyTorch's generator on a CPU takes no more."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_generators(number: int, device: torch.device) -> None:
    """Seeds the generators of the CPU and of one device; torch.manual_seed looks for those of every kind of device."""
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)


def autocast(config: OptimizationConfig, device: torch.device) -> torch.autocast:
    """Mixed precision as --precision says."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(config, device))


@contextlib.contextmanager
def explain_device_errors(config: OptimizationConfig) -> Iterator[None]:
    """Turns what a device or its compiler cannot do into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise MemoryError(f"on the device for --batch-size {config.batch_size}: try a smaller one") from None
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise InputError(f"the model cannot be compiled here ({first_line(error):.200}): try --no-compile") from None
