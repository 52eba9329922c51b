"""Resuming: a run that was killed ends like one that was not, and nothing that lies there is destroyed."""

import dataclasses
import json
import math
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.prepared import PreparedDataset
from engine import checkpoints, position, training
from engine.run import Run
from engine.stop import Stop
from files.command_line import InputError
from tiny_training import (
    another_source,
    assert_identical,
    config,
    finish,
    finite,
    start,
    weights,
)
from train_etl9g_model import ARCHITECTURE


@pytest.fixture
def burst(monkeypatch) -> Callable[..., list[int]]:
    """burst(step, times) makes the loss of this step of a run infinite so many times; returns where it did."""

    def arrange(step: int, times: int = 1) -> list[int]:
        bursts, count, honest = [], [0], Run.train_step

        def train_step(self, rows):
            count[0] += 1
            loss = honest(self, rows)
            if self.epoch * self.sampling.steps_per_epoch + self.step + 1 == step and len(bursts) < times:
                bursts.append(count[0])
                with torch.no_grad():
                    next(self.model.parameters()).fill_(math.inf)
                return loss * math.inf
            return loss

        monkeypatch.setattr(Run, "train_step", train_step)
        return bursts

    return arrange


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_asked_to_stop_it_leaves_a_checkpoint(uninterrupted, tmp_path, number, code):
    flags, expected = uninterrupted
    process = start(tmp_path, *flags, "--model-dir", "stopped")
    while process.poll() is None and not (tmp_path / "stopped" / "checkpoints" / "cnn").exists():
        time.sleep(0.005)
    process.send_signal(number)
    returned, out, err = finish(process)
    assert returned == code, err
    assert "--resume-from" in out
    assert "Traceback" not in err
    assert finish(start(tmp_path, *flags, "--model-dir", "stopped", "--resume-from", "auto"))[0] == 0
    assert_identical(weights(tmp_path / "stopped"), expected)


def test_beginning_anew_replaces_the_earlier_run(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3))
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1, overwrite=True))
    assert [p.name for p in checkpoints.existing(tmp_path / "checkpoints" / "cnn")] == ["checkpoint_epoch_001.pt"]


@pytest.mark.parametrize("step", [13, 20], ids=["inside an epoch", "at its last step"])
def test_what_is_no_number_is_never_saved(step, burst, tiny_dataset, tmp_path):
    """Not even by a checkpoint inside the epoch, which is due at every step here."""
    burst(step)
    settings = config(tiny_dataset(), tmp_path, epochs=4, hiragana_repeats=1, checkpoint_minutes=1e-9)
    with pytest.raises(FloatingPointError, match=r"became .* in epoch 2: continue from the last checkpoint"):
        training.fit(ARCHITECTURE, settings)
    saved = [*checkpoints.existing(tmp_path / "checkpoints" / "cnn"), tmp_path / "best_kanji_model.pth"]
    assert len(saved) == 3
    assert all(finite(path) for path in saved)
    assert checkpoints.load(saved[1])["step"] == (step - 1) % 10


def test_a_step_back_goes_on_at_half_the_rate(burst, tiny_dataset, tmp_path, capsys):
    bursts = burst(13, times=2)
    settings = config(tiny_dataset(), tmp_path, epochs=3, hiragana_repeats=1, on_nonfinite="step-back")
    metrics = training.fit(ARCHITECTURE, settings)
    assert metrics["epoch"] == 3
    assert len(bursts) == 2
    assert capsys.readouterr().out.count("back to its start, learning rate ×") == 2
    content = checkpoints.load(checkpoints.existing(tmp_path / "checkpoints" / "cnn")[-1])
    assert content["setbacks"] == 2
    (highest,) = {group["initial_lr"] for group in content["optimizers"][0]["param_groups"]}
    assert highest == settings.learning_rate / 4
    assert finite(tmp_path / "best_kanji_model.pth")


