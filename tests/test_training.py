"""The engine: it learns, it averages, and a run that was killed ends like one that was not."""

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train_hiercode
from data.augmentation import augment
from data.prepared import METADATA_FILE, PreparedDataset
from engine import architecture, checkpoints, devices, model_files, position, training, training_log
from engine.batches import Batches, evaluate
from engine.run import Run
from engine.stop import Stop
from files.command_line import InputError
from tiny_models import CLASSES, save_float, some_images
from tiny_models import TINY as EVERY_TINY
from train_etl9g_model import ARCHITECTURE, CNN, CNNConfig

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_etl9g_model.py"
TINY = {"width": 0.25, "embedding": 16, "device": "cpu", "precision": "fp32"}
TINY_HIERCODE = EVERY_TINY["train_hiercode"]
TINY_FLAGS = ["--width", "0.25", "--embedding", "16", "--device", "cpu", "--precision", "fp32"]


def config(data: Path, models: Path, **changes) -> CNNConfig:
    return CNNConfig(**(TINY | {"data_dir": str(data), "model_dir": str(models), "batch_size": 8} | changes))


def start(cwd: Path, *flags: object) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, *TINY_FLAGS, *map(str, flags)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def weights(models: Path) -> dict[str, torch.Tensor]:
    last = checkpoints.existing(models / "checkpoints" / "cnn")[-1]
    content = checkpoints.load(last)
    return content["model"] | {f"ema.{k}": v for k, v in content["ema"].items()}


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


