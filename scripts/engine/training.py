"""The one engine: every train_*.py brings an `Architecture`, `train` does the rest.

A run is a function of its config: the order of the samples comes from (seed, epoch), the randomness of a step from
(seed, epoch, step). A run killed at any moment and resumed therefore ends with the weights of one that was never
interrupted, unless --minutes lets the clock decide on its epochs. Of several processes (processes.py) one writes.
"""

import contextlib
import importlib.util
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

from data.prepared import PreparedDataset
from engine import checkpoints, position, processes, resume, training_log
from engine.architecture import Architecture
from engine.batches import evaluate
from engine.devices import explain_device_errors, uses_bf16
from engine.run import Run
from engine.stop import Stop
from files.command_line import InputError
from files.command_line import run as run_script
from optimization_config import OptimizationConfig, parse_config

LOOK_EVERY = 100  # steps; reading the loss waits for the device
MOST_SETBACKS = 5


def fit(architecture: Architecture, config: OptimizationConfig) -> dict:
    """Trains as the config says; returns the last epoch's metrics, leaves best model and checkpoints on disk."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    with Stop() as stop, contextlib.ExitStack() as held:
        with processes.fail_together():
            run = Run(architecture, config, PreparedDataset(Path(config.data_dir), config.split, config.seed))
            if processes.is_main():
                held.enter_context(run.folders)
            if run.fresh:
                held.callback(run.fresh.close)
        with processes.fail_together():
            start_or_resume(run)
        train_epochs(run, stop)
    return run.metrics


def start_or_resume(run: Run) -> None:
    """Puts the run where --resume-from says, or at the start; says what is trained."""
    config = run.config
    # Every process must have the same settings, but for the places of its files, and the same data.
    settings = {k: v for k, v in vars(config).items() if not k.endswith(("_dir", "_from", "_path"))}
    facts = json.dumps([settings, run.dataset.metadata, run.dataset.classes])
    processes.must_match(facts.encode(), "settings and data")
    resumed = processes.from_main(lambda: resume.checkpoint_to_resume(run))
    if resumed:
        go_on(run, Path(resumed[0]), resumed[1])
    else:
        run.identity = resume.identity(run)
        if run.start_message:
            processes.say(run.start_message)
    if run.fresh:
        drawn = f"{config.fresh} sets that {run.fresh.processes} processes draw for each epoch"
        processes.say(f"{drawn} replace the training split of {config.data_dir}")
    if processes.is_main():
        checkpoints.clean(run.checkpoint_dir)
        check_outputs(run)
    parameters = sum(p.numel() for p in run.model.parameters())
    shared = f", {processes.count()} processes" if processes.count() > 1 else ""
    processes.say(
        f"{run.architecture.name}: {parameters:,} parameters; "
        f"{run.device}, {'bf16' if uses_bf16(config, run.device) else 'fp32'}{shared}\n"
        f"{run.sampling.images:,} training and {len(run.sampling.validation_rows):,} validation samples of "
        f"{len(run.dataset.classes):,} classes\n({run.dataset.source}, split by {config.split})"
    )


def go_on(run: Run, path: Path, content: dict) -> None:
    """Restores a checkpoint after checking that it is of this run; says where it continues and what is changed."""
    resume.check_same_run(run, path, content)
    position.restore(run, path, content)
    line, run.best = processes.from_main(lambda: resume.resolve_best_model(run, path, content))
    if line:
        processes.say(line)
    at = f"epoch {run.epoch + 1}, step {run.step + 1}" if run.epoch < run.epochs else "its end"
    changed = resume.changed_settings(run, content)
    processes.say(f"resumed from {path} at {at}" + (f"; {changed}" if changed else ""))


def check_outputs(run: Run) -> None:
    """Raises OSError or InputError now for what would otherwise show only after an epoch of training."""
    run.model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=run.model_dir):  # raises OSError where nothing can be written
        pass
    if run.config.plot and not importlib.util.find_spec("matplotlib"):
        raise InputError("--plot needs the package matplotlib: pip install matplotlib")


def train_epochs(run: Run, stop: Stop) -> None:
    """The epochs that are still to do, a line for each; then the plot, and where the best model is."""
    config = run.config
    if config.on_nonfinite == "step-back" and not run.epoch and not run.step:
        position.save(run)  # to step back to
    while run.epoch < run.epochs:
        try:
            signal = train_epoch(run, stop)
            if run.step < run.sampling.steps_per_epoch:
                path = position.save(run)
                end_early(f"stopped inside epoch {run.epoch + 1}; continue with --resume-from {path}", signal)
            metrics = end_epoch(run)
        except FloatingPointError as error:
            with processes.fail_together():
                step_back(run, error)
            continue
        processes.say(training_log.epoch_line(metrics, run.epochs, run.best, run.seconds_left))
        (signal,) = processes.all_max(stop.signal)
        if signal and run.epoch < run.epochs:
            end_early(f"stopped after epoch {run.epoch}; continue with --resume-from auto", signal)
    if config.plot and processes.is_main():
        training_log.plot(run.log_dir / "metrics.jsonl", run.log_dir / "curves.png")
    validated = len(run.sampling.validation_rows)
    score = f"best validation top-1 {run.best:.2f} %" if validated else "not validated, the last model"
    processes.say(f"{score}: {run.best_path}")


def train_epoch(run: Run, stop: Stop) -> int:
    """Trains the current epoch to its end, or until a signal asks to stop; returns the signal, or 0."""
    run.model.train()
    started_at = last_save = time.monotonic()
    before, steps = run.epoch_seconds, run.sampling.steps_per_epoch
    if not run.training.begin(run.epoch, lambda: stop.signal):
        return stop.signal
    quiet = not (processes.is_main() and sys.stdout.isatty() and sys.stderr.isatty())
    bar = tqdm(total=steps, initial=run.step, leave=False, disable=quiet, desc=f"epoch {run.epoch + 1}")
    signal = 0
    for rows in run.training.in_turn(run.sampling.batches(run.config.seed, run.epoch, run.step)):
        run.epoch_loss = run.epoch_loss + run.train_step(rows)
        run.step += 1
        run.epoch_seconds = before + time.monotonic() - started_at
        bar.update()
        if run.step % LOOK_EVERY == 0:
            run.check_loss()
        due = time.monotonic() - last_save > 60 * run.config.checkpoint_minutes
        signal, due = processes.all_max(stop.signal, due and processes.is_main())
        if signal:
            break
        if due and run.step < steps:
            position.save(run)
            last_save = time.monotonic()
    bar.close()
    return signal


def end_epoch(run: Run) -> dict:
    """Validates, keeps the best model, writes the metrics and the checkpoint; returns the epoch's metrics."""
    began = time.monotonic()
    run.check_finite()
    run.folders.check()
    steps, batch_size = run.sampling.steps_per_epoch, run.sampling.batch_size
    speed = {"images_per_second": steps * batch_size / max(run.epoch_seconds, 1e-9), "seconds": run.epoch_seconds}
    train_loss = float(processes.all_sum(run.epoch_loss)) / steps
    rows = run.sampling.validation_rows
    processes.share_buffers(run.evaluated)
    scores = evaluate(run.evaluated, run.validation, rows, run.config) if len(rows) else {}
    if not math.isfinite(scores.get("loss", 0.0)):
        raise run.not_finite(f"the validation loss became {scores['loss']}")
    run.epoch, run.step = run.epoch + 1, 0
    run.metrics = {
        "epoch": run.epoch,
        "samples": run.epoch * steps * batch_size,
        "learning_rate": run.schedulers[0].get_last_lr()[0],
        "train_loss": train_loss,
        **{f"validation_{k}": v for k, v in scores.items()},
    }
    run.pace = run.epoch_seconds + time.monotonic() - began
    run.plan()
    run.epoch_loss, run.epoch_seconds = torch.zeros((), device=run.device), 0.0
    score = scores.get("top1", float(run.epoch))  # without validation the last model is the best
    if score >= run.best:
        run.best = score
        position.save_best(run)
    if processes.is_main():
        training_log.add(run.log_dir / "metrics.jsonl", run.metrics | speed)
    position.save(run)
    return run.metrics | speed


