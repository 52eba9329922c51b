"""Samples drawn as training goes: each epoch other sets by other people, a function of (seed, epoch) alone."""

import copy
import hashlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch

from characters.class_lists import FOLDER, class_list
from characters.kinds import is_kanji
from data.drawn import check_drawable
from data.prepared import PreparedDataset, Split
from files.machine import MOST_PROCESSES, PROCESSES, cores
from handwriting.fonts import find_fonts
from handwriting.standin import draw_out_of_set, draw_samples, sheets_of, start_drawer
from handwriting.writer import GENERATOR_VERSION
from optimization_config import OptimizationConfig
from records.etl9g import STANDIN_MARK

LOOK_EVERY = 0.2  # seconds, for a signal while samples are waited for
NONE = -100  # the label of what is none of the classes: PyTorch's cross entropy leaves it out
OUT_OF_SET = 128  # drawn by one call
RARE = class_list(str(FOLDER / "rare.txt"))


class FreshSets:
    """The samples of each epoch: whole sets, with kana as often as --hiragana-repeats says, no sample twice in one.

    They are drawn in blocks, by processes of their own: the block that an epoch is the first to show, while the epoch
    before trains, if there are cores for both. An epoch shows --fresh-passes blocks. Only the first set of a block has
    the rare characters (characters/rare.txt). `labels` (n,) are those of every epoch, NONE for --out-of-set.
    """

    def __init__(self, classes: str, config: OptimizationConfig, on_cpu: bool = True):
        check_drawable(classes)
        self.fonts = find_fonts([Path(config.font)] if config.font else [], config.font_share)
        self.seed, self.epochs, self.passes = config.seed, config.epochs, config.fresh_passes
        self.processes = min(config.drawing_processes or PROCESSES, MOST_PROCESSES)
        # Where they took cores from a training on all of them, each thread of it would wait for the slowest.
        self.ahead = not on_cpu or torch.get_num_threads() + self.processes <= cores()
        kana = "".join(char for char in classes if not is_kanji(char))
        common, common_kana = ("".join(char for char in chars if char not in RARE) for chars in (classes, kana))
        whole = config.fresh // self.passes  # sets of a block
        self.sets = whole * config.hiragana_repeats  # with those of what is no kanji
        wanted = [classes, *[common] * (whole - 1), *[common_kana] * (self.sets - whole)]
        sheets = {characters: sheets_of(characters) for characters in set(wanted)}
        self.jobs = [(i, s, on) for i, chars in enumerate(wanted) for s, on in enumerate(sheets[chars]) if on]
        label_of = {char: label for label, char in enumerate(classes)}
        labels = torch.tensor([label_of[char] for _, _, on in self.jobs for char in on])
        count = round(len(labels) * config.out_of_set / (1 - config.out_of_set))
        self.out_of_set = [min(OUT_OF_SET, count - begin) for begin in range(0, count, OUT_OF_SET)]
        self.classes = classes
        self.labels = torch.cat([labels, torch.full((count,), NONE)]).repeat(self.passes)
        self._pool: ProcessPoolExecutor | None = None
        self._coming: dict[int, list[Future]] = {}

    @property
    def facts(self) -> dict[str, str]:
        """What checkpoints say of these samples: their source, and by what exactly they were drawn."""
        source = f"{STANDIN_MARK.decode()}, drawn as training went, generator version {GENERATOR_VERSION}"
        hashes = [(path.stem, hashlib.sha256(path.read_bytes()).hexdigest()[:8]) for path in self.fonts.paths]
        fonts = ", ".join(map(" ".join, hashes))
        return {"source": source, "generator": f"{source}; fonts: {fonts or 'none'}"}

    def begin(self, block: int) -> None:
        """Has a block drawn, unless it is already."""
        if block in self._coming:
            return
        if not self._pool:
            spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
            self._pool = ProcessPoolExecutor(self.processes, spawn, start_drawer, (self.fonts,))
        draw = [(self.seed, block * self.sets + number, sheet, on) for number, sheet, on in self.jobs]
        self._coming[block] = [self._pool.submit(draw_samples, *arguments) for arguments in draw]
        for number, count in enumerate(self.out_of_set):
            arguments = self.seed, block * len(self.out_of_set) + number, count, self.classes
            self._coming[block].append(self._pool.submit(draw_out_of_set, *arguments))

    def images(self, epoch: int, stopped: Callable[[], int]) -> torch.Tensor | None:
        """The samples of an epoch, uint8 (n, 1, 64, 64), once they are all drawn, or None if a signal came before."""
        blocks = range(epoch, epoch + self.passes)
        for block in blocks:
            self.begin(block)
        drawn = [part for block in blocks for part in self._coming[block]]
        while wait(drawn, LOOK_EVERY).not_done:
            if stopped():
                return None
        parts = [part.result() for part in drawn]
        del self._coming[epoch]
        if self.ahead and epoch + 1 < self.epochs:
            self.begin(blocks.stop)
        return torch.from_numpy(np.concatenate(parts)[:, None])

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


def with_fresh_training(dataset: PreparedDataset, fresh: FreshSets) -> PreparedDataset:
    """The same dataset with samples that are drawn during training in place of its training split."""
    changed, facts = copy.copy(dataset), fresh.facts
    changed.splits = dataset.splits | {"train": Split(np.zeros(len(fresh.labels), np.int64), fresh.labels)}
    changed.source, changed.metadata = facts["source"], dataset.metadata | {"generator": facts["generator"]}
    return changed
