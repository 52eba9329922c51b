"""Seconds that actions take, timed in turn, so that a noisy machine disturbs all alike."""

import statistics
import time
from collections.abc import Callable

import torch

TAKEN = 1.2  # as fast on one thread fewer: noise makes less


def clock(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def interleaved(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each action, all of them once in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for round_number in range(rounds + 2):
        for name, action in actions.items():
            taken = clock(action)
            if round_number >= 2:  # the first two warm up
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def core_is_taken() -> bool:
    """Whether another program has a core now. All threads of PyTorch wait for the one that shares it, so that matrices
    are multiplied faster on one thread fewer."""
    threads, matrix = torch.get_num_threads(), torch.ones(512, 512)

    def multiply(count: int) -> None:
        torch.set_num_threads(count)
        for _ in range(10):
            matrix @ matrix

    seconds = interleaved({n: lambda n=n: multiply(n) for n in (max(1, threads - 1), threads)}, 20)
    return threads > 1 and seconds[threads] > TAKEN * seconds[threads - 1]
