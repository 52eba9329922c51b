"""Which samples are shown, in which order, and batches of them on the device; a model's accuracy over a split."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from characters.kinds import is_kanji
from data.fresh import FreshSets
from data.prepared import IMAGE_BYTES, PreparedDataset
from engine import processes
from engine.devices import autocast, derive_seed
from files.command_line import InputError
from optimization_config import OptimizationConfig

EVALUATION_BATCH = 512
AHEAD = 4  # batches that are being read from the disk while one is worked on


class Batches:
    """Batches of one split on the device: from memory-mapped chunks, resident on a GPU with room, or newly drawn."""

    def __init__(self, dataset: PreparedDataset, split: str, device: torch.device, fresh: FreshSets | None = None):
        self.dataset, self.split, self.device = dataset, dataset.splits[split], device
        self.fresh, self.epoch = fresh, -1  # the epoch whose samples are there
        self.labels = self.split.labels.to(device)
        room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else -1
        fits = not fresh and len(self.split) * IMAGE_BYTES <= room
        self.resident = dataset.images(self.split.positions).to(device) if fits else None

    def __len__(self) -> int:
        return len(self.split)

    def begin(self, epoch: int, stopped: Callable[[], int]) -> bool:
        """Waits for the samples of an epoch where they are drawn for it; whether they are there, and no signal came."""
        if self.fresh and epoch != self.epoch:
            self.resident = None  # its memory is for those that come
            if (images := self.fresh.images(epoch, stopped)) is None:
                return False
            self.resident, self.epoch = images.to(self.device), epoch
        return True

    def in_turn(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yields lists of rows; meanwhile the images of those that come next are read from the disk."""
        for number, rows in enumerate(parts):
            if self.resident is None:
                for coming in parts[number + AHEAD if number else 0 : number + AHEAD + 1]:
                    self.dataset.expect(self.split.positions[coming.numpy()])
            yield rows

    def get(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 (n, 1, 64, 64) and labels (n,) of these rows of the split."""
        if self.resident is not None:
            rows = rows.to(self.device, non_blocking=True)
            return self.resident[rows], self.labels[rows]
        return self.dataset.images(self.split.positions[rows.numpy()]).to(self.device), self.labels[rows]


class Sampling:
    """Which samples a run shows: what is no kanji several times an epoch, as there is little of it.

    rows (n,): those of the training split, once for each time that they are shown in an epoch; validation_rows (m,).
    """

    def __init__(self, dataset: PreparedDataset, config: OptimizationConfig):
        labels = dataset.splits["train"].labels
        if not len(labels):
            raise InputError(f"{config.data_dir} has no training samples: make more sets")
        self.rows, self.images = torch.arange(len(labels)), len(labels)
        self.validation_rows = torch.arange(len(dataset.splits["validation"].labels))
        if not config.fresh:  # whose sets hold them as often already
            again = self.rows[torch.tensor([not is_kanji(char) for char in dataset.classes])[labels]]
            self.rows = torch.cat([self.rows, again.repeat(config.hiragana_repeats - 1)])
        samples = min(config.epoch_samples or len(self.rows), len(self.rows))
        self.batch_size = min(config.batch_size, samples)
        if self.batch_size < 2:
            raise InputError("one sample an epoch is too few: batch norm needs two")
        if self.batch_size < processes.count():
            raise InputError(f"--batch-size {self.batch_size} is too small for {processes.count()} processes")
        self.steps_per_epoch = samples // self.batch_size

    def batches(self, seed: int, epoch: int, first_step: int = 0) -> list[torch.Tensor]:
        """This process's rows of each batch of an epoch, from a step on; the order depends on (seed, epoch) alone."""
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        parts = order[: self.steps_per_epoch * self.batch_size].split(self.batch_size)[first_step:]
        return [part[processes.own_rows()] for part in parts]


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches, rows: torch.Tensor, config: OptimizationConfig) -> dict[str, float]:
    """Cross entropy, top-1 and top-5 (in %) over these rows of a split."""
    was_training = model.training
    model.eval()
    exact = torch.float32 if batches.device.type == "mps" else torch.float64  # which Apple's GPUs lack
    totals = torch.zeros(3, dtype=exact, device=batches.device)
    own = rows[processes.own_rows()]
    for part in batches.in_turn(own.split(EVALUATION_BATCH) if len(own) else ()):
        images, labels = batches.get(part)
        with autocast(config, batches.device):
            logits = model(to_input(images)).float()
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([loss.to(exact), hits[:, 0].sum(), hits.sum()])
    model.train(was_training)
    loss, top1, top5 = (processes.all_sum(totals) / len(rows)).tolist()
    return {"loss": loss, "top1": 100 * top1, "top5": 100 * top5}


def to_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to the models' input: float32 (N, 1, 64, 64), ink 1 on paper 0."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)