def test_a_run_that_stepped_back_and_was_stopped_ends_like_one_that_was_not(burst, tiny_dataset, tmp_path, monkeypatch):
    """Wherever its last checkpoint lies: before the burst, or after the step back."""
    data, one = tiny_dataset(), {"epochs": 3, "hiragana_repeats": 1, "on_nonfinite": "step-back"}
    burst(13, times=1)
    training.fit(ARCHITECTURE, config(data, tmp_path / "whole", **one))
    expected, honest = weights(tmp_path / "whole"), Run.train_step
    for name, steps in (("before", 12), ("after", 23)):
        burst(13, times=1)
        noisy, taken = Run.train_step, []

        def stopping(self, rows, noisy=noisy, taken=taken, steps=steps):
            if len(taken) == steps:
                raise KeyboardInterrupt  # as sudden as kill -9: nothing is saved
            taken.append(1)
            return noisy(self, rows)

        settings = config(data, tmp_path / name, **one, checkpoint_minutes=1e-9)
        monkeypatch.setattr(Run, "train_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            training.fit(ARCHITECTURE, settings)
        monkeypatch.setattr(Run, "train_step", honest)
        burst(13, times=name == "before")
        training.fit(ARCHITECTURE, dataclasses.replace(settings, resume_from="auto"))
        assert_identical(weights(tmp_path / name), expected)
        monkeypatch.setattr(Run, "train_step", honest)


def test_stepping_back_ends_where_it_does_not_help(burst, tiny_dataset, tmp_path):
    bursts = burst(13, times=100)
    settings = config(tiny_dataset(), tmp_path, epochs=3, hiragana_repeats=1, on_nonfinite="step-back")
    with pytest.raises(FloatingPointError, match="after 5 steps back: try a lower --learning-rate"):
        training.fit(ARCHITECTURE, settings)
    assert len(bursts) == 6
    assert finite(checkpoints.existing(tmp_path / "checkpoints" / "cnn")[-1])


def test_going_back_to_an_earlier_checkpoint_does_the_later_epochs_again(tiny_dataset, tmp_path):
    """As if the later ones had never been: none of them is kept, resumed from, or listed twice."""
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=4))
    whole = weights(tmp_path)
    folder = tmp_path / "checkpoints" / "cnn"
    second = str(folder / "checkpoint_epoch_002.pt")
    run = Run(ARCHITECTURE, config(data, tmp_path, epochs=4), PreparedDataset(data))
    position.restore(run, Path(second), checkpoints.load(Path(second)))
    with Stop() as stop:
        training.train_epoch(run, stop)
    training.end_epoch(run)
    assert [p.name for p in checkpoints.existing(folder)] == [f"checkpoint_epoch_00{k}.pt" for k in (1, 2, 3)]
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=4, resume_from=second, overwrite=True))
    assert_identical(weights(tmp_path), whole)
    lines = (tmp_path / "cnn" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_what_a_resumed_run_may_not_change(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    for changes, words in (
        ({"embedding": 8}, "--embedding 16 (now 8)"),
        ({"dropout": 0.5}, "--dropout 0.0 (now 0.5)"),
        ({"optimizer": "muon"}, "--optimizer adamw (now muon)"),
        ({"weight_decay": 0.5}, "--weight-decay 0.02 (now 0.5)"),
        ({"seed": 5}, "--seed 0 (now 5)"),
        ({"split": "random"}, "trained on 80 samples"),
        ({"epochs": 1}, "has 2 epochs done, more than --epochs 1"),
        ({"data_dir": str(tiny_dataset(samples_per_set=5))}, "trained on 80 samples"),
        ({"data_dir": str(tiny_dataset(classes="あいうえ腕"))}, "trained on other classes"),
    ):
        settings = config(data, tmp_path, **({"epochs": 3, "resume_from": "auto"} | changes))
        with pytest.raises(InputError, match=re.escape(words)):
            training.fit(ARCHITECTURE, settings)


def test_a_run_goes_on_with_its_own_data_alone(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1))
    with pytest.raises(InputError, match=r"trained on other data: test shapes \(now ETL9G\)"):
        training.fit(ARCHITECTURE, config(another_source(data), tmp_path, epochs=2, resume_from="auto"))


def test_going_on_elsewhere_keeps_the_checkpoints_that_lie_there(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path / "here", epochs=3, seed=1))
    training.fit(ARCHITECTURE, config(data, tmp_path / "there", epochs=1))
    before = weights(tmp_path / "here")
    other = str(tmp_path / "there/checkpoints/cnn/checkpoint_epoch_001.pt")
    with pytest.raises(InputError, match="holds an earlier run"):
        training.fit(ARCHITECTURE, config(data, tmp_path / "here", epochs=2, resume_from=other))
    assert_identical(weights(tmp_path / "here"), before)
    training.fit(ARCHITECTURE, config(data, tmp_path / "here", epochs=2, resume_from=other, overwrite=True))
    names = [path.name for path in checkpoints.existing(tmp_path / "here/checkpoints/cnn")]
    assert names == ["checkpoint_epoch_002.pt"]


