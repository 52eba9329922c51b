"""TODO doc: from training"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import math
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from data.augmentation import augment
from data.prepared import PreparedDataset
from engine import checkpoints, model_files, optimizers, processes, training_log
from engine.architecture import Architecture
from engine.batches import Batches, evaluate, to_input
from engine.devices import autocast, choose_device, compiles_well, derive_seed, fast_bf16, seed_generators
from engine.optimizers import average_weights, learning_rate_factor, make_optimizers
from engine.stop import Stop
from files.command_line import InputError, first_line
from files.folders import OutputFolders
from optimization_config import OptimizationConfig, own_options, recorded, restored

LOOK_EVERY = 100  # steps; to look at the loss is to wait for the device
MOST_SETBACKS = 5


def distillation(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The cross entropy of logits (N, classes) with the probabilities that a teacher's logits `wanted` give; Hinton et
    al., arXiv:1503.02531, at temperature 1."""
    return F.cross_entropy(logits.float(), wanted.float().softmax(1))


def check_split(path: Path, facts: dict, config: OptimizationConfig, dataset: PreparedDataset | None = None) -> None:
    """Raises InputError for a model that was trained on another split of the data than this run will be; one of other
    data than the dataset's has seen none of it."""
    if dataset and (facts.get("source"), facts.get("generator")) != (dataset.source, dataset.metadata.get("generator")):
        return
    split, seed = facts["config"].get("split", "writer"), facts["config"].get("seed", 0)
    if split != config.split or (split == "random" and seed != config.seed):
        raise InputError(f"{path} was trained with --split {split} --seed {seed}: give the same, or it knows the tests")


def check_held_out(path: Path, facts: dict, held_out: str) -> None:
    """Raises InputError for a model that has seen images of characters that are to be held out."""
    if not held_out:
        return
    architecture = model_files.architecture_of(facts["script"], path)
    try:
        theirs = architecture.held_out(restored(architecture.config, facts["config"]), facts["classes"])
    except ValueError as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from None
    if seen := set(held_out) & set(facts["classes"]) - set(theirs):
        raise InputError(f"{path} has seen {len(seen):,} of the characters that are to be held out")


