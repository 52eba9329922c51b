"""optimization_config.py: a field is its flag, default and help; wrong calls end with exit code 2 and a reason."""

import dataclasses
import importlib
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest

from optimization_config import OptimizationConfig, option, own_options, parse_config
from train_etl9g_model import CNNConfig

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("train_*.py"))


@dataclass
class SampleConfig(OptimizationConfig):
    depth: int = option(3, "how deep, in % of 100")
    share: float = option(0.25, "how much")
    name: str = option("plain", "what it is called", ["plain", "fancy"])
    note: str | None = option(None, "a remark")
    bright: bool = option(False, "lit")
    smooth: bool = option(True, "even")
    quick: bool | None = option(None, "fast (default: it depends)")


def parse(*words: str, config=SampleConfig):
    return parse_config(config, "What it does.", list(words))


def test_without_flags_every_field_has_its_default():
    assert parse() == SampleConfig()


def test_each_field_is_a_flag_of_its_type():
    config = parse("--depth", "7", "--share", "1e-3", "--name", "fancy", "--note", "so it is", "--batch-size", "64")
    assert (config.depth, config.share, config.name, config.note) == (7, 0.001, "fancy", "so it is")
    assert config.batch_size == 64
    for field in dataclasses.fields(SampleConfig):  # underscores become hyphens
        assert "_" not in "--" + field.name.replace("_", "-")
        assert hasattr(config, field.name)


def test_flags_without_a_value():
    assert parse("--bright").bright is True
    assert parse("--no-smooth").smooth is False
    assert parse().quick is None
    assert parse("--quick").quick is True
    assert parse("--no-quick").quick is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--dept", "x"), "argument --depth: invalid int value: 'x'"),
        (("--depth", "2.5"), "argument --depth: invalid int value"),
        (("--share", "much"), "argument --share: invalid float value"),
        (("--name", "other"), "argument --name: invalid choice: 'other'"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--epochs", "0"), "--epochs must lie in "),
        (("--batch-size", "1"), "--batch-size must lie in [2, inf)"),
        (("--keep-last-n", "-1"), "--keep-last-n must lie in "),
        (("--learning-rate", "0"), "--learning-rate must lie in "),
        (("--learning-rate", "nan"), "--learning-rate must lie in "),
        (("--clip-norm", "-2"), "--clip-norm must lie in "),
        (("--checkpoint-minutes", "0"), "--checkpoint-minutes must lie in "),
        (("--warmup", "1"), "--warmup must lie in [0, 1)"),
        (("--label-smoothing", "-0.1"), "--label-smoothing must lie in [0, 1)"),
        (("--ema-decay", "1.5"), "--ema-decay must lie in [0, 1)"),
        (("--final-learning-rate", "nan"), "--final-learning-rate must lie in [0, 1)"),
        (("--augmentation", "-1"), "--augmentation must lie in [0, "),
        (("--weight-decay", "nan"), "--weight-decay must lie in [0, "),
        (("--seed", "-1"), "--seed must lie in [0, "),
        (("--seed", str(2**32)), "--seed must lie in [0, 4294967296)"),
        (("--resume-from", "a.pt", "--init-from", "a.pth"), "give only one"),
        (("--on-nonfinite", "step-back", "--keep-last-n", "1"), "--keep-last-n must be at least 2"),
    ],
)
def test_wrong_calls(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    printed, error = capsys.readouterr()
    assert (ended.value.code, printed) == (2, "")
    assert says in error.splitlines()[-1]
    assert len(error.splitlines()) == 2  # one of usage, one that says what is wrong


def test_values_at_their_limits_are_allowed():
    words = "--epochs 1 --batch-size 2 --warmup 0 --label-smoothing 0 --ema-decay 0 --augmentation 0 --weight-decay 0"
    config = parse(*words.split(), "--seed", str(2**32 - 1), "--clip-norm", "inf")
    assert config.ema_decay == 0
    assert config.seed == 2**32 - 1


def test_own_options_are_those_that_an_architecture_adds():
    assert own_options(SampleConfig(depth=9)) == {
        "depth": 9,
        "share": 0.25,
        "name": "plain",
        "note": None,
        "bright": False,
        "smooth": True,
        "quick": None,
    }
    assert own_options(OptimizationConfig()) == {}
    assert set(own_options(CNNConfig())) == {"width", "embedding", "dropout"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_fits_a_terminal(script, monkeypatch, capsys):
    """80 columns and a screen; every field says what it is."""
    module = importlib.import_module(script.stem)
    config = module.ARCHITECTURE.config
    shown = [field for field in dataclasses.fields(config) if field.metadata["help"] is not None]
    assert all(field.metadata["help"].strip() for field in shown)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SystemExit) as ended:
        parse_config(config, module.__doc__, ["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for line in printed.splitlines():
        assert sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line) <= 80, line
    words = " ".join(printed.split())
    for field in shown:
        assert f"--{field.name.replace('_', '-')}" in printed
        assert " ".join(field.metadata["help"].split()) in words
    assert f"python scripts/{script.name}" in printed  # the command on a line of its own
    assert len(printed.splitlines()) <= 68


def test_help_tells_defaults_and_takes_percent_signs(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "how deep, in % of 100 [3]" in words
    assert "--name {plain,fancy} what it is called [plain]" in words
    assert "a remark [" not in words
