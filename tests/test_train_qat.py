"""Quantisation-aware training: on the engine, and ending in an INT8 file (killed and resumed: test_crashes.py)."""

import importlib
from pathlib import Path

import pytest
import torch

import train_qat
from engine import checkpoints, training
from export import onnx_file
from files.command_line import InputError
from optimization_config import parse_config
from quantization import making
from quantization.files import load_quantized, load_trained
from quantization.making import fine_tune, float_checkpoint
from script_runs import run_script
from tiny_models import TINY, save_float, save_int8, some_images
from train_qat import ARCHITECTURE, QATConfig

LONG = ("train_radical_rnn", "train_vit")  # CI quantises and converts these elsewhere


def config(data: Path, models: Path, **changes) -> QATConfig:
    few = {"batch_size": 8, "epochs": 1, "calibration_images": 20, "hiragana_repeats": 1, "device": "cpu"}
    return QATConfig(**(few | {"data_dir": str(data), "model_dir": str(models)} | changes))


@pytest.mark.parametrize("script", [pytest.param(s, marks=[pytest.mark.long] if s in LONG else []) for s in TINY])
def test_any_architecture_goes_on_learning_and_becomes_int8(script, tiny_dataset, tmp_path):
    """A float model that has learned something: what it knows, the INT8 file knows too."""
    data = tiny_dataset(samples_per_set=8)
    architecture = importlib.import_module(script).ARCHITECTURE
    few = {"data_dir": str(data), "model_dir": str(tmp_path), "epochs": 12, "batch_size": 16, "device": "cpu"}
    training.fit(architecture, architecture.config(**TINY[script], **few, precision="fp32", ema_decay=0.9))
    plain = str(tmp_path / architecture.best_file)
    settings = config(data, tmp_path, model_path=plain, epochs=2, ema_decay=0.9)
    assert "INT8" in fine_tune(ARCHITECTURE, settings)
    network, facts = load_quantized(tmp_path / f"quantized_{architecture.name}_int8.pth")
    assert (facts["script"], facts["quantization"]["how"]) == (script, "training")
    measured = facts["quantization"]["measured"]["test"]
    assert measured["int8_top1"] >= measured["float_top1"] - 10 > 50
    best, about = load_trained(tmp_path / "qat_model_best.pth")
    saved = {"float_script": script, "teacher": plain, "distillation": 1}  # it learns the float model's answers
    assert saved.items() <= about["config"].items()
    with torch.no_grad():
        expected, logits = best(some_images(8)), network(some_images(8))
    assert float((logits - expected).abs().mean()) < 0.05 * float(expected.std())
    for path in (tmp_path / "qat_model_best.pth", tmp_path / "qat/calibrated.pth"):
        with pytest.raises(InputError, match="rounded as INT8 will be"):
            onnx_file.convert(path, tmp_path / "never.onnx", None)


def test_batch_norm_and_ranges_stay_as_they_were(tiny_dataset, tmp_path, monkeypatch):
    """And a resumed run may be measured otherwise, and its model named otherwise."""
    data, plain = tiny_dataset(), save_float("train_radical_rnn", tmp_path / "float.pth")
    fine_tune(ARCHITECTURE, config(data, tmp_path, model_path=str(plain)))
    monkeypatch.chdir(tmp_path)
    changes = {"model_path": "float.pth", "teacher": str(plain), "test_samples": 7}
    fine_tune(ARCHITECTURE, config(data, tmp_path, epochs=2, resume_from="auto", **changes))
    before = checkpoints.load(tmp_path / "qat" / "calibrated.pth")["model"]
    after = checkpoints.load(checkpoints.existing(tmp_path / "checkpoints" / "qat")[-1])["model"]
    still = [k for k in before if k.endswith((".scale", ".zero_point", "running_mean", "running_var"))]
    assert len(still) > 10
    assert [name for name in still if not torch.equal(before[name], after[name])] == []
    assert not torch.equal(before["network.see.weight.value"], after["network.see.weight.value"])


