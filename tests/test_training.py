"""The engine: it learns, it averages, and a run that was killed ends like one that was not."""

import json
import math
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train_hiercode
from data.augmentation import augment
from data.prepared import PreparedDataset
from engine import checkpoints, devices, model_files, position, training, training_log
from engine.architecture import corrected
from engine.batches import Batches, evaluate
from engine.run import Run
from engine.stop import Stop
from export import onnx_file
from files.command_line import InputError
from inference.recognizer import RELEASED
from tiny_models import CLASSES, save_float, some_images
from tiny_models import TINY as EVERY_TINY
from tiny_training import TINY_FLAGS, another_source, config, finish, start
from train_etl9g_model import ARCHITECTURE

TINY_HIERCODE = EVERY_TINY["train_hiercode"]


@pytest.fixture(autouse=True)
def signals_as_they_were():
    """A run answers Ctrl-C in its own way; pytest wants its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(tiny_dataset, tmp_path, optimizer):
    data = tiny_dataset(samples_per_set=8)
    changes = {"optimizer": optimizer, "ema_decay": 0.9, "augmentation": 0.3, "hiragana_repeats": 1}
    settings = config(data, tmp_path, epochs=12, **changes)
    metrics = training.fit(ARCHITECTURE, settings)
    assert metrics["validation_top1"] > 90
    model, facts = model_files.load_network(tmp_path / "best_kanji_model.pth")
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


@pytest.mark.parametrize(("share", "exported"), [(0.25, False), (1.0, False), (0.25, True)])
def test_a_teacher_has_its_share_of_the_loss(share, exported, tiny_dataset, tmp_path):
    """By hand; the teacher itself, a network or an exported file, learns nothing and is not saved."""
    network = teacher = save_float("train_vit", tmp_path / "teacher.pth")
    if exported:
        teacher = tmp_path / "teacher.onnx"
        onnx_file.convert(network, teacher, None)
    few = TINY_HIERCODE | {"data_dir": str(tiny_dataset()), "model_dir": str(tmp_path), "device": "cpu"}
    settings = train_hiercode.HierCodeConfig(**few, teacher=str(teacher), distillation=share, precision="fp32")
    run = Run(train_hiercode.ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
    images, labels = some_images(8), torch.tensor([0, 1, 3, 4] * 2)
    run.model.train()
    torch.manual_seed(0)  # its codes are drawn
    logits = run.model(images)
    told = model_files.load_network(network)[0](images)
    assert not torch.equal(corrected(told, labels), told)
    wanted = (corrected(told, labels) if share < 1 else told).softmax(1)  # labels without a share have no say
    soft = -(wanted * logits.log_softmax(1)).sum(1).mean()
    smoothed = 0.95 * torch.eye(5)[labels] + 0.05 / 5
    hard = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    torch.manual_seed(0)
    loss = run.loss(images, labels)
    assert loss.item() == pytest.approx((share * soft + (1 - share) * hard).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is None for p in run.teacher.parameters())
    assert not run.teacher.training
    assert not any("teacher" in name for name in run.model.state_dict())


def test_where_a_teacher_is_wrong_its_first_choice_and_the_label_change_places():
    told = torch.tensor([[1.0, 5, 3], [1, 5, 3], [1, 5, 3], [4, 4, 0]])
    labels = torch.tensor([1, 0, -100, 1])  # right, wrong, none of the classes, a tie
    assert corrected(told, labels).tolist() == [[1, 5, 3], [5, 1, 3], [1, 5, 3], [4, 4, 0]]


def test_who_cannot_teach(tiny_dataset, tmp_path):
    plain = save_float("train_etl9g_model", tmp_path / "plain.pth")
    content = checkpoints.load(plain) | {"source": "test shapes", "generator": "test shapes"}
    for name, changes, words in (
        ("classes", {"classes": CLASSES[::-1]}, "other classes"),
        ("split", {"config": content["config"] | {"split": "random"}}, "or it saw tests"),
    ):
        checkpoints.save(tmp_path / f"{name}.pth", content | changes)
        settings = config(tiny_dataset(), tmp_path, teacher=str(tmp_path / f"{name}.pth"))
        with pytest.raises(InputError, match=words):
            Run(ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
        onnx_file.convert(tmp_path / f"{name}.pth", tmp_path / f"{name}.onnx", None)
        settings.teacher = str(tmp_path / f"{name}.onnx")
        with pytest.raises(InputError, match=words):
            Run(ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
    settings.teacher = str(RELEASED.with_name("released") / f"{RELEASED.stem}_any_image.onnx")
    with pytest.raises(InputError, match="takes pictures, not normalised images"):
        Run(ARCHITECTURE, settings, PreparedDataset(Path(settings.data_dir)))
    with pytest.raises(ValueError, match="--distillation must lie in"):
        config(tmp_path, tmp_path, distillation=1.5).check()


def test_weights_that_know_the_tests_are_no_beginning(tiny_dataset, tmp_path):
    data = tiny_dataset()
    training.fit(ARCHITECTURE, config(data, tmp_path / "random", epochs=1, split="random", hiragana_repeats=1))
    best = str(tmp_path / "random" / "best_kanji_model.pth")
    with pytest.raises(InputError, match="trained with --split random --seed 0: give the same ones, or it saw tests"):
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


def test_starting_from_another_run(tiny_dataset, tmp_path):
    training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path / "first", epochs=8, ema_decay=0.9))
    best = tmp_path / "first" / "best_kanji_model.pth"
    again = training.fit(ARCHITECTURE, config(tiny_dataset(seed=1), tmp_path / "second", epochs=1, init_from=str(best)))
    scratch = training.fit(ARCHITECTURE, config(tiny_dataset(seed=1), tmp_path / "third", epochs=1))
    assert again["train_loss"] < scratch["train_loss"]


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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epoch_samples": 1}, "batch norm needs two"),
        ({"width": 1e300}, "no model can"),
        ({"embedding": 10**20}, "no model can"),
    ],
)
def test_settings_that_make_no_training_get_one_line(changes, line, tiny_dataset, tmp_path):
    with pytest.raises(InputError, match=line) as refused:
        training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path, **changes))
    assert len(str(refused.value).splitlines()) == 1


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


def test_an_epochs_line_fits_a_terminal_and_marks_the_best():
    metrics = {"epoch": 3, "train_loss": 8.0179, "images_per_second": 1105.2, "seconds": 9431.6}
    shown = "epoch   3/30  loss  8.018   1,105 images/s  9432 s"
    assert training_log.epoch_line(metrics, 30, 0) == shown
    metrics |= {"validation_loss": 0.3871, "validation_top1": 100.0}
    lines = [training_log.epoch_line(metrics, 30, best) for best in (100, 101)]
    assert lines[0] == "epoch   3/30  loss  8.018  val.  0.387  top-1 100.00 % *  1,105 images/s  9432 s"
    assert (lines[1], len(lines[0])) == (lines[0].replace("*", " "), 80)
    line = training_log.epoch_line(metrics, 30, 100, left=4350)
    assert line == "epoch   3/30  loss  8.018  val.  0.387  top-1 100.00 % *   72.5 minutes left"


def test_curves_are_drawn_if_asked(tiny_dataset, tmp_path):
    training.fit(ARCHITECTURE, config(tiny_dataset(), tmp_path, epochs=2, plot=True))
    with Image.open(tmp_path / "cnn" / "curves.png") as picture:
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


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
