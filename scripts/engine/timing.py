"""Seconds that actions take, timed in turn, so that a noisy machine disturbs all alike."""

import statistics
import time
from collections.abc import Callable

import torch


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