@pytest.fixture(autouse=True)
def signals_as_they_were():
    """A run answers Ctrl-C in its own way; pytest wants its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_parameter_gets_a_gradient():
    model = CNN(CNNConfig(width=0.25, embedding=16), "あいう亜腕")
    loss = architecture.cross_entropy(model(torch.rand(8, 1, 64, 64)), torch.arange(8) % 5, CNNConfig())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(tiny_dataset, tmp_path, optimizer):
    data = tiny_dataset(samples_per_set=8)
    changes = {"optimizer": optimizer, "ema_decay": 0.9, "augmentation": 0.3, "hiragana_repeats": 1}
    settings = config(data, tmp_path, epochs=12, **changes)
    metrics = training.fit(ARCHITECTURE, settings)
    assert metrics["validation_top1"] > 90
    model, facts = model_files.load_float(tmp_path / "best_kanji_model.pth")
    assert facts["classes"] == "あいう亜腕"
    assert facts["script"] == "train_etl9g_model"
    assert facts["best"] > 90
    lines = (tmp_path / "cnn" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))
    assert len(checkpoints.existing(tmp_path / "checkpoints" / "cnn")) == settings.keep_last_n
    assert sum(p.numel() for p in model.parameters()) > 0


def test_evaluation_counts_right(tiny_dataset, tmp_path):
    dataset = PreparedDataset(tiny_dataset())
    run = Run(ARCHITECTURE, config(tiny_dataset(), tmp_path), dataset)

    class Always(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 3, 1, 2, 0]).repeat(len(images), 1)

    batches = Batches(dataset, "test", run.device)
    scores = evaluate(Always(), batches, torch.arange(len(batches)), run.config)
    assert scores["top1"] == pytest.approx(20)  # one class of five
    assert scores["top5"] == pytest.approx(100)
    logits = torch.tensor([0.0, 3, 1, 2, 0])
    assert scores["loss"] == pytest.approx(float(-torch.log_softmax(logits, 0).mean()), rel=1e-5)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_teacher_has_its_share_of_the_loss(share, tiny_dataset, tmp_path, monkeypatch):
    """By hand, with a class that is held out; the teacher itself learns nothing and is not saved."""
    monkeypatch.setattr(train_hiercode, "held_out", lambda count, classes: "う")
    teacher = save_float("train_vit", tmp_path / "teacher.pth")
    few = TINY_HIERCODE | {"data_dir": str(tiny_dataset()), "model_dir": str(tmp_path), "device": "cpu"}
    settings = train_hiercode.HierCodeConfig(**few, teacher=str(teacher), distillation=share, precision="fp32")
    run = Run(train_hiercode.ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
    images, labels = some_images(8), torch.tensor([0, 1, 3, 4] * 2)
    run.model.train()
    torch.manual_seed(0)  # its codes are drawn
    logits, _ = run.model(images)
    wanted = model_files.load_float(teacher)[0](images)[:, [0, 1, 3, 4]].softmax(1)
    soft = -(wanted * logits.log_softmax(1)).sum(1).mean()
    smoothed = 0.95 * torch.eye(4).repeat(2, 1) + 0.05 / 4
    hard = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    torch.manual_seed(0)
    loss = run.loss(images, labels)
    assert loss.item() == pytest.approx((share * soft + (1 - share) * hard).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in run.teacher.parameters())
    assert not run.teacher.training
    assert not any("teacher" in name for name in run.model.state_dict())


def test_who_cannot_teach(tiny_dataset, tmp_path):
    plain = save_float("train_etl9g_model", tmp_path / "plain.pth")
    content = checkpoints.load(plain) | {"source": "test shapes", "generator": "test shapes"}
    for name, changes, words in (
        ("classes", {"classes": CLASSES[::-1]}, "other classes"),
        ("split", {"config": content["config"] | {"split": "random"}}, "or it knows the tests"),
    ):
        checkpoints.save(tmp_path / f"{name}.pth", content | changes)
        settings = config(tiny_dataset(), tmp_path, teacher=str(tmp_path / f"{name}.pth"))
        with pytest.raises(InputError, match=words):
            Run(ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
    with pytest.raises(ValueError, match="--distillation must lie in"):
        config(tmp_path, tmp_path, distillation=1.5).check()


def another_source(folder: Path) -> Path:
    """The same dataset, said to be of other data."""
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8")) | {"source": "ETL9G", "generator": None}
    (folder / METADATA_FILE).write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def test_weights_that_know_the_tests_are_no_beginning(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path / "random", epochs=1, split="random", hiragana_repeats=1))
    best = str(tmp_path / "random" / "best_kanji_model.pth")
    with pytest.raises(InputError, match="trained with --split random --seed 0: give the same, or it knows the tests"):
        training.fit(ARCHITECTURE, config(data, tmp_path / "writer", epochs=1, init_from=best))
    training.fit(ARCHITECTURE, config(another_source(data), tmp_path / "writer", epochs=1, init_from=best))


def test_hiragana_are_shown_more_often(tiny_dataset, tmp_path):
    data = tiny_dataset()  # three hiragana, two kanji
    run = Run(ARCHITECTURE, config(data, tmp_path, hiragana_repeats=3), PreparedDataset(data))
    shown = torch.bincount(run.training.labels[run.sampling.rows])
    assert shown.tolist() == [3 * shown[3], 3 * shown[3], 3 * shown[3], shown[3], shown[3]]


def test_an_epoch_of_few_samples_shows_others_each_time(tiny_dataset, tmp_path, monkeypatch):
    data, seen = tiny_dataset(), []
    train_step = Run.train_step

    def noting(self, rows):
        seen.append((self.epoch, rows.tolist()))
        return train_step(self, rows)

    monkeypatch.setattr(Run, "train_step", noting)
    settings = config(data, tmp_path, epochs=2, epoch_samples=9, batch_size=4)
    metrics = training.fit(ARCHITECTURE, settings)
    assert metrics["samples"] == 16  # two whole batches an epoch
    assert [epoch for epoch, _ in seen] == [0, 0, 1, 1]
    first, second = ({row for e, rows in seen if e == epoch for row in rows} for epoch in (0, 1))
    assert first != second

    path = tmp_path / "checkpoints" / ARCHITECTURE.name / "checkpoint_epoch_002.pt"
    old = checkpoints.load(path)
    del old["config"]["epoch_samples"]  # as written before there was this setting
    checkpoints.save(path, old)
    more = config(data, tmp_path, epochs=3, batch_size=4, resume_from=str(path))
    with pytest.raises(InputError, match="does not fit this run"):  # by its place: it was no run of whole epochs
        training.fit(ARCHITECTURE, more)
    with pytest.raises(InputError, match=r"--epoch-samples 0 \(now 9\)"):
        training.fit(
            ARCHITECTURE, config(data, tmp_path, epochs=3, epoch_samples=9, batch_size=4, resume_from=str(path))
        )


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset, tmp_path_factory) -> tuple[list[object], dict[str, torch.Tensor]]:
    """The flags of a run of four epochs with all that is random in training, and the weights it ends with."""
    flags = ["--data-dir", tiny_dataset(samples_per_set=8), "--epochs", 4, "--batch-size", 4, "--dropout", 0.2]
    flags += ["--hiragana-repeats", 1]
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, _, err = finish(start(folder, *flags, "--model-dir", "whole"))
    assert code == 0, err
    return flags, weights(folder / "whole")


@pytest.mark.long  # test_crashes.py kills every training once in CI
def test_killed_and_resumed_equals_uninterrupted(uninterrupted, tmp_path):
    """kill -9 at a random place in the middle of an epoch; every step of the resumed run must draw the same numbers."""
    flags, expected = uninterrupted
    flags = [*flags, "--checkpoint-minutes", 1e-9]  # a checkpoint at every step
    process = start(tmp_path, *flags, "--model-dir", "killed")
    folder = tmp_path / "killed" / "checkpoints" / "cnn"
    while process.poll() is None and not (folder / "checkpoint_epoch_003.pt").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    left = checkpoints.load(checkpoints.existing(folder)[-1])
    assert left["epoch"] < 4
    code, out, err = finish(start(tmp_path, *flags, "--model-dir", "killed", "--resume-from", "auto"))
    assert code == 0, err
    assert "resumed from" in out
    assert_identical(weights(tmp_path / "killed"), expected)
    lines = (tmp_path / "killed" / "cnn" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert not list(tmp_path.rglob("*.part"))


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


def test_wrong_calls_end_with_one_line(tiny_dataset, tmp_path, monkeypatch, capsys):
    data = tiny_dataset()
    monkeypatch.chdir(tmp_path)
    flags = ["--data-dir", data, "--epochs", 1, "--batch-size", 8]
    training.fit(ARCHITECTURE, config(data, tmp_path / "models", epochs=1))
    checkpoint = tmp_path / "models" / "checkpoints" / "cnn" / "checkpoint_epoch_001.pt"
    foreign = tmp_path / "foreign" / checkpoint.name
    foreign.parent.mkdir()
    checkpoints.save(foreign, checkpoints.load(checkpoint) | {"script": "train_vit"})
    (tmp_path / "text.pt").write_text("no checkpoint")
    best = tmp_path / "models" / "best_kanji_model.pth"
    resume = [*flags, "--model-dir", "other", "--resume-from"]
    calls = [
        (["--data-dir", "nothing"], "run scripts/prepare_dataset.py"),
        (flags, "--resume-from auto"),  # an earlier run lies there
        ([*resume, "missing.pt"], "missing.pt is missing"),
        ([*resume, "text.pt"], "is not a checkpoint"),
        ([*resume, foreign], "train_vit"),
        ([*flags, "--checkpoint-dir", foreign.parent], "train_vit"),
        ([*resume, best], "--init-from"),
        ([*flags, "--model-dir", "other", "--batch-size", 4, "--resume-from", checkpoint], "--batch-size"),
        ([*flags, "--model-dir", "other", "--teacher", "missing.pth"], "missing.pth is missing"),
        ([*flags, "--model-dir", "other", "--teacher", best, "--resume-from", checkpoint], "--teacher None (now"),
        ([*flags, "--device", "nonsense"], "--device nonsense"),
        ([*flags, "--device", "meta"], "--device meta"),
        ([*flags, "--model-dir", "text.pt/models"], "text.pt"),  # at once, not after an epoch
        ([*flags, "--epochs", 0], "--epochs"),
        ([*flags, "--width", "nan"], "--width"),
        ([*flags, "--embedding", 0], "--embedding"),
        ([*flags, "--dropout", 2], "--dropout"),
    ]
    monkeypatch.setattr(training, "train_epoch", lambda *_: pytest.fail("it trained"))
    for call, words in calls:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["train_etl9g_model.py", *TINY_FLAGS, *map(str, call)])
        with pytest.raises(SystemExit) as ended:
            training.train(ARCHITECTURE)
        error = capsys.readouterr().err
        assert ended.value.code == 2, call
        assert words in error.splitlines()[-1]
        assert len(error.splitlines()) == 1 + error.startswith("usage:")


def test_the_script_itself_answers_a_wrong_call_with_one_line(tmp_path):
    code, out, err = finish(start(tmp_path, "--data-dir", "nothing"))
    assert (code, out) == (2, "")
    assert err == "error: nothing is not a prepared dataset: run scripts/prepare_dataset.py --output-dir nothing\n"


def test_beginning_anew_replaces_the_earlier_run(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3))
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1, overwrite=True))
    assert [p.name for p in checkpoints.existing(tmp_path / "checkpoints" / "cnn")] == ["checkpoint_epoch_001.pt"]


def test_going_on_for_more_epochs(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    metrics = training.fit(ARCHITECTURE, config(data, tmp_path, epochs=3, resume_from="auto"))
    assert metrics["epoch"] == 3
    assert metrics["learning_rate"] < 1e-3  # the cosine ends where the new --epochs ends


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_best(tiny_dataset, tmp_path):
    data = tiny_dataset()
    flags = ["--data-dir", data, "--batch-size", 8, "--model-dir", "models"]
    assert finish(start(tmp_path, *flags, "--epochs", 1))[0] == 0
    best = tmp_path / "models" / "best_kanji_model.pth"
    before = best.read_bytes()
    code, _, err = finish(start(tmp_path, *flags, "--epochs", 3, "--learning-rate", 1e30, "--overwrite"))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: the loss became")
    assert best.read_bytes() == before


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


def finite(path: Path) -> bool:
    content = checkpoints.load(path)
    tensors = [*content["model"].values(), *(content.get("ema") or {}).values()]
    return all(bool(value.isfinite().all()) for value in tensors)


@pytest.mark.parametrize("step", [13, 20], ids=["inside an epoch", "at its last step"])
def test_what_is_no_number_is_never_saved(step, burst, tiny_dataset, tmp_path):
    """Not even by a checkpoint inside the epoch, which is due at every step here."""
    burst(step)
    settings = config(tiny_dataset(), tmp_path, epochs=4, hiragana_repeats=1, checkpoint_minutes=1e-9)
    with pytest.raises(FloatingPointError, match=r"became .* in epoch 2: go on from the last checkpoint"):
        training.fit(ARCHITECTURE, settings)
    saved = [*checkpoints.existing(tmp_path / "checkpoints" / "cnn"), tmp_path / "best_kanji_model.pth"]
    assert len(saved) == 3
    assert all(finite(path) for path in saved)
    assert checkpoints.load(saved[1])["step"] == (step - 1) % 10


def test_weights_that_are_no_numbers_are_noticed_where_the_loss_is_one(tiny_dataset, tmp_path, monkeypatch):
    """As after the last step of an epoch, whose loss was of the weights before it."""
    data = tiny_dataset()
    run = Run(ARCHITECTURE, config(data, tmp_path), PreparedDataset(data))
    run.check_finite()
    for tensor in (run.model.classify[1].bias, run.averaged.module.classify[1].bias):
        with torch.no_grad():
            tensor[0] = math.nan
        with pytest.raises(FloatingPointError, match="the weights became"):
            position.save(run)
        with torch.no_grad():
            tensor[0] = 0
    run.train_step(run.sampling.rows[:8])
    run.optimizers[0].state[run.model.classify[1].bias]["exp_avg_sq"][0] = math.inf
    with pytest.raises(FloatingPointError, match="the weights became"):
        training.end_epoch(run)
    assert not list(tmp_path.rglob("*.p*t*"))


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


def test_starting_from_another_run(tiny_dataset, tmp_path):
    training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path / "first", epochs=8, ema_decay=0.9))
    best = tmp_path / "first" / "best_kanji_model.pth"
    again = training.fit(ARCHITECTURE, config(tiny_dataset(seed=1), tmp_path / "second", epochs=1, init_from=str(best)))
    scratch = training.fit(ARCHITECTURE, config(tiny_dataset(seed=1), tmp_path / "third", epochs=1))
    assert again["train_loss"] < scratch["train_loss"]


def test_a_seed_decides_everything(tiny_dataset, tmp_path):
    data = tiny_dataset()
    for name, seed in (("first", 2**32 - 1), ("again", 2**32 - 1), ("other", 7)):
        training.fit(ARCHITECTURE, config(data, tmp_path / name, epochs=1, seed=seed))
    assert_identical(weights(tmp_path / "first"), weights(tmp_path / "again"))
    first, other = weights(tmp_path / "first"), weights(tmp_path / "other")
    assert not torch.equal(first["classify.1.weight"], other["classify.1.weight"])


def test_a_seed_decides_the_order_and_the_randomness_of_each_step(tiny_dataset, tmp_path, monkeypatch):
    """PyTorch's generator on a CPU takes 32 bits of a seed: a number in the upper ones would be none."""
    drawn, orders = [], []
    augment_honestly, get = augment, Batches.get

    def augmented(images, *rest):
        drawn.append(torch.get_rng_state().numpy().tobytes())
        return augment_honestly(images, *rest)

    def got(batches, rows):
        orders.append(tuple(rows.tolist()))
        return get(batches, rows)

    monkeypatch.setattr("engine.run.augment", augmented)
    monkeypatch.setattr(Batches, "get", got)
    monkeypatch.setattr(training, "evaluate", lambda *_: {"loss": 1.0, "top1": 50.0, "top5": 90.0})
    data = tiny_dataset()
    for seed in (0, 1, 4096, 2**32 - 1):
        training.fit(ARCHITECTURE, config(data, tmp_path / str(seed), epochs=2, seed=seed))
    assert len(set(drawn)) == len(drawn) == len(set(orders)) > 80


