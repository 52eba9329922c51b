"""The one engine: every train_*.py brings an `Architecture`, `train` does the rest.

A run is a function of its config: the order of the samples comes from (seed, epoch), the randomness of a step from
(seed, epoch, step). A run killed at any moment and resumed therefore ends with the weights of one that was never
interrupted. Several processes may share it (processes.py): the first one writes, and speaks.
"""

import contextlib
import os
import sys
from pathlib import Path

import torch

from data.prepared import PreparedDataset
from engine import checkpoints, processes, training_log
from engine.architecture import Architecture
from engine.devices import told_of_the_device, uses_bf16
from engine.run import Run
from engine.stop import Stop
from files.command_line import run
from optimization_config import OptimizationConfig, parse_config


def fit(architecture: Architecture, config: OptimizationConfig) -> dict:
    """Trains as the config says; returns the last epoch's metrics, leaves best model and checkpoints on disk."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    with Stop() as stop, contextlib.ExitStack() as held:
        with processes.fail_together():
            state = Run(architecture, config, PreparedDataset(Path(config.data_dir), config.split, config.seed))
            if processes.is_main():
                held.enter_context(state.folders)
        with processes.fail_together():
            begin(state)
        train_to_end(state, stop)
    return state.metrics


def begin(state: Run) -> None:
    """Finds the run's place: where --resume-from says, or the start; then says what is trained."""
    architecture, config = state.architecture, state.config
    state.check_processes()
    if found := processes.from_first(state.checkpoint_to_resume):
        resume, content = found
        state.restore(Path(resume), content)
        where = f"epoch {state.epoch + 1}, step {state.step + 1}" if state.epoch < config.epochs else "its end"
        processes.say(f"resumed from {resume} at {where}")
    elif state.started:
        processes.say(state.started)
    if processes.is_main():
        if found:
            checkpoints.clean(state.checkpoint_dir, config.keep_last_n)
        state.check_outputs()
    parameters = sum(p.numel() for p in state.model.parameters())
    shared = f", {processes.count()} processes" if processes.count() > 1 else ""
    processes.say(
        f"{architecture.name}: {parameters:,} parameters; {state.images:,} training and "
        f"{len(state.validation_rows):,} validation samples of {len(state.dataset.classes):,} classes "
        f"({state.dataset.source}, split by {config.split}); "
        f"{state.device}, {'bf16' if uses_bf16(config, state.device) else 'fp32'}{shared}"
    )


def end_early(text: str, number: int) -> None:
    """Ends as the signal of this number asked."""
    processes.say(text)
    processes.wait()  # for the first one, which wrote the checkpoint: the end of one is the end of all
    sys.exit(128 + number)


def train_to_end(state: Run, stop: Stop) -> None:
    """The epochs that are still to do, a line for each."""
    architecture, config = state.architecture, state.config
    if config.on_nonfinite == "step-back" and not state.epoch and not state.step:
        state.save()  # to step back to
    wanted = config.tensorboard and processes.is_main()
    with training_log.events(state.log_dir) if wanted else contextlib.nullcontext() as events:
        while state.epoch < config.epochs:
            try:
                asked = state.train_epoch(stop)
                if state.step < state.steps_per_epoch:
                    path = state.save()
                    end_early(f"stopped inside epoch {state.epoch + 1}; go on with --resume-from {path}", asked)
                metrics = state.end_epoch()
            except FloatingPointError as error:
                with processes.fail_together():
                    state.step_back(error)
                continue
            processes.say(training_log.told(metrics, config.epochs, state.best))
            if events:
                for name, value in metrics.items():
                    events.add_scalar(name, value, metrics["epoch"])
            (asked,) = processes.all_max(stop.signal)
            if asked and state.epoch < config.epochs:
                end_early(f"stopped after epoch {state.epoch}; go on with --resume-from auto", asked)
    if config.plot and processes.is_main():
        training_log.plot(state.log_dir / "metrics.jsonl", state.log_dir / "curves.png")
    score = (
        f"best validation top-1 {state.best:.2f} %" if len(state.validation_rows) else "not validated, the last model"
    )
    processes.say(f"{score}: {state.model_dir / architecture.best_file}")


def train(architecture: Architecture) -> None:
    """The main of every training script: command line in, trained model out."""

    def main() -> None:
        config = parse_config(architecture.config, sys.modules["__main__"].__doc__ or "")
        with told_of_the_device(config), processes.group():
            fit(architecture, config)

    run(main)
