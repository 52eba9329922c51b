"""Quantisation-aware training: on the engine, and ending in an INT8 file (killed and resumed: test_crashes.py)."""

import importlib
import signal
from pathlib import Path

import pytest
import torch

import engine.run
import train_qat
from data.prepared import PreparedDataset
from engine import checkpoints, training
from engine.run import Run, distillation
from export import onnx_file
from files.command_line import InputError
from quantization import fine_tuning
from quantization.files import load_quantized, load_trained
from quantization.fine_tuning import architecture_trained, fine_tune, float_checkpoint
from script_runs import run_script
from tiny_models import CLASSES, TINY, save_float, some_images
from train_qat import ARCHITECTURE, QATConfig

SCRIPT = Path(train_qat.__file__)


@pytest.fixture(autouse=True)
def signals_as_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def config(data: Path, models: Path, **changes) -> QATConfig:
    few = {"batch_size": 8, "epochs": 2, "calibration_images": 20, "hiragana_repeats": 1, "device": "cpu"}
    return QATConfig(**(few | {"data_dir": str(data), "model_dir": str(models)} | changes))


LONG = ("train_radical_rnn", "train_vit")


@pytest.mark.parametrize(  # two of the four in CI, which quantises and converts all of them elsewhere
    "script", [pytest.param(s, marks=[pytest.mark.long] if s in LONG else []) for s in TINY]
)
def test_any_architecture_goes_on_learning_and_becomes_int8(script, tiny_dataset, tmp_path, capsys):
    """A float model that has learned something: what it knows, the INT8 file knows too."""
    data = tiny_dataset(samples_per_set=8)
    architecture = importlib.import_module(script).ARCHITECTURE
    few = {"data_dir": str(data), "model_dir": str(tmp_path), "epochs": 12, "batch_size": 16, "device": "cpu"}
    training.fit(architecture, architecture.config(**TINY[script], **few, precision="fp32", ema_decay=0.9))
    settings = config(data, tmp_path, model_path=str(tmp_path / architecture.best_file), ema_decay=0.9)
    fine_tune(ARCHITECTURE, settings)
    name = architecture_trained(settings)[0].name
    network, facts = load_quantized(tmp_path / f"quantized_{name}_int8.pth")
    assert facts["script"] == script
    assert facts["quantization"]["how"] == "training"
    measured = facts["quantization"]["measured"]["test"]
    assert measured["float_top1"] > 60
    assert measured["int8_top1"] >= measured["float_top1"] - 10
    best, about = load_trained(tmp_path / "qat_model_best.pth")
    assert about["script"] == "train_qat"
    images = some_images(8)
    with torch.no_grad():
        difference = (network(images) - best(images)).abs().mean().detach()
    assert float(difference) < 0.05 * float(best(images).std())


def test_batch_norm_and_ranges_stay_as_they_were(tiny_dataset, tmp_path):
    plain = save_float("train_radical_rnn", tmp_path / "float.pth")
    settings = config(tiny_dataset(), tmp_path, model_path=str(plain), epochs=1)
    fine_tune(ARCHITECTURE, settings)
    before = checkpoints.load(tmp_path / "qat" / "calibrated.pth")["model"]
    after = checkpoints.load(checkpoints.existing(tmp_path / "checkpoints" / "qat")[-1])["model"]
    still = [k for k in before if k.endswith((".scale", ".zero_point", "running_mean", "running_var"))]
    assert len(still) > 10
    for name in still:
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["network.see.weight.value"], after["network.see.weight.value"])


def test_without_a_float_model_the_cnn_is_trained_first(tiny_dataset, tmp_path, capsys):
    data = tiny_dataset()
    settings = config(data, tmp_path, cnn_epochs=1, epochs=1)
    fine_tune(ARCHITECTURE, settings)
    assert "the CNN is trained first" in capsys.readouterr().out
    assert (tmp_path / "best_kanji_model.pth").is_file()
    assert load_quantized(tmp_path / "quantized_cnn_int8.pth")[1]["script"] == "train_etl9g_model"
    fine_tune(ARCHITECTURE, config(data, tmp_path, cnn_epochs=1, epochs=1, overwrite=True))
    assert "the CNN is trained first" not in capsys.readouterr().out
    assert float_checkpoint(config(data, tmp_path, cnn_epochs=2)) == tmp_path / "best_kanji_model.pth"
    assert "the CNN is trained first" in capsys.readouterr().out  # its one epoch was not all that is asked for now


def test_a_cnn_killed_before_its_first_checkpoint_is_not_taken_for_trained(monkeypatch, tiny_dataset, tmp_path, capsys):
    """Its best model is there then, of its first epoch."""
    settings = config(tiny_dataset(), tmp_path, cnn_epochs=2, epochs=1)

    def killed(path: Path, content: dict) -> None:
        if path.suffix == ".pt":
            raise KeyboardInterrupt
        save(path, content)

    save = checkpoints.save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "save", killed)
        fine_tune(ARCHITECTURE, settings)
    assert (tmp_path / "best_kanji_model.pth").is_file()
    capsys.readouterr()
    fine_tune(ARCHITECTURE, settings)
    assert "the CNN is trained first" in capsys.readouterr().out
    last = checkpoints.existing(tmp_path / "checkpoints" / "qat_cnn")[-1]
    assert checkpoints.load(last)["epoch"] == 2