def test_the_best_model_of_an_earlier_run_is_not_replaced_unasked(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    best = (tmp_path / "best_kanji_model.pth").read_bytes()
    for changes in ({}, {"resume_from": "auto"}):
        elsewhere = config(data, tmp_path, epochs=1, checkpoint_dir=str(tmp_path / "other"), **changes)
        with pytest.raises(InputError, match="is an earlier run's: choose another --model-dir, or replace it with"):
            training.fit(ARCHITECTURE, elsewhere)
    assert (tmp_path / "best_kanji_model.pth").read_bytes() == best
    training.fit(ARCHITECTURE, dataclasses.replace(elsewhere, resume_from=None, overwrite=True))
    assert (tmp_path / "best_kanji_model.pth").read_bytes() != best


def test_a_run_stopped_before_its_first_checkpoint_begins_again(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1))
    for path in checkpoints.existing(tmp_path / "checkpoints" / "cnn"):
        path.unlink()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1, resume_from="auto"))


def test_a_teacher_may_be_named_in_another_way(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path / "teacher", epochs=1))
    teacher = tmp_path / "teacher" / "best_kanji_model.pth"
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1, teacher=str(teacher)))
    monkeypatch.chdir(teacher.parent)
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2, teacher=teacher.name, resume_from="auto"))


def test_a_damaged_last_checkpoint_locks_nobody_out(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    whole = weights(tmp_path)
    first, last = checkpoints.existing(tmp_path / "checkpoints" / "cnn")
    last.write_bytes(last.read_bytes()[:10_000])
    with pytest.raises(InputError, match="damaged: delete it to continue from the one before"):
        training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2, resume_from="auto"))
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2, resume_from=str(first)))
    assert_identical(weights(tmp_path), whole)
    last.write_bytes(last.read_bytes()[:10_000])
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2, overwrite=True))
    assert_identical(weights(tmp_path), whole)


def test_a_run_that_goes_on_reads_its_checkpoint_once(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    read, load = [], checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda path: read.append(path.name) or load(path))
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3, resume_from="auto"))
    assert read.count("checkpoint_epoch_002.pt") == 1


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset, tmp_path_factory) -> tuple[list[object], dict[str, torch.Tensor]]:
    """The flags of a run of four epochs with all that is random in training, and the weights it ends with."""
    flags = ["--data-dir", tiny_dataset(samples_per_set=8), "--epochs", 4, "--batch-size", 4, "--dropout", 0.2]
    flags += ["--hiragana-repeats", 1]
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, _, err = finish(start(folder, *flags, "--model-dir", "whole"))
    assert code == 0, err
    return flags, weights(folder / "whole")


def scores(monkeypatch, *top1: float) -> None:
    """The validation accuracies that the epochs to come shall have."""
    given = iter(top1)
    monkeypatch.setattr(training, "evaluate", lambda *_: {"loss": 1.0, "top1": next(given), "top5": 90.0})


