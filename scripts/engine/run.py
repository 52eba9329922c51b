"""A training run in progress: the model, what moves its weights, and how far it has come."""

import functools
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

from data.augmentation import augment
from data.fresh import FreshSets, with_fresh_training
from data.prepared import PreparedDataset
from engine import processes
from engine.architecture import Architecture, corrected, distillation
from engine.batches import Batches, Sampling, to_input
from engine.devices import autocast, choose_device, compiles_well, derive_seed, seed_generators
from engine.optimizers import average_weights, learning_rate_factor, make_optimizers
from engine.pretrained import load_teacher, start_from
from files.command_line import InputError, first_line
from files.folders import OutputFolders
from optimization_config import OptimizationConfig

OUT_OF_SET_WEIGHT = 0.5  # of the loss of what is none of the classes (arXiv:1812.04606)


class Run:
    """All state of a training; position.py writes it to a checkpoint and restores it."""

    def __init__(self, architecture: Architecture, config: OptimizationConfig, dataset: PreparedDataset):
        self.architecture, self.config, self.dataset = architecture, config, dataset
        self.started, self.epochs, self.pace = time.monotonic(), config.epochs, 0.0  # seconds of an epoch, once known
        self.device = choose_device(config.device)
        # The script that a checkpoint names is the one that defines the model.
        self.script = Path(sys.modules[architecture.model.__module__].__file__).stem
        self.model_dir = Path(config.model_dir)
        default = self.model_dir / "checkpoints" / architecture.name
        self.checkpoint_dir = Path(config.checkpoint_dir) if config.checkpoint_dir else default
        self.log_dir = self.model_dir / architecture.name
        self.folders = OutputFolders(self.log_dir, self.checkpoint_dir)
        torch.manual_seed(config.seed)
        try:
            model = architecture.model(config, dataset.classes)
        except (TypeError, OverflowError) as error:
            raise InputError(f"no model can be made with these settings: {first_line(error)}") from None
        self.start_message = start_from(model, config, dataset) if config.init_from else ""
        self.model = model.to(self.device, memory_format=torch.channels_last)
        has_teacher = config.teacher and config.distillation
        self.teacher = load_teacher(config, dataset, self.device) if has_teacher else None
        self.fresh = FreshSets(dataset.classes, config, self.device.type == "cpu") if config.fresh else None
        if self.fresh and processes.count() > 1:
            raise InputError("--fresh draws for one process: start the script without torchrun")
        if self.fresh:
            self.dataset = dataset = with_fresh_training(dataset, self.fresh)
        self.training = Batches(dataset, "train", self.device, self.fresh)
        self.validation = Batches(dataset, "validation", self.device)
        self.sampling = Sampling(dataset, config)
        self.optimizers = make_optimizers(self.model, config)
        self.schedulers = [
            torch.optim.lr_scheduler.LambdaLR(o, lambda step: learning_rate_factor(step, self.steps, config))
            for o in self.optimizers
        ]
        self.averaged = average_weights(self.model, config.ema_decay) if config.ema_decay else None
        self.epoch, self.step = 0, 0  # epochs done, steps done of the current epoch
        self.setbacks, self.init_from, self.identity = 0, config.init_from, ""
        self.best, self.metrics = -1.0, {}
        self.epoch_loss, self.epoch_seconds = torch.zeros((), device=self.device), 0.0

    @functools.cached_property
    def forward(self) -> nn.Module:
        """The model as training calls it: compiled, and shared between processes, where that is asked for."""
        use_compile = compiles_well(self.device) if self.config.compile is None else self.config.compile
        model = processes.parallel(self.model)
        return torch.compile(model) if use_compile else model

    @property
    def steps(self) -> int:
        return self.sampling.steps_per_epoch * self.epochs

    @property
    def seconds_left(self) -> float | None:
        """Of --minutes, if they are given, not counting the time in which the run was stopped."""
        return 60 * self.config.minutes - (time.monotonic() - self.started) if self.config.minutes else None

    def plan(self) -> None:
        """With --minutes, plans as many epochs as fit into what is left of them at the pace of the last epoch."""
        if self.config.minutes:
            guess = max(1, self.config.epochs - self.epoch)
            fitting = processes.from_main(lambda: int(self.seconds_left / self.pace)) if self.pace else guess
            self.epochs = self.epoch + max(self.step > 0, fitting)
            if self.fresh:
                self.fresh.epochs = self.epochs

    @property
    def evaluated(self) -> nn.Module:
        """The model whose accuracy counts: the averaged one, if there is one."""
        return self.averaged.module if self.averaged else self.model

    @property
    def best_path(self) -> Path:
        return self.model_dir / self.architecture.best_file

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of images float32 (n, 1, 64, 64); --distillation is the teacher's share of it. What is none of
        the classes, labelled below 0, is to be every class equally (Hendrycks et al. 2019)."""
        output = self.forward(images)
        loss = self.architecture.loss(output, labels, self.config)
        logits = output[0] if isinstance(output, tuple) else output
        if self.config.out_of_set:
            outside = -logits.float().log_softmax(1).mean(1) * (labels < 0)
            loss = loss + OUT_OF_SET_WEIGHT * outside.mean()
        if not self.teacher:
            return loss
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        if self.config.distillation < 1:  # else the labels have no say: QAT is to answer as the float model does
            teacher_logits = corrected(teacher_logits, labels)
        learned = (distillation(logits, teacher_logits) * (labels >= 0)).mean()
        return self.config.distillation * learned + (1 - self.config.distillation) * loss

    def train_step(self, rows: torch.Tensor) -> torch.Tensor:
        """One update of the weights on `rows` (n,) of the training split, this process's part of the batch.

        Returns its part of the batch's mean loss, a scalar on the device that is not synchronised with the CPU.
        """
        config, part = self.config, len(rows) / self.sampling.batch_size
        images, labels = self.training.get(rows)
        seed_generators(derive_seed(config.seed, self.epoch, self.step + 1, processes.rank()), self.device)
        images = augment(to_input(images), config.augmentation)
        with autocast(config, self.device):
            loss = self.loss(images, labels) * part
        (loss * processes.count()).backward()  # DDP takes the mean of the gradients, this makes it their sum
        nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        self.model.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach()

    def check_loss(self) -> None:
        """Raises FloatingPointError if a loss of this epoch was infinite or not a number."""
        if not math.isfinite(loss := float(processes.all_sum(self.epoch_loss))):
            raise self.not_finite(f"the loss became {loss}")

    def check_finite(self) -> None:
        """Raises FloatingPointError if the loss, or anything that a checkpoint holds, is not finite."""
        self.check_loss()
        states = [value for o in self.optimizers for state in o.state.values() for value in state.values()]
        models = [self.model, self.averaged] if self.averaged else [self.model]
        tensors = [*states, *(value for model in models for value in model.state_dict().values())]
        finite = [t.isfinite().all() for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if not torch.stack([f.to(self.device) for f in finite]).all():
            raise self.not_finite("the weights became infinite or not numbers")

    def not_finite(self, what: str) -> FloatingPointError:
        """An error that says what is not finite in the current epoch, and what to do."""
        return FloatingPointError(
            f"{what} in epoch {self.epoch + 1}: continue from the last checkpoint with a lower --learning-rate, "
            "or with --on-nonfinite step-back"
        )
