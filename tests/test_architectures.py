"""Every architecture, found by its training script: shapes, gradients, learning, export.

That they may be killed is shown in test_crashes.py."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import model_files, training
from engine.layers import StochasticDepth
from export import onnx_file
from inference.recognizer import Recognizer

SCRIPTS = Path(__file__).parents[1] / "scripts"
CLASSES = "あが亜腕語晴"
TINY = {
    "train_etl9g_model": ["--width", "0.25", "--embedding", "16"],
    "train_radical_rnn": ["--width", "0.25", "--embedding", "16", "--hidden", "8"],
    "train_hiercode": ["--width", "0.25", "--dimensions", "16"],
    "train_vit": ["--width", "16", "--depth", "2", "--embedding", "16"],
}
VARIANTS = {
    "train_radical_rnn": [{"radical_weight": 0.0}],
    "train_vit": [{"patch_size": 16}],
}
MODULES = [importlib.import_module(name) for name in TINY]


def config(module, **changes) -> training.OptimizationConfig:
    words = TINY[module.__name__]
    kinds = {f.name: f.type for f in module.ARCHITECTURE.config.__dataclass_fields__.values()}
    tiny = {w[2:].replace("-", "_"): v for w, v in zip(words[::2], words[1::2], strict=True)}
    return module.ARCHITECTURE.config(**{k: kinds[k](v) for k, v in tiny.items()} | {"device": "cpu"} | changes)


def build(module, classes: str = CLASSES, **changes):
    torch.manual_seed(0)
    settings = config(module, **changes)
    return module.ARCHITECTURE.model(settings, classes), settings


def test_all_architectures_are_tested():
    with_one = {
        path.stem for path in SCRIPTS.glob("train_*.py") if hasattr(importlib.import_module(path.stem), "ARCHITECTURE")
    }
    assert set(TINY) == with_one - {"train_qat"}  # which trains any of them again


CASES = [(module, {}) for module in MODULES]
CASES += [(module, changes) for module in MODULES for changes in VARIANTS.get(module.__name__, [])]


@pytest.mark.parametrize(("module", "changes"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_parameter_gets_a_gradient(module, changes):
    model, settings = build(module, **changes)
    labels = torch.arange(12) % len(CLASSES)
    module.ARCHITECTURE.loss(model(torch.rand(12, 1, 64, 64)), labels, settings).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_logits_of_an_image_depend_on_that_image_alone(module):
    model, _ = build(module)
    images = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        model(images)  # running statistics
        model.eval()
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert together.shape == (5, len(CLASSES))
    assert torch.allclose(together, alone, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-6


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_it_learns_exports_and_comes_back(module, tiny_dataset, tmp_path):
    data = tiny_dataset(CLASSES, samples_per_set=8)
    changes = {"data_dir": str(data), "model_dir": str(tmp_path), "epochs": 12, "batch_size": 16, "precision": "fp32"}
    settings = config(module, ema_decay=0.9, hiragana_repeats=1, **changes)
    metrics = training.fit(module.ARCHITECTURE, settings)
    assert metrics["validation_top1"] > 80, metrics  # by chance: 17 %
    best = tmp_path / module.ARCHITECTURE.best_file
    exported = onnx_file.default_output(best)
    onnx_file.convert(best, exported, data)
    images = np.random.default_rng(0).random((3, 1, 64, 64), np.float32)
    model, facts = model_files.load_network(best)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    assert facts["classes"] == CLASSES
    assert np.abs(Recognizer(exported).logits(images) - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("module", "flag", "says"),
    [
        ("train_radical_rnn", ("--radical-weight", "-1"), "--radical-weight must lie in [0, inf)"),
        ("train_radical_rnn", ("--hidden", "0"), "--hidden must lie in [1, inf)"),
        ("train_radical_rnn", ("--width", "0"), "--width must lie in (0, inf)"),
        ("train_hiercode", ("--width", "inf"), "--width must lie in (0, inf)"),
        ("train_hiercode", ("--dimensions", "0"), "--dimensions must lie in [1, inf)"),
        ("train_hiercode", ("--code-dropout", "1"), "--code-dropout must lie in [0, 1)"),
        ("train_vit", ("--heads", "7"), "--width must be a multiple of --heads"),
        ("train_vit", ("--patch-size", "5"), "invalid choice: 5"),
        ("train_vit", ("--drop-path", "1"), "--drop-path must lie in [0, 1)"),
    ],
)
def test_wrong_settings_get_one_line(module, flag, says, capsys):
    found = importlib.import_module(module)
    with pytest.raises(SystemExit) as ended:
        training.parse_config(found.ARCHITECTURE.config, found.__doc__, list(flag))
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_stochastic_depth_leaves_rows_out_and_keeps_the_mean():
    layer = StochasticDepth(0.25)
    x = torch.ones(4000, 3, 2)
    assert torch.equal(layer.eval()(x), x)
    torch.manual_seed(0)
    dropped = layer.train()(x)
    assert set(dropped[:, 0, 0].tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(x))  # a row as a whole
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)
    assert torch.equal(StochasticDepth(0.0)(x), x)


def test_scripts_do_not_load_the_compiler_of_pytorch_to_say_what_is_wrong():
    """It takes as long to load as the rest of PyTorch; only an optimizer needs it."""
    names = sorted(path.stem for path in (Path(__file__).parents[1] / "scripts").glob("train_*.py"))
    code = "import sys; sys.path.insert(0, sys.argv[1]); import " + ", ".join([*names, "evaluate", "convert_to_onnx"])
    code += "; sys.exit('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", code, (Path(__file__).parents[1] / "scripts")]
    assert subprocess.run(command, check=False).returncode == 0