def test_held_out_classes_stay_held_out(monkeypatch, tiny_dataset, tmp_path):
    """Neither shown nor, in the loss, taken for wrong."""
    monkeypatch.setattr(train_qat, "held_out_classes", lambda config, classes: "う")
    model = train_qat.FakeQuantized(torch.nn.Flatten(), CLASSES, "う")
    logits, column = model.train()(torch.eye(5))
    assert logits.shape == (5, 4)
    assert column[[0, 1, 3, 4]].tolist() == [0, 1, 2, 3]
    assert model.eval()(torch.eye(5)).shape == (5, 5)


@pytest.mark.parametrize("other", [False, True])
def test_a_training_has_the_float_model_for_its_teacher(other, monkeypatch, tiny_dataset, tmp_path):
    """Alone, if no other teacher and no other share are named."""
    plain, seen = save_float("train_etl9g_model", tmp_path / "float.pth"), []
    named = str(save_float("train_vit", tmp_path / "other.pth")) if other else None
    monkeypatch.setattr(engine.run, "distillation", lambda *told: seen.append(told[1]) or distillation(*told))
    settings = config(tiny_dataset(), tmp_path, model_path=str(plain), epochs=1, teacher=named)
    fine_tune(ARCHITECTURE, settings)
    assert (settings.teacher, settings.distillation) == (named or str(plain), 1)
    assert len(seen) > 2
    assert all(wanted.shape[1] == 5 and not wanted.requires_grad for wanted in seen)


def test_wrong_calls(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    plain = save_float("train_etl9g_model", tmp_path / "float.pth")
    monkeypatch.setattr(fine_tuning, "fit", lambda *_: pytest.fail("it trained"))
    for changes, words in (
        ({"split": "random"}, "--split writer"),
        ({"data_dir": str(tiny_dataset(classes="あいえ亜腕"))}, "other classes"),
    ):
        with pytest.raises(InputError, match=words):
            fine_tune(ARCHITECTURE, config(data, tmp_path, **({"model_path": str(plain)} | changes)))
    with pytest.raises(FileNotFoundError, match=r"none\.pth is missing"):
        fine_tune(ARCHITECTURE, config(data, tmp_path, model_path="none.pth"))
    with pytest.raises(ValueError, match="--cnn-epochs must be at least 1"):
        config(data, tmp_path, cnn_epochs=0).check()


def test_the_script_answers_a_wrong_call_with_one_line(tmp_path):
    done = run_script(SCRIPT, "--model-path", "none.pth", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: none.pth is missing: give the path of a checkpoint or a trained model\n"


def test_what_the_cnn_is_told_of_the_settings(tiny_dataset, tmp_path, monkeypatch):
    class Told(Exception):
        pass

    def told(architecture, cnn):
        assert (cnn.compile, cnn.deterministic, cnn.on_nonfinite, cnn.epoch_samples) == (False, True, "step-back", 32)
        raise Told

    monkeypatch.setattr(fine_tuning, "fit", told)
    changes = {"compile": False, "deterministic": True, "on_nonfinite": "step-back", "epoch_samples": 32}
    with pytest.raises(Told):
        fine_tune(ARCHITECTURE, config(tiny_dataset(), tmp_path, **changes))


def test_a_resumed_run_may_be_measured_otherwise_and_its_model_named_otherwise(tiny_dataset, tmp_path, monkeypatch):
    data = tiny_dataset()
    plain = save_float("train_etl9g_model", tmp_path / "float.pth")
    monkeypatch.chdir(tmp_path)
    fine_tune(ARCHITECTURE, config(data, tmp_path, model_path=str(plain), teacher=str(plain), epochs=1))
    changes = {"model_path": "float.pth", "teacher": str(plain), "test_samples": 7}
    fine_tune(ARCHITECTURE, config(data, tmp_path, epochs=2, resume_from="auto", **changes))


def test_what_is_on_its_way_to_integers_is_not_exported(tiny_dataset, tmp_path):
    plain = save_float("train_etl9g_model", tmp_path / "float.pth")
    fine_tune(ARCHITECTURE, config(tiny_dataset(), tmp_path, model_path=str(plain), epochs=1))
    for path in (tmp_path / "qat_model_best.pth", tmp_path / "qat/calibrated.pth"):
        with pytest.raises(InputError, match="rounded as INT8 will be"):
            onnx_file.convert(path, tmp_path / "never.onnx", None)


def test_by_default_it_is_a_cnn(tiny_dataset):
    classes = PreparedDataset(tiny_dataset()).classes
    model = train_qat.ARCHITECTURE.model(QATConfig(), classes)
    assert model.train()(torch.rand(2, 1, 64, 64))[0].shape == (2, 5)