def test_going_back_to_an_earlier_checkpoint_does_the_later_epochs_again(tiny_dataset, tmp_path):
    """As if the later ones had never been: none of them is kept, resumed from, or listed twice."""
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=4))
    whole = weights(tmp_path)
    folder = tmp_path / "checkpoints" / "cnn"
    second = str(folder / "checkpoint_epoch_002.pt")
    run = Run(ARCHITECTURE, config(data, tmp_path, epochs=4), PreparedDataset(data))
    position.restore(run, Path(second), checkpoints.load(Path(second)))
    training.train_epoch(run, Stop())
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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epoch_samples": 1}, "batch norm has no spread"),
        ({"width": 1e300}, "no model can"),
        ({"embedding": 10**20}, "no model can"),
    ],
)
def test_settings_that_make_no_training_get_one_line(changes, line, tiny_dataset, tmp_path):
    with pytest.raises(InputError, match=line) as refused:
        training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path, **changes))
    assert len(str(refused.value).splitlines()) == 1


def test_a_damaged_last_checkpoint_locks_nobody_out(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path, epochs=2))
    whole = weights(tmp_path)
    first, last = checkpoints.existing(tmp_path / "checkpoints" / "cnn")
    last.write_bytes(last.read_bytes()[:10_000])
    with pytest.raises(InputError, match="damaged: delete it to go on from the one before"):
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