def test_going_back_destroys_nothing_unasked(tiny_dataset, tmp_path, monkeypatch):
    """Twelve epochs, then --resume-from the first one's checkpoint: neither the later ones nor the best model go."""
    data, best = tiny_dataset(), tmp_path / "best_kanji_model.pth"
    scores(monkeypatch, *range(40, 52), 30)
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=12, keep_last_n=12))
    folder = tmp_path / "checkpoints" / "cnn"
    before = {path: path.read_bytes() for path in (best, *checkpoints.existing(folder))}
    first = {"epochs": 2, "keep_last_n": 12, "resume_from": str(folder / "checkpoint_epoch_001.pt")}
    with pytest.raises(InputError, match="is not the last checkpoint"):
        training.fit(ARCHITECTURE, config(data, tmp_path, **first))
    with pytest.raises(InputError, match="is of epoch 12, later than"):
        training.fit(ARCHITECTURE, config(data, tmp_path, **first, checkpoint_dir=str(tmp_path / "other")))
    assert {path: path.read_bytes() for path in before} == before
    training.fit(ARCHITECTURE, config(data, tmp_path, **first, overwrite=True))
    assert [path.name for path in checkpoints.existing(folder)] == [
        "checkpoint_epoch_001.pt",
        "checkpoint_epoch_002.pt",
    ]
    assert checkpoints.load(best)["best"] == 40  # that of the first epoch, which its checkpoint had


def test_a_resumed_run_keeps_its_hands_off_another_ones_best_model(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    scores(monkeypatch, 90, 20, 95)
    training.fit(ARCHITECTURE, config(data, tmp_path / "a", epochs=1))
    training.fit(ARCHITECTURE, config(data, tmp_path / "b", epochs=1, learning_rate=1e-4))
    best = (tmp_path / "a" / "best_kanji_model.pth").read_bytes()
    mixed = {"resume_from": str(tmp_path / "b/checkpoints/cnn/checkpoint_epoch_001.pt"), "learning_rate": 1e-4}
    mixed["checkpoint_dir"] = str(tmp_path / "c")
    with pytest.raises(InputError, match="is not of the run that"):
        training.fit(ARCHITECTURE, config(data, tmp_path / "a", epochs=2, **mixed))
    assert (tmp_path / "a" / "best_kanji_model.pth").read_bytes() == best
    training.fit(ARCHITECTURE, config(data, tmp_path / "a", epochs=2, **mixed, overwrite=True))
    assert (tmp_path / "a" / "best_kanji_model.pth").read_bytes() != best


@pytest.mark.parametrize("kept", [5, 1])
def test_a_best_model_that_did_not_come_along(kept, tiny_dataset, tmp_path, monkeypatch, capsys):
    """It is written from the checkpoint that has it, or its loss is said; no file is named that is not there."""
    data, best = tiny_dataset(), tmp_path / "best_kanji_model.pth"
    scores(monkeypatch, 50, 90, 70, 60)
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3, keep_last_n=kept))
    original = best.read_bytes()
    best.unlink()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=4, keep_last_n=kept, resume_from="auto"))
    out = capsys.readouterr().out
    assert best.is_file()
    if kept > 1:
        assert f"{best} was missing: written from" in out
        assert best.read_bytes() == original
        assert f"best validation top-1 90.00 %: {best}" in out
    else:
        assert "the best model so far (90.00 %) is lost" in out
        assert f"best validation top-1 60.00 %: {best}" in out
        assert checkpoints.load(best)["epoch"] == 4


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(config(Path(), Path()))])
def test_each_setting_says_whether_a_resumed_run_may_change_it(name):
    """What decides what is learned stays: the list here is written by hand."""
    free = {"data_dir", "model_dir", "checkpoint_dir", "keep_last_n", "checkpoint_minutes", "resume_from", "overwrite"}
    free |= {"init_from", "epochs", "minutes", "learning_rate", "warmup", "final_learning_rate", "device"}
    free |= {"on_nonfinite", "precision", "compile", "deterministic", "plot", "font", "drawing_processes"}
    (field,) = (f for f in dataclasses.fields(config(Path(), Path())) if f.name == name)
    assert field.metadata["changeable"] == (name in free)


