"""What a checkpoint holds of a run, and how a run is put where a checkpoint stands."""

import sys
import time
from pathlib import Path

import torch

from engine import checkpoints, processes
from engine.optimizers import learning_rate_factor
from engine.run import Run
from files.command_line import InputError, first_line
from optimization_config import recorded


def facts(run: Run) -> dict:
    """What every file of this run says about it."""
    return {
        "script": run.script,
        "config": recorded(run.config) | {"init_from": run.init_from},
        "classes": run.dataset.classes,
        "source": run.dataset.source,
        "generator": run.dataset.metadata.get("generator"),
        "versions": {"torch": str(torch.__version__), "python": sys.version.split()[0]},
        "processes": processes.count(),
        "run": run.identity,
        "epoch": run.epoch,
        "best": run.best,
        "metrics": run.metrics,
    }


def state(run: Run, epoch_loss: torch.Tensor) -> dict:
    """All that a run needs to continue from where it stands, beside `facts`."""
    rng = {"torch": torch.get_rng_state()}
    if run.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(run.device)
    place = {"epoch_loss": epoch_loss, "epoch_seconds": run.epoch_seconds}
    if run.config.minutes:
        place |= {"seconds": time.monotonic() - run.started, "pace": run.pace}
    return {
        "step": run.step,
        "setbacks": run.setbacks,
        "position": place,
        "training_samples": len(run.training),
        "model": run.model.state_dict(),
        "ema": run.averaged.module.state_dict() if run.averaged else None,
        "ema_count": int(run.averaged.n_averaged) if run.averaged else 0,
        "optimizers": [o.state_dict() for o in run.optimizers],
        "schedulers": [s.state_dict() for s in run.schedulers],
        "rng": rng,
    }


def save(run: Run) -> Path:
    """Writes a checkpoint of the run and deletes old ones. Raises FloatingPointError if its weights are not finite."""
    run.check_finite()
    run.folders.check()
    path = run.checkpoint_dir / checkpoints.FILE_NAME.format(run.epoch + (run.step > 0))
    epoch_loss = processes.all_sum(run.epoch_loss).cpu()
    if processes.is_main():
        checkpoints.save(path, facts(run) | state(run, epoch_loss))
        checkpoints.prune(run.checkpoint_dir, run.config.keep_last_n, path)
    return path


def save_best(run: Run) -> None:
    """Writes the model as it stands as the best one."""
    if processes.is_main():
        checkpoints.save(run.best_path, facts(run) | {"model": run.evaluated.state_dict()})


def restore(run: Run, path: Path, content: dict, setbacks: int = 0) -> None:
    """Puts a run where a checkpoint stands, after at least this many setbacks. Raises InputError if it does not fit."""
    try:
        place = content["position"]
        run.epoch, run.step, run.best = content["epoch"], content["step"], content["best"]
        # A step back does not win back the time that has passed.
        run.started, run.pace = min(run.started, time.monotonic() - place.get("seconds", 0)), place.get("pace", 0)
        run.plan()
        _load_weights(run, content)
        torch.set_rng_state(content["rng"]["torch"])
        if run.device.type == "cuda" and "cuda" in content["rng"]:
            torch.cuda.set_rng_state(content["rng"]["cuda"], run.device)
        run.setbacks = max(setbacks, content.get("setbacks") or 0)
        run.metrics, run.init_from = content["metrics"], content["config"].get("init_from")
        run.identity = content.get("run") or ""
        loss = place["epoch_loss"].to(run.device).reshape(())
        run.epoch_loss = loss if processes.is_main() else torch.zeros_like(loss)
        run.epoch_seconds = float(place["epoch_seconds"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not fit this run: {first_line(error)}") from None
    highest = run.config.learning_rate * 0.5**run.setbacks
    for optimizer, scheduler in zip(run.optimizers, run.schedulers, strict=True):
        for group in optimizer.param_groups:  # another --epochs or --learning-rate takes effect at once
            group["initial_lr"] = highest
            group["lr"] = highest * learning_rate_factor(scheduler.last_epoch, run.steps, run.config)
        scheduler.base_lrs = [highest] * len(scheduler.base_lrs)


def _load_weights(run: Run, content: dict) -> None:
    """Weights, their average, the optimizers' moments and the schedules."""
    run.model.load_state_dict(content["model"])
    if run.averaged and content["ema"]:
        run.averaged.module.load_state_dict(content["ema"])
        run.averaged.n_averaged.fill_(content["ema_count"])
    for mine, saved in zip(run.optimizers, content["optimizers"], strict=True):  # settings stay this run's
        mine.load_state_dict({"state": saved["state"], "param_groups": mine.state_dict()["param_groups"]})
    steps = run.sampling.steps_per_epoch
    done = content["epoch"] * steps + content["step"]
    for mine, saved in zip(run.schedulers, content["schedulers"], strict=True):
        if not 0 <= content["step"] < steps or not done == saved["last_epoch"] <= run.steps:
            raise ValueError(f"its schedule is at step {saved['last_epoch']}, not at {done}")
        mine.load_state_dict(mine.state_dict() | {"last_epoch": done, "_step_count": done + 1})