def test_a_step_beyond_the_epoch_is_refused(tiny_dataset, tmp_path):
    data = tiny_dataset()
    run = Run(ARCHITECTURE, config(data, tmp_path, epochs=2), PreparedDataset(data))
    training.train_epoch(run, Stop())
    path = position.save(run)
    assert run.step == run.sampling.steps_per_epoch
    with pytest.raises(InputError, match="its schedule is at step"):
        position.restore(run, path, checkpoints.load(path))


def test_lines_of_the_metrics_that_are_damaged_count_as_later_ones():
    assert training_log.epoch_of('{"epoch": 3}') == 3
    for line in ("", "{", "[]", "null", '{"loss": 1}', '{"epoch": "x"}', '{"epoch": null}', "[" * 100_000):
        assert training_log.epoch_of(line) == float("inf")


def test_of_equal_scores_the_later_model_is_kept(tiny_dataset, tmp_path, capsys):
    """And the star in the epoch's line tells of each model that was kept."""
    scores = iter([50.0, 50.0, 40.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_: {"loss": 1.0, "top1": next(scores), "top5": 90.0})
        training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path, epochs=3))
    kept = checkpoints.load(tmp_path / "best_kanji_model.pth")
    assert (kept["epoch"], kept["best"]) == (2, 50.0)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["*" in line for line in lines] == [True, True, False]
    assert len({len(line) for line in lines}) == 1  # aligned