class Run:
    """A training run in progress: model, average, optimizers, schedules and position, saved and restored together."""

    def __init__(self, architecture: Architecture, config: OptimizationConfig, dataset: PreparedDataset):
        self.architecture, self.config, self.dataset = architecture, config, dataset
        self.device = choose_device(config.device)
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
        self.started = ""  # what is told of a run that begins
        if config.init_from:
            fresh, facts = model_files.start_from(model, dataset.classes, Path(config.init_from))
            check_split(Path(config.init_from), facts, config, dataset)
            check_held_out(Path(config.init_from), facts, architecture.held_out(config, dataset.classes))
            self.started = f"weights of {config.init_from}; new: {', '.join(fresh) or 'nothing'}"
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.teacher = self.load_teacher() if config.teacher and config.distillation else None
        self.training, self.validation = (Batches(dataset, name, self.device) for name in ("train", "validation"))
        if not len(self.training):
            raise InputError(f"{config.data_dir} has no training samples: make more sets")
        hiragana = torch.tensor(["HIRAGANA" in unicodedata.name(c, "") for c in dataset.classes])
        held_out = architecture.held_out(config, dataset.classes)
        shown = torch.tensor([c not in held_out for c in dataset.classes])
        self.shown = torch.nonzero(shown).flatten().to(self.device)
        rows, self.validation_rows = (
            torch.nonzero(shown[dataset.splits[name].labels]).flatten() for name in ("train", "validation")
        )
        again = rows[hiragana[dataset.splits["train"].labels[rows]]]
        self.images = len(rows)
        self.rows = torch.cat([rows, again.repeat(config.hiragana_repeats - 1)])
        epoch_samples = min(config.epoch_samples or len(self.rows), len(self.rows))
        self.batch_size = min(config.batch_size, epoch_samples)
        if self.batch_size < 2:
            raise InputError("one sample an epoch is too few: batch norm has no spread over one sample")
        if self.batch_size < processes.count():
            raise InputError(f"--batch-size {self.batch_size} is too small for {processes.count()} processes")
        self.steps_per_epoch = epoch_samples // self.batch_size
        self.steps = self.steps_per_epoch * config.epochs
        self.optimizers = make_optimizers(self.model, config, fast_bf16(self.device))
        self.schedulers = [
            torch.optim.lr_scheduler.LambdaLR(o, lambda step: learning_rate_factor(step, self.steps, config))
            for o in self.optimizers
        ]
        self.averaged = average_weights(self.model, config.ema_decay) if config.ema_decay else None
        self.epoch, self.step = 0, 0  # epochs done, steps done of the epoch in hand
        self.setbacks, self.init_from = 0, config.init_from
        self.best, self.metrics = -1.0, {}
        self.epoch_loss, self.epoch_seconds = torch.zeros((), device=self.device), 0.0

    def load_teacher(self) -> nn.Module:
        """The model that --teacher names, on the device. Raises InputError for one that cannot teach this run."""
        path = Path(self.config.teacher)
        model, facts = model_files.load_float(path)
        if facts["classes"] != self.dataset.classes:
            raise InputError(f"{path} was trained on other classes than {self.config.data_dir} has")
        check_split(path, facts, self.config, self.dataset)
        return model.to(self.device, memory_format=torch.channels_last)

    @functools.cached_property
    def forward(self) -> nn.Module:
        """The model as it is called in training."""
        use_compile = compiles_well(self.device) if self.config.compile is None else self.config.compile
        model = processes.parallel(self.model, self.batch_size)
        return torch.compile(model) if use_compile else model

    @property
    def evaluated(self) -> nn.Module:
        """The model whose accuracy counts: the averaged one, if there is one."""
        return self.averaged.module if self.averaged else self.model

    def facts(self) -> dict:
        """What every file of this run says about it."""
        return {
            "script": self.script,
            "config": recorded(self.config) | {"init_from": self.init_from},
            "classes": self.dataset.classes,
            "source": self.dataset.source,
            "generator": self.dataset.metadata.get("generator"),
            "versions": {"torch": str(torch.__version__), "python": sys.version.split()[0]},
            "processes": processes.count(),
            "epoch": self.epoch,
            "best": self.best,
            "metrics": self.metrics,
        }

    def save(self) -> Path:
        """Writes a checkpoint of the run as it stands and deletes old ones.

        Raises FloatingPointError instead if the run has nothing left to save, OSError if its folders have vanished.
        """
        self.check_finite()
        self.folders.check()
        path = self.checkpoint_dir / checkpoints.FILE_NAME.format(self.epoch + (self.step > 0))
        epoch_loss = processes.all_sum(self.epoch_loss).cpu()
        if not processes.is_main():
            return path
        rng = {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        state = {
            "step": self.step,
            "setbacks": self.setbacks,
            "position": {"epoch_loss": epoch_loss, "epoch_seconds": self.epoch_seconds},
            "training_samples": len(self.training),
            "model": self.model.state_dict(),
            "ema": self.averaged.module.state_dict() if self.averaged else None,
            "ema_count": int(self.averaged.n_averaged) if self.averaged else 0,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
            "rng": rng,
        }
        checkpoints.save(path, self.facts() | state)
        checkpoints.prune(self.checkpoint_dir, self.config.keep_last_n, path)
        return path

    def check_processes(self) -> None:
        """Raises InputError if the processes were not all told the same, or read other data."""
        settings = {
            k: v for k, v in dataclasses.asdict(self.config).items() if not k.endswith(("_dir", "_from", "_path"))
        }
        told = json.dumps([settings, self.dataset.metadata, self.dataset.classes])
        processes.must_match(told.encode(), "settings and data")

    def checkpoint_to_resume(self) -> tuple[str, dict] | None:
        """The checkpoint to go on from, as --resume-from says, and what it holds, or None for a run that begins. Raises
        InputError for a folder that this run may not use."""
        found, resume = checkpoints.existing(self.checkpoint_dir), self.config.resume_from
        newest, content = self.newest_readable(found)
        if content.get("script", self.script) != self.script:
            other = f"{content['script']}.py"
            raise InputError(f"{self.checkpoint_dir} holds checkpoints of {other}: choose another --checkpoint-dir")
        resuming = resume and (resume == "auto" or Path(resume).resolve().parent == self.checkpoint_dir.resolve())
        if found and not resuming:
            self.delete_earlier_run()
        if not resume or (resume == "auto" and not found):
            self.check_best()
            return None
        path = found[-1] if resume == "auto" else Path(resume)
        try:
            return str(path), content if path == newest else checkpoints.load(path)
        except InputError as error:
            hint = ": delete it to go on from the one before" if resume == "auto" else ""
            raise InputError(f"{error}{hint}") from None

    @staticmethod
    def newest_readable(found: list[Path]) -> tuple[Path | None, dict]:
        """The last of these checkpoints that is not damaged, and what it holds."""
        for path in reversed(found):
            with contextlib.suppress(InputError):
                return path, checkpoints.load(path)
        return None, {}

    def check_best(self) -> None:
        """Raises InputError where this run, which begins, would replace the best model of another.

        One that was stopped before its first checkpoint may have left a best model of its first epoch.
        """
        best = self.model_dir / self.architecture.best_file
        if self.config.overwrite or not best.is_file():
            return
        if self.config.resume_from == "auto":
            content = checkpoints.load(best)
            if content.get("epoch") == 1 and content["config"].get("checkpoint_dir") == self.config.checkpoint_dir:
                return
        raise InputError(f"{best} is an earlier run's: choose another --model-dir, or replace it with --overwrite")

    def delete_earlier_run(self) -> None:
        """Deletes the checkpoints of an earlier run, if --overwrite says so; else raises InputError."""
        if not self.config.overwrite:
            raise InputError(
                f"{self.checkpoint_dir} holds an earlier run: go on with --resume-from auto, begin anew with "
                "--overwrite, or choose another --model-dir"
            )
        checkpoints.prune(self.checkpoint_dir, 0)

    def check_outputs(self) -> None:
        """Makes the folders now: one that cannot be written to must not be found out after an epoch of training."""
        self.model_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.model_dir):  # raises OSError where nothing can be written
            pass
        if self.config.plot and not importlib.util.find_spec("matplotlib"):
            raise InputError("--plot needs the package matplotlib: pip install matplotlib")

    def restore(self, path: Path, content: dict, setbacks: int = 0) -> None:
        """Goes on from what a checkpoint holds, after at least this many setbacks. Raises InputError if it is another
        run's."""
        if content["script"] != self.script:
            raise InputError(f"{path} was made by {content['script']}.py, not by {self.script}.py")
        if "optimizers" not in content:
            raise InputError(f"{path} is a finished model, not a checkpoint: begin from it with --init-from")
        if content["classes"] != self.dataset.classes:
            raise InputError(f"{path} was trained on other classes than {self.config.data_dir} has")
        if content.get("training_samples", len(self.training)) != len(self.training):
            raise InputError(
                f"{path} was trained on {content['training_samples']:,} samples, {self.config.data_dir} has "
                f"{len(self.training):,} for training: begin from its weights with --init-from"
            )
        data = {"source": self.dataset.source, "generator": self.dataset.metadata.get("generator")}
        if changed := [name for name in data if content.get(name) not in {None, data[name]}]:
            told = ", ".join(f"{content[name]} (now {data[name]})" for name in changed)
            raise InputError(f"{path} was trained on other data: {told}; begin from its weights with --init-from")
        # A setting that an older checkpoint does not know had what is now its default.
        saved, now = dataclasses.asdict(type(self.config)()) | content["config"], dataclasses.asdict(self.config)
        for settings in (saved, now):  # a file may be named in more than one way
            for name in ("model_path", "teacher"):
                settings[name] = str(Path(str(settings[name])).resolve()) if settings.get(name) else None
        must_match = [
            *(name for name in own_options(self.config) if name not in self.architecture.loose),
            "batch_size",
            "epoch_samples",
            "hiragana_repeats",
            "optimizer",
            "weight_decay",
            "teacher",
            "distillation",
            "seed",
            "split",
        ]
        if changed := [k for k in must_match if saved.get(k) != now[k]]:
            told = ", ".join(f"--{k.replace('_', '-')} {saved.get(k)} (now {now[k]})" for k in changed)
            raise InputError(f"{path} was trained with other settings: {told}")
        if content["epoch"] > self.config.epochs:
            raise InputError(f"{path} has {content['epoch']} epochs done, more than --epochs {self.config.epochs}")
        try:
            self.model.load_state_dict(content["model"])
            if self.averaged and content["ema"]:
                self.averaged.module.load_state_dict(content["ema"])
                self.averaged.n_averaged.fill_(content["ema_count"])
            for mine, state in zip(self.optimizers, content["optimizers"], strict=True):
                optimizers.restore_optimizer(mine, state)
            done = content["epoch"] * self.steps_per_epoch + content["step"]
            for mine, state in zip(self.schedulers, content["schedulers"], strict=True):
                inside = 0 <= content["step"] < self.steps_per_epoch
                if not inside or not done == state["last_epoch"] <= self.steps:
                    raise ValueError(f"its schedule is at step {state['last_epoch']}, not at {done}")
                mine.load_state_dict(mine.state_dict() | {"last_epoch": done, "_step_count": done + 1})
            self.setbacks = max(setbacks, content.get("setbacks") or 0)
            torch.set_rng_state(content["rng"]["torch"])
            if self.device.type == "cuda" and "cuda" in content["rng"]:
                torch.cuda.set_rng_state(content["rng"]["cuda"], self.device)
            self.epoch, self.step, self.best = content["epoch"], content["step"], content["best"]
            self.metrics, self.init_from = content["metrics"], saved.get("init_from")
            loss = content["position"]["epoch_loss"].to(self.device).reshape(())
            self.epoch_loss = loss if processes.is_main() else torch.zeros_like(loss)
            self.epoch_seconds = float(content["position"]["epoch_seconds"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = first_line(error)
            raise InputError(f"{path} does not fit this run: {reason}") from None
        highest = self.config.learning_rate * 0.5**self.setbacks
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            for group in optimizer.param_groups:  # another --epochs or --learning-rate takes effect at once
                group["initial_lr"] = highest
                group["lr"] = highest * learning_rate_factor(scheduler.last_epoch, self.steps, self.config)
            scheduler.base_lrs = [highest] * len(scheduler.base_lrs)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of these images float32 (n, 1, 64, 64), of which the teacher has its share."""
        output = self.forward(images)
        if not self.teacher:
            return self.architecture.loss(output, labels, self.config)
        with torch.no_grad():
            wanted = self.teacher(images)
        logits = output[0] if isinstance(output, tuple) else output
        if logits.shape[1] < wanted.shape[1]:
            wanted = wanted[:, self.shown]
        share = self.config.distillation
        alone = self.architecture.loss(output, labels, self.config)
        return share * distillation(logits, wanted) + (1 - share) * alone

    def train_step(self, rows: torch.Tensor) -> torch.Tensor:
        """One update on these rows of the training split, of which this process takes its part; returns its part of
        the mean loss, not yet waited for."""
        config, own = self.config, processes.own_rows(len(rows))
        images, labels = self.training.get(rows[own.start :: own.step])
        seed_generators(derive_seed(config.seed, self.epoch, self.step + 1), self.device)  # 0 is as good as no number
        images = augment(to_input(images), config.augmentation, own)
        with autocast(config, self.device):
            loss = self.loss(images, labels) * (len(own) / len(rows))
        (loss * processes.count()).backward()  # of the processes' gradients the mean is taken
        nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        self.model.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach()

    def train_epoch(self, stop: Stop) -> int:
        """Goes on with the epoch in hand to its end, or to where `stop` asks a process to leave it; returns the signal,
        or 0."""
        if self.architecture.on_epoch:
            self.architecture.on_epoch(self.model, self.epoch, self.config)
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, self.epoch))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        self.model.train()
        begin = last_save = time.monotonic()
        before = self.epoch_seconds
        quiet = not (processes.is_main() and sys.stdout.isatty() and sys.stderr.isatty())
        bar = tqdm(
            total=self.steps_per_epoch, initial=self.step, leave=False, disable=quiet, desc=f"epoch {self.epoch + 1}"
        )
        parts = order[: self.steps_per_epoch * self.batch_size].split(self.batch_size)[self.step :]
        for rows in self.training.in_turn(parts, slice(processes.rank(), None, processes.count())):
            self.epoch_loss = self.epoch_loss + self.train_step(rows)
            self.step += 1
            self.epoch_seconds = before + time.monotonic() - begin
            bar.update()
            if self.step % LOOK_EVERY == 0:
                self.check_loss()
            due = time.monotonic() - last_save > 60 * self.config.checkpoint_minutes
            asked, due = processes.all_max(stop.signal, due and processes.is_main())
            if asked:
                break
            if due and self.step < self.steps_per_epoch:
                self.save()
                last_save = time.monotonic()
        bar.close()
        return asked

    def check_loss(self) -> None:
        """Raises FloatingPointError if a loss of this epoch was infinite or not a number."""
        if not math.isfinite(loss := float(processes.all_sum(self.epoch_loss))):
            raise FloatingPointError(self._told(f"the loss became {loss}"))

    def check_finite(self) -> None:
        """Raises FloatingPointError if the loss, or anything that a checkpoint holds, is infinite or not a number."""
        self.check_loss()
        states = [value for o in self.optimizers for state in o.state.values() for value in state.values()]
        models = [self.model, self.averaged] if self.averaged else [self.model]
        tensors = [*states, *(value for model in models for value in model.state_dict().values())]
        finite = [t.isfinite().all() for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if not torch.stack([f.to(self.device) for f in finite]).all():
            raise FloatingPointError(self._told("the weights became infinite or no numbers"))

    def _told(self, what: str) -> str:
        return (
            f"{what} in epoch {self.epoch + 1}: go on from the last checkpoint with a lower --learning-rate, "
            "or with --on-nonfinite step-back"
        )

    def step_back(self, error: FloatingPointError) -> None:
        """Returns to the start of the epoch in hand, with half the learning rate from there on.

        To its start, not to a checkpoint inside it: where those lie depends on the clock, what is learned must not.
        Raises FloatingPointError where that is not wanted, not possible or has not helped.
        """
        start = self.checkpoint_dir / checkpoints.FILE_NAME.format(self.epoch)
        what = str(error).partition(":")[0]
        if self.config.on_nonfinite != "step-back":
            raise error
        if self.setbacks == MOST_SETBACKS:
            raise FloatingPointError(f"{what}, after {self.setbacks} steps back: try a lower --learning-rate")
        if not processes.from_first(start.is_file):
            raise FloatingPointError(f"{what}, and {start}, to step back to, is not there")
        self.restore(start, processes.from_first(lambda: checkpoints.load(start)), self.setbacks + 1)
        processes.say(f"{what}: back to its start, learning rate × {0.5**self.setbacks:g}")

    def end_epoch(self) -> dict:
        """Validates, keeps the best model, writes the metrics and the checkpoint; returns the epoch's metrics."""
        self.check_finite()
        self.folders.check()
        speed = {
            "images_per_second": self.steps_per_epoch * self.batch_size / max(self.epoch_seconds, 1e-9),
            "seconds": self.epoch_seconds,
        }
        train_loss = float(processes.all_sum(self.epoch_loss)) / self.steps_per_epoch
        rows = self.validation_rows
        scores = evaluate(self.evaluated, self.validation, rows, self.config) if len(rows) else {}
        if not math.isfinite(scores.get("loss", 0.0)):
            raise FloatingPointError(self._told(f"the validation loss became {scores['loss']}"))
        self.epoch, self.step = self.epoch + 1, 0
        self.metrics = {
            "epoch": self.epoch,
            "samples": self.epoch * self.steps_per_epoch * self.batch_size,
            "learning_rate": self.schedulers[0].get_last_lr()[0],
            "train_loss": train_loss,
            **{f"validation_{k}": v for k, v in scores.items()},
        }
        self.epoch_loss, self.epoch_seconds = torch.zeros((), device=self.device), 0.0
        score = scores.get("top1", float(self.epoch))
        if score >= self.best:
            self.best = score
            if processes.is_main():
                content = self.facts() | {"model": self.evaluated.state_dict()}
                checkpoints.save(self.model_dir / self.architecture.best_file, content)
        if processes.is_main():
            training_log.add(self.log_dir / "metrics.jsonl", self.metrics | speed)
        self.save()
        return self.metrics | speed