def end_early(text: str, signal: int) -> None:
    """Prints the text, waits for all processes, and exits as a signal asked."""
    processes.say(text)
    processes.all_max(0)  # waits for the main one, which writes the checkpoint: torchrun ends all when one ends
    sys.exit(128 + signal)


def step_back(run: Run, error: FloatingPointError) -> None:
    """Restores the checkpoint from the start of the current epoch and halves the learning rate. Checkpoints inside the
    epoch are timed by the clock: using them would not be reproducible.

    Raises FloatingPointError without --on-nonfinite step-back, after five such steps, or if the checkpoint is missing.
    """
    start = run.checkpoint_dir / checkpoints.FILE_NAME.format(run.epoch)
    what = str(error).partition(":")[0]
    if run.config.on_nonfinite != "step-back":
        raise error
    if run.setbacks == MOST_SETBACKS:
        raise FloatingPointError(f"{what}, after {run.setbacks} steps back: try a lower --learning-rate")
    if not processes.from_main(start.is_file):
        raise FloatingPointError(f"{what}, and {start}, to step back to, is not there")
    position.restore(run, start, processes.from_main(lambda: checkpoints.load(start)), run.setbacks + 1)
    processes.say(f"{what}: back to its start, learning rate × {0.5**run.setbacks:g}")


def train(architecture: Architecture) -> None:
    """The main of every training script: command line in, trained model out."""

    def main() -> None:
        config = parse_config(architecture.config, sys.modules["__main__"].__doc__ or "")
        with explain_device_errors(config), processes.group():
            fit(architecture, config)

    run_script(main)