def test_a_random_split_trains_too(tiny_dataset, tmp_path):
    data = tiny_dataset()
    metrics = training.fit(ARCHITECTURE, config(data, tmp_path, epochs=1, split="random", hiragana_repeats=1))
    assert metrics["samples"] == len(PreparedDataset(data, "random").splits["train"]) // 8 * 8
    assert "validation_top1" in metrics


def test_without_validation_no_score_is_told(tiny_dataset, tmp_path, capsys):
    few = tiny_dataset(classes="亜腕", sets=4, samples_per_set=2)  # 16 samples, a twentieth of which is none
    training.fit(ARCHITECTURE, config(few, tmp_path, epochs=3, split="random"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("not validated, the last model: ")


def test_curves_and_events_are_written_if_asked(tiny_dataset, tmp_path):
    training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path, epochs=2, plot=True, tensorboard=True))
    with Image.open(tmp_path / "cnn" / "curves.png") as picture:
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    (events,) = (tmp_path / "cnn").glob("events.out.tfevents.*")
    assert b"validation_top1" in events.read_bytes()


def test_what_cannot_be_written_is_found_out_before_training(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    (tmp_path / "file").write_text("here")
    monkeypatch.setattr(training, "train_epoch", lambda *_: pytest.fail("it trained"))
    for changes in (
        {"model_dir": str(tmp_path / "file")},
        {"model_dir": str(tmp_path / "file" / "below")},
        {"checkpoint_dir": str(tmp_path / "file")},
    ):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            training.fit(ARCHITECTURE, config(data, tmp_path / "models", **changes))
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="--plot needs the package matplotlib"):
        training.fit(ARCHITECTURE, config(data, tmp_path / "models", plot=True))