def test_without_a_float_model_the_cnn_is_trained_first(tiny_dataset, tmp_path, capsys):
    data = tiny_dataset()
    fine_tune(ARCHITECTURE, config(data, tmp_path, cnn_epochs=1))
    assert "the CNN is trained first" in capsys.readouterr().out
    assert load_quantized(tmp_path / "quantized_cnn_int8.pth")[1]["script"] == "train_etl9g_model"
    fine_tune(ARCHITECTURE, config(data, tmp_path, cnn_epochs=1, overwrite=True))
    assert "the CNN is trained first" not in capsys.readouterr().out
    assert float_checkpoint(config(data, tmp_path, cnn_epochs=2)) == tmp_path / "best_kanji_model.pth"
    assert "the CNN is trained first" in capsys.readouterr().out  # its one epoch was not all that is asked for now


def test_a_cnn_killed_before_its_first_checkpoint_is_not_taken_for_trained(monkeypatch, tiny_dataset, tmp_path):
    """Its best model is there then, of its first epoch."""
    settings, save = config(tiny_dataset(), tmp_path, cnn_epochs=2), checkpoints.save

    def killed(path: Path, content: dict) -> None:
        if path.suffix == ".pt":
            raise KeyboardInterrupt
        save(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "save", killed)
        float_checkpoint(settings)
    assert (tmp_path / "best_kanji_model.pth").is_file()
    float_checkpoint(settings)
    last = checkpoints.existing(tmp_path / "checkpoints" / "qat_cnn")[-1]
    assert checkpoints.load(last)["epoch"] == 2


def test_the_cnn_that_is_trained_first_takes_over_settings(tmp_path, monkeypatch):
    changes = {"compile": False, "deterministic": True, "on_nonfinite": "step-back", "epoch_samples": 32}
    seen = []
    monkeypatch.setattr(making, "fit", lambda architecture, cnn: seen.append(vars(cnn)))
    float_checkpoint(config(tmp_path / "data", tmp_path, cnn_epochs=7, **changes))
    assert (changes | {"epochs": 7, "batch_size": 8}).items() <= seen[0].items()


def test_what_the_float_model_says_is_recorded_but_no_flag(capsys):
    with pytest.raises(SystemExit):
        parse_config(QATConfig, "", ["--help"])
    assert "--cnn-epochs" in (text := capsys.readouterr().out)
    assert "--float-" not in text


def test_wrong_calls(tiny_dataset, tmp_path, monkeypatch):
    plain = save_float("train_etl9g_model", tmp_path / "float.pth")
    monkeypatch.setattr(making, "fit", lambda *_: pytest.fail("it trained"))
    with pytest.raises(InputError, match="--split writer"):
        fine_tune(ARCHITECTURE, config(tiny_dataset(), tmp_path, model_path=str(plain), split="random"))
    with pytest.raises(InputError, match="other classes"):
        fine_tune(ARCHITECTURE, config(tiny_dataset(classes="あいえ亜腕"), tmp_path, model_path=str(plain)))
    done = run_script(Path(train_qat.__file__), "--model-path", "none.pth", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: none.pth is missing: give the path of a checkpoint or a trained model\n"


def test_fine_tuning_and_calibration_do_not_replace_each_others_file_unasked(tiny_dataset, tmp_path):
    data, plain = tiny_dataset(), save_float("train_vit", tmp_path / "float.pth")
    made = tmp_path / "quantized_vit_int8.pth"
    kept = save_int8("train_vit", made).read_bytes()
    with pytest.raises(InputError, match="made INT8 by calibration: replace it with --overwrite"):
        fine_tune(ARCHITECTURE, config(data, tmp_path, model_path=str(plain)))
    assert made.read_bytes() == kept
    assert not (tmp_path / "qat_model_best.pth").exists()  # it is refused before it costs a training
    fine_tune(ARCHITECTURE, config(data, tmp_path, model_path=str(plain), overwrite=True))
    trained = made.read_bytes()
    with pytest.raises(InputError, match="made INT8 by training: replace it with --overwrite"):
        making.quantize(plain, data, None, 20, None, 9)
    assert made.read_bytes() == trained != kept
    making.quantize(plain, data, None, 20, None, 9, overwrite=True)
    making.quantize(plain, data, None, 20, None, 9)  # its own file it may make again
