"""Samples drawn as training goes: each epoch other sets by other people, a function of (seed, epoch) alone."""

import copy
import hashlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch

from characters.kinds import is_hiragana
from data.prepared import PreparedDataset, Split
from files.command_line import InputError
from files.machine import MOST_PROCESSES, PROCESSES
from handwriting.fonts import find_fonts
from handwriting.standin import draw_samples, start_drawer
from handwriting.writer import GENERATOR_VERSION
from optimization_config import OptimizationConfig
from records.etl9g import STANDIN_MARK, set_layout
from structure.kanjivg import has_strokes

SHEET = 152  # characters
LOOK_EVERY = 0.2  # seconds, for a signal while samples are waited for


def sheets_of(characters: str) -> list[str]:
    """The characters of one set, sheet by sheet: each on its sheet of ETL9G, those that it lacks on further ones."""
    order, sheets, _ = set_layout()
    known = ["".join(c for c in np.array(list(order))[sheets == s] if c in characters) for s in np.unique(sheets)]
    others = "".join(c for c in characters if c not in order)
    return [*known, *(others[begin : begin + SHEET] for begin in range(0, len(others), SHEET))]


class FreshSets:
    """The samples of each epoch: whole sets, with hiragana as often as --hiragana-repeats says, no sample twice.

    Processes of their own draw them: those of the next epoch while this one trains. `labels` (n,) are those of every
    epoch.
    """

    def __init__(self, classes: str, held_out: str, config: OptimizationConfig):
        shown = "".join(char for char in classes if char not in held_out)
        if lacking := [char for char in shown if not has_strokes(char)]:
            raise InputError(f"--fresh cannot draw {lacking[0]}: KanjiVG has no strokes for it")
        self.fonts = find_fonts([Path(config.font)] if config.font else [], config.font_share)
        self.seed, self.epochs = config.seed, config.epochs
        self.processes = min(config.drawing_processes or max(1, PROCESSES - 1), MOST_PROCESSES)
        kana = "".join(filter(is_hiragana, shown))
        self.per_epoch = config.fresh * config.hiragana_repeats  # numbers of sets; the last ones are hiragana alone
        wanted = [shown if number < config.fresh else kana for number in range(self.per_epoch)]
        sheets = {characters: sheets_of(characters) for characters in (shown, kana)}
        self.jobs = [(i, s, on) for i, chars in enumerate(wanted) for s, on in enumerate(sheets[chars]) if on]
        label_of = {char: label for label, char in enumerate(classes)}
        self.labels = torch.tensor([label_of[char] for _, _, on in self.jobs for char in on])
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[int, list[Future]] = {}

    @property
    def facts(self) -> dict[str, str]:
        """What checkpoints say of these samples: their source, and by what exactly they were drawn."""
        source = f"{STANDIN_MARK.decode()}, drawn as training went, generator version {GENERATOR_VERSION}"
        hashes = [(path.stem, hashlib.sha256(path.read_bytes()).hexdigest()[:8]) for path in self.fonts.paths]
        fonts = ", ".join(map(" ".join, hashes))
        return {"source": source, "generator": f"{source}; fonts: {fonts or 'none'}"}

    def begin(self, epoch: int) -> None:
        """Has the samples of an epoch drawn, unless they are already."""
        if epoch in self._coming or epoch >= self.epochs:
            return
        if not self._pool:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
            self._pool = ProcessPoolExecutor(self.processes, spawn, start_drawer, (self.fonts,))
        first = epoch * self.per_epoch
        draw = [(self.seed, first + number, sheet, on) for number, sheet, on in self.jobs]
        self._coming[epoch] = [self._pool.submit(draw_samples, *arguments) for arguments in draw]

    def images(self, epoch: int, stopped: Callable[[], int]) -> torch.Tensor | None:
        """The samples of an epoch, uint8 (n, 1, 64, 64), once they are all drawn, or None if a signal came before."""
        self.begin(epoch)
        while wait(self._coming[epoch], LOOK_EVERY).not_done:
            if stopped():
                return None
        parts = [drawn.result() for drawn in self._coming.pop(epoch)]
        self.begin(epoch + 1)
        return torch.from_numpy(np.concatenate(parts)[:, None])

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


def with_fresh_training(dataset: PreparedDataset, fresh: FreshSets) -> PreparedDataset:
    """The same dataset with samples that are drawn anew in place of its training split."""
    changed, facts = copy.copy(dataset), fresh.facts
    changed.splits = dataset.splits | {"train": Split(np.zeros(len(fresh.labels), np.int64), fresh.labels)}
    changed.source, changed.metadata = facts["source"], dataset.metadata | {"generator": facts["generator"]}
    return changed