class InductorError(RuntimeError):
    """As torch's compiler names its own."""

    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nSee the documentation"),
            1,
            "error: not enough memory (on the device for --batch-size 16: try a smaller one)\n",
        ),
        (
            InductorError("InvalidCxxCompiler: no C++ compiler\nSet TORCHDYNAMO_VERBOSE=1"),
            2,
            "error: the model cannot be compiled here (InvalidCxxCompiler: no C++ compiler): try --no-compile\n",
        ),
    ],
    ids=["memory", "compiler"],
)
def test_what_the_device_cannot_do_gets_one_line(fault, code, line, tiny_dataset, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise fault

    monkeypatch.setattr(training, "train_epoch", failing)
    flags = ["--data-dir", str(tiny_dataset()), "--model-dir", str(tmp_path), "--batch-size", "16"]
    monkeypatch.setattr(sys, "argv", ["train_etl9g_model.py", *TINY_FLAGS, *flags])
    with pytest.raises(SystemExit) as ended:
        training.train(ARCHITECTURE)
    assert ended.value.code == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("triton", "capability", "compiled"), [(True, (8, 0), True), (True, (6, 1), False), (False, (9, 0), False)]
)
def test_a_gpu_compiles_by_itself_only_where_it_can(triton, capability, compiled, monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: triton or None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.compiles_well(torch.device("cuda")) == compiled
    assert not devices.compiles_well(torch.device("cpu"))


def test_a_second_wish_to_stop_ends_at_once(capsys):
    stop = Stop()
    signal.raise_signal(signal.SIGINT)
    assert stop.signal == signal.SIGINT
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert "stopping" in capsys.readouterr().err
