"""Which checkpoint a run goes on from, and what must match when it does.

Nothing that an earlier run left is replaced unless --overwrite says so: going back to an earlier checkpoint, another
run's checkpoint folder and another run's best model are refused.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from pathlib import Path

from engine import checkpoints
from engine.position import facts
from engine.run import Run
from files.command_line import InputError
from optimization_config import OptimizationConfig, recorded

PATHS = ("model_path", "teacher")  # settings that name files, which may be named in more than one way
NOT_SAID = {"data_dir", "model_dir", "checkpoint_dir", "keep_last_n", "resume_from", "overwrite", "init_from", "plot"}


def kept_settings(config: OptimizationConfig, saved: dict) -> tuple[dict, dict]:
    """The settings that a resumed run must keep, as a file names them and as they are now."""
    fields = [f for f in dataclasses.fields(config) if not f.metadata["changeable"]]
    before = {f.name: saved.get(f.name, f.default) for f in fields}  # an older file lacks what was the default then
    now = {f.name: getattr(config, f.name) for f in fields}
    for settings in (before, now):
        for name in PATHS:
            if settings.get(name):
                settings[name] = str(Path(str(settings[name])).resolve())
    return before, now


def identity(run: Run) -> str:
    """A name for a run that starts: of its settings, script and data."""
    content = [run.script, recorded(run.config), run.dataset.source, run.dataset.metadata.get("generator")]
    return hashlib.sha256(json.dumps([*content, len(run.training)]).encode()).hexdigest()[:16]


def is_of_run(run: Run, content: dict, checkpoint: dict) -> bool:
    """Whether a best model is that of the run that a checkpoint belongs to; files from before runs had a name are
    compared by the settings that a run keeps."""
    if content.get("run") or checkpoint.get("run"):
        return content.get("run") == checkpoint.get("run")
    settings = (kept_settings(run.config, c["config"])[0] for c in (content, checkpoint))
    same = (content["script"], content["classes"]) == (checkpoint["script"], checkpoint["classes"])
    return same and next(settings) == next(settings)


def checkpoint_to_resume(run: Run) -> tuple[str, dict] | None:
    """The checkpoint to go on from, as --resume-from says, and what it holds, or None for a run that starts.

    Raises InputError where going on, or starting, would replace what an earlier run left.
    """
    existing, resume = checkpoints.existing(run.checkpoint_dir), run.config.resume_from
    newest, content = newest_readable(existing)
    if content.get("script", run.script) != run.script:
        other = f"{content['script']}.py"
        raise InputError(f"{run.checkpoint_dir} holds checkpoints of {other}: choose another --checkpoint-dir")
    if not resume or (resume == "auto" and not existing):
        if existing:
            check_overwrite(run)
        check_best_of_start(run)
        checkpoints.prune(run.checkpoint_dir, 0)
        return None
    path = existing[-1] if resume == "auto" else Path(resume)
    try:
        content = content if path == newest else checkpoints.load(path)
    except InputError as error:
        hint = ": delete it to go on from the one before" if resume == "auto" else ""
        raise InputError(f"{error}{hint}") from None
    check_going_back(run, path, newest)
    return str(path), content


def newest_readable(existing: list[Path]) -> tuple[Path | None, dict]:
    """The last of these checkpoints that is not damaged, and what it holds."""
    for path in reversed(existing):
        with contextlib.suppress(InputError):
            return path, checkpoints.load(path)
    return None, {}


def check_best_of_start(run: Run) -> None:
    """Raises InputError where a run that starts would replace the best model of another.

    One that was stopped before its first checkpoint may have left a best model of its first epoch.
    """
    if run.config.overwrite or not run.best_path.is_file():
        return
    if run.config.resume_from == "auto":
        content = checkpoints.load(run.best_path)
        if content.get("epoch") == 1 and content.get("run") == identity(run):
            return
    raise InputError(f"{run.best_path} is an earlier run's: choose another --model-dir, or replace it with --overwrite")


def check_overwrite(run: Run) -> None:
    """Raises InputError unless --overwrite allows to delete the checkpoints of an earlier run."""
    if not run.config.overwrite:
        raise InputError(
            f"{run.checkpoint_dir} holds an earlier run: go on with --resume-from auto, start over with --overwrite, "
            "or choose another --model-dir"
        )


def check_going_back(run: Run, path: Path, newest: Path | None) -> None:
    """Raises InputError where going on from `path` would delete later checkpoints, or those of another run, unless
    --overwrite says so."""
    if run.config.overwrite or not newest or path.resolve() == newest.resolve():
        return
    if path.resolve().parent != run.checkpoint_dir.resolve():
        check_overwrite(run)
    raise InputError(
        f"{path} is not the last checkpoint, and going on from it deletes those up to {newest.name}: go on with "
        "--resume-from auto, choose another --model-dir, or go back with --overwrite"
    )


def check_best(run: Run, path: Path, content: dict) -> None:
    """Raises InputError where the run that goes on from this checkpoint would replace another run's best model, or a
    later one of its own; with --overwrite that model is deleted."""
    if not run.best_path.is_file():
        return
    best, problem = checkpoints.load(run.best_path), ""
    if not is_of_run(run, best, content):
        problem = f"is not of the run that {path} belongs to"
    elif best["best"] > content["best"] and best["epoch"] > content["epoch"] + 1:
        problem = f"is of epoch {best['epoch']}, later than {path}"
    if problem and not run.config.overwrite:
        raise InputError(f"{run.best_path} {problem}: choose another --model-dir, or replace it with --overwrite")
    if problem:
        run.best_path.unlink()


def check_same_run(run: Run, path: Path, content: dict) -> None:
    """Raises InputError for a checkpoint of another script, other data or other settings than this run's."""
    config, data_dir, samples = run.config, run.config.data_dir, len(run.training)
    if content["script"] != run.script:
        raise InputError(f"{path} was made by {content['script']}.py, not by {run.script}.py")
    if "optimizers" not in content:
        raise InputError(f"{path} is a finished model, not a checkpoint: start from it with --init-from")
    if content["classes"] != run.dataset.classes:
        raise InputError(f"{path} was trained on other classes than {data_dir} has")
    if content.get("training_samples", samples) != samples:
        raise InputError(
            f"{path} was trained on {content['training_samples']:,} samples, {data_dir} has {samples:,} for training: "
            "start from its weights with --init-from"
        )
    data = {"source": run.dataset.source, "generator": run.dataset.metadata.get("generator")}
    if changed := [name for name in data if content.get(name) not in {None, data[name]}]:
        both = ", ".join(f"{content[name]} (now {data[name]})" for name in changed)
        raise InputError(f"{path} was trained on other data: {both}; start from its weights with --init-from")
    before, now = kept_settings(config, content["config"])
    if changed := [name for name in now if before[name] != now[name]]:
        both = ", ".join(f"--{name.replace('_', '-')} {before[name]} (now {now[name]})" for name in changed)
        raise InputError(f"{path} was trained with other settings: {both}")
    if content["epoch"] > config.epochs:
        raise InputError(f"{path} has {content['epoch']} epochs done, more than --epochs {config.epochs}")


