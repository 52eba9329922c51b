"""Which checkpoint a run continues from, and what must match when it does.

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
from optimization_config import recorded

PATHS = ("model_path", "teacher")  # settings that name files, which may be named in more than one way
NOT_SAID = {"data_dir", "model_dir", "checkpoint_dir", "keep_last_n", "resume_from", "overwrite", "init_from", "plot"}


def identity(run: Run) -> str:
    """A name for a run that starts, made of its settings, script and data."""
    content = [run.script, recorded(run.config), run.dataset.source, run.dataset.metadata.get("generator")]
    return hashlib.sha256(json.dumps([*content, len(run.training)]).encode()).hexdigest()[:16]


def checkpoint_to_resume(run: Run) -> tuple[str, dict] | None:
    """The checkpoint to continue from, as --resume-from says, and what it holds, or None for a run that starts.

    Raises InputError where continuing, or starting, would replace what an earlier run left.
    """
    existing, wanted = checkpoints.existing(run.checkpoint_dir), run.config.resume_from
    newest, content = newest_readable(existing)
    if content.get("script", run.script) != run.script:
        other = f"{content['script']}.py"
        raise InputError(f"{run.checkpoint_dir} holds checkpoints of {other}: choose another --checkpoint-dir")
    if not wanted or (wanted == "auto" and not existing):
        check_start(run, existing)
        checkpoints.prune(run.checkpoint_dir, 0)
        return None
    path = existing[-1] if wanted == "auto" else Path(wanted)
    try:
        content = content if path == newest else checkpoints.load(path)
    except InputError as error:
        hint = ": delete it to continue from the one before" if wanted == "auto" else ""
        raise InputError(f"{error}{hint}") from None
    if newest and path.resolve() != newest.resolve() and not run.config.overwrite:
        if path.resolve().parent != run.checkpoint_dir.resolve():
            raise earlier_run(run)
        raise InputError(
            f"{path} is not the last checkpoint, and continuing from it deletes those up to {newest.name}: give "
            "--resume-from auto, choose another --model-dir, or go back with --overwrite"
        )
    return str(path), content


def newest_readable(existing: list[Path]) -> tuple[Path | None, dict]:
    """The last of these checkpoints that is not damaged, and what it holds."""
    for path in reversed(existing):
        with contextlib.suppress(InputError):
            return path, checkpoints.load(path)
    return None, {}


def earlier_run(run: Run) -> InputError:
    return InputError(
        f"{run.checkpoint_dir} holds an earlier run: continue with --resume-from auto, start over with --overwrite, "
        "or choose another --model-dir"
    )


def check_start(run: Run, existing: list[Path]) -> None:
    """Raises InputError where a run that starts would replace an earlier one's checkpoints or best model.

    A run that was stopped before its first checkpoint may have left a best model of its first epoch.
    """
    if existing and not run.config.overwrite:
        raise earlier_run(run)
    if run.config.overwrite or not run.best_path.is_file():
        return
    best = checkpoints.load(run.best_path)
    if run.config.resume_from != "auto" or best.get("epoch") != 1 or best.get("run") != identity(run):
        raise InputError(
            f"{run.best_path} is an earlier run's: choose another --model-dir, or replace it with --overwrite"
        )


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
    fields = [f for f in dataclasses.fields(config) if not f.metadata["changeable"]]
    before = {f.name: content["config"].get(f.name, f.default) for f in fields}  # older files lack newer settings
    now = {f.name: getattr(config, f.name) for f in fields}
    for settings in (before, now):
        settings |= {name: str(Path(settings[name]).resolve()) for name in PATHS if settings.get(name)}
    if changed := [name for name in now if before[name] != now[name]]:
        both = ", ".join(f"--{name.replace('_', '-')} {before[name]} (now {now[name]})" for name in changed)
        raise InputError(f"{path} was trained with other settings: {both}")
    if content["config"].get("hold_out_classes"):  # a setting of earlier versions
        raise InputError(f"{path} was not shown all classes: start from it with a class list that lacks the others")
    if content["epoch"] > config.epochs and not config.minutes:
        raise InputError(f"{path} has {content['epoch']} epochs done, more than --epochs {config.epochs}")


def changed_settings(run: Run, content: dict) -> str:
    """The settings that this run changes, with what they were, as text; "" for none."""
    saved, config = content["config"], run.config
    names = [f.name for f in dataclasses.fields(config) if f.metadata["changeable"] and f.name not in NOT_SAID]
    changed = [n for n in names if n in saved and saved[n] != getattr(config, n)]
    parts = [f"--{n.replace('_', '-')} {getattr(config, n)} (was {saved[n]})" for n in changed]
    before, now = (o["param_groups"][0].get("lr") for o in (content["optimizers"][0], run.optimizers[0].state_dict()))
    if before is not None and not math.isclose(before, now, rel_tol=1e-6):
        parts.append(f"learning rate now {now:.3g} (was {before:.3g})")
    return ", ".join(parts)


def resolve_best_model(run: Run, path: Path, content: dict) -> tuple[str, float]:
    """Settles which best model a resumed run starts with, and deletes another run's checkpoints if --overwrite allows.
    Returns a line that says what was done, or "", and the score that a later epoch must reach to be the best.

    Where the best model has not come along with its checkpoints, it is written from the checkpoint that has it; if none
    has, the best of the epochs that follow will be the best. Raises InputError where that would replace another run's
    best model, or a later one of its own; with --overwrite it is deleted.
    """
    if run.best_path.is_file():
        best, problem = checkpoints.load(run.best_path), ""
        if (best.get("run") or "") != run.identity:
            problem = f"is not of the run that {path} belongs to"
        elif best["best"] > content["best"] and best["epoch"] > content["epoch"] + 1:
            problem = f"is of epoch {best['epoch']}, later than {path}"
        if problem and not run.config.overwrite:
            raise InputError(f"{run.best_path} {problem}: choose another --model-dir, or replace it with --overwrite")
        if problem:
            run.best_path.unlink()
    if path.resolve().parent != run.checkpoint_dir.resolve():
        checkpoints.prune(run.checkpoint_dir, 0)  # of an earlier run, which --overwrite allows
    if run.best < 0 or run.best_path.is_file():
        return "", run.best
    for candidate in (path, *checkpoints.existing(path.parent)):
        with contextlib.suppress(InputError):
            content = checkpoints.load(candidate)
            score = content["metrics"].get("validation_top1", float(content["epoch"]))
            own, at_its_end = (content.get("run") or "") == run.identity, content["step"] == 0
            if own and at_its_end and score == run.best:
                best = {name: content[name] for name in facts(run) if name in content}
                checkpoints.save(run.best_path, best | {"model": content["ema"] or content["model"]})
                return f"{run.best_path} was missing: written from {candidate}", run.best
    return (
        f"the best model so far ({run.best:.2f} %) is lost: {run.best_path} is missing and no checkpoint has it; the "
        "best of the epochs that follow takes its place"
    ), -1.0