def test_settings_that_a_resumed_run_changes_are_said(tiny_dataset, tmp_path, capsys):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    for changes in ({"augmentation": 0.5}, {"label_smoothing": 0.0}, {"clip_norm": 9.0}, {"ema_decay": 0.5}):
        with pytest.raises(InputError, match="was trained with other settings"):
            training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3, resume_from="auto", **changes))
    capsys.readouterr()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3, resume_from="auto"))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("resumed from"))
    assert "--epochs 3 (was 2), learning rate now" in line


@pytest.fixture
def step_seconds(monkeypatch) -> list[float]:
    """What each step of a training takes, by a clock on which nothing else takes time; the last is for all further."""
    now, lasting, honest = [0.0], [1.0], Run.train_step

    def train_step(self, rows):
        now[0] += lasting.pop(0) if len(lasting) > 1 else lasting[0]
        return honest(self, rows)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Run, "train_step", train_step)
    return lasting


def metrics(models: Path) -> list[dict]:
    return [json.loads(line) for line in (models / "cnn/metrics.jsonl").read_text().splitlines()]


def test_as_many_epochs_as_fit_into_the_time(tiny_dataset, tmp_path, step_seconds, capsys):
    data = tiny_dataset()
    steps = Run(ARCHITECTURE, config(data, tmp_path), PreparedDataset(data)).sampling.steps_per_epoch
    minutes = 5.5 * steps / 60  # five epochs and a half at a second each step
    for name, seconds, epochs in (("even", [1.0], 5), ("late", [30.0, 1.0], 4), ("slower", [1.0] * steps + [2.0], 3)):
        step_seconds[:] = seconds
        training.fit(ARCHITECTURE, config(data, tmp_path / name, epochs=2, minutes=minutes))
        rows = metrics(tmp_path / name)
        assert len(rows) == epochs, name
        assert rows[-1]["learning_rate"] == pytest.approx(0.001 * config(data, tmp_path).learning_rate)
    assert "minutes left" in capsys.readouterr().out


def test_the_time_in_which_it_stood_still_does_not_count(tiny_dataset, tmp_path, step_seconds, monkeypatch):
    data = tiny_dataset()
    steps = Run(ARCHITECTURE, config(data, tmp_path), PreparedDataset(data)).sampling.steps_per_epoch
    settings = {"minutes": 4.5 * steps / 60, "resume_from": "auto"}
    step, taken = Run.train_step, []

    def interrupted(self, rows):
        if len(taken) == 2 * steps + 1:
            raise KeyboardInterrupt
        taken.append(0)
        return step(self, rows)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "train_step", interrupted)
        training.fit(ARCHITECTURE, config(data, tmp_path, **settings, checkpoint_minutes=1e-9))
    step_seconds.insert(0, 0)
    now = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda clock=time.monotonic: clock() + now)
    for minutes, epochs in ((1, 4), (1, 4), (2, 9)):  # done is done, and more time makes more of it
        changed = settings | {"minutes": minutes * settings["minutes"]}
        training.fit(ARCHITECTURE, config(data, tmp_path, **changed))
        assert len(metrics(tmp_path)) == epochs


def test_a_run_of_epochs_is_given_more_by_the_clock(tiny_dataset, tmp_path, step_seconds):
    data = tiny_dataset()
    steps = Run(ARCHITECTURE, config(data, tmp_path), PreparedDataset(data)).sampling.steps_per_epoch
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3))
    more = config(data, tmp_path, epochs=2, minutes=2.5 * steps / 60, resume_from="auto")
    training.fit(ARCHITECTURE, more)
    assert len(metrics(tmp_path)) == 3 + 2


def test_a_step_back_does_not_win_time_back(burst, tiny_dataset, tmp_path, step_seconds):
    """The third epoch, done twice, takes the time of the fourth."""
    data = tiny_dataset()
    steps = Run(ARCHITECTURE, config(data, tmp_path), PreparedDataset(data)).sampling.steps_per_epoch
    bursts = burst(3 * steps)
    training.fit(ARCHITECTURE, config(data, tmp_path, minutes=4.5 * steps / 60, on_nonfinite="step-back"))
    assert bursts
    assert len(metrics(tmp_path)) == 3