def changed_settings(run: Run, content: dict) -> str:
    """The settings that this run changes, with what they were, as text; "" for none."""
    saved, config = content["config"], run.config
    names = [f.name for f in dataclasses.fields(config) if f.metadata["changeable"] and f.name not in NOT_SAID]
    changed = [n for n in names if n in saved and saved[n] != getattr(config, n)]
    text = ", ".join(f"--{n.replace('_', '-')} {getattr(config, n)} (was {saved[n]})" for n in changed)
    before, now = (
        content["optimizers"][0]["param_groups"][0].get("lr"),
        run.schedulers[0].optimizer.param_groups[0]["lr"],
    )
    if before is not None and not math.isclose(before, now, rel_tol=1e-6):
        text += f"{', ' if text else ''}learning rate now {now:.3g} (was {before:.3g})"
    return text


def take_over(run: Run, path: Path, content: dict) -> tuple[str, float]:
    """Sees to what lies where a run goes on from a checkpoint; returns a line that says what was done, or "",
    and the score that a later epoch must reach to be the best.

    Where the best model has not come along with its checkpoints, it is written from the checkpoint that has it; if none
    has, the best of the epochs that follow will be the best. Raises InputError as `check_best`.
    """
    check_best(run, path, content)
    if path.resolve().parent != run.checkpoint_dir.resolve():
        checkpoints.prune(run.checkpoint_dir, 0)  # of an earlier run, which --overwrite allows
    if run.best < 0 or run.best_path.is_file():
        return "", run.best
    for candidate in (path, *checkpoints.existing(path.parent)):
        with contextlib.suppress(InputError):
            content = checkpoints.load(candidate)
            score = content["metrics"].get("validation_top1", float(content["epoch"]))
            at_its_end = content.get("step") == 0 and content["epoch"] == content["metrics"].get("epoch")
            if at_its_end and score == run.best and (content.get("run") or "") == run.identity:
                best = {name: content[name] for name in facts(run) if name in content}
                checkpoints.save(run.best_path, best | {"model": content["ema"] or content["model"]})
                return f"{run.best_path} was missing: written from {candidate}", run.best
    return (
        f"the best model so far ({run.best:.2f} %) is lost: {run.best_path} is missing and no checkpoint has it; the "
        "best of the epochs that follow takes its place"
    ), -1.0
