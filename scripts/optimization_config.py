"""Settings: each field of a config is one line, and that line is also its command-line flag, default and help."""

import argparse
import dataclasses
import functools
import re
import shutil
import textwrap
import types
import typing
from dataclasses import dataclass


def option(default, help, choices=None, within=None, changeable=False):
    """A config field: default, help text, the values it may take if only some are allowed, the interval that it must
    lie in, such as "[0, 1)", and whether a resumed run may change it."""
    metadata = {"help": help, "choices": choices, "within": within, "changeable": changeable}
    return dataclasses.field(default=default, metadata=metadata)


def internal(default):
    """A config field without a flag, for what a script finds out and its files record."""
    return option(default, None)


def default(name: str, value):
    """A shared setting with another default for one architecture."""
    return option(value, **OptimizationConfig.__dataclass_fields__[name].metadata)


@dataclass
class OptimizationConfig:
    """The settings of every training script; an architecture's config inherits from this and adds its own.

    A resumed run keeps every setting of the run it continues, except those that are `changeable`.
    """

    data_dir: str = option("dataset", "the prepared dataset", changeable=True)
    split: str = option("writer", "each writer in one split, or at random", ["writer", "random"])
    model_dir: str = option("models", "for the best model, metrics and plots", changeable=True)
    checkpoint_dir: str | None = option(None, "for checkpoints (MODEL_DIR/checkpoints/NAME)", changeable=True)
    keep_last_n: int = option(5, "checkpoints to keep", within="[1, inf)", changeable=True)
    checkpoint_minutes: float = option(15.0, "save this often inside an epoch too", within="(0, inf)", changeable=True)
    resume_from: str | None = option(None, "continue from this checkpoint; auto: the last one", changeable=True)
    overwrite: bool = option(False, "replace an earlier run, or go back in it", changeable=True)
    init_from: str | None = option(None, "start from the weights of this trained model", changeable=True)

    epochs: int = option(30, "passes over the training split", within="[1, inf)", changeable=True)
    minutes: float = option(0.0, "train this long; --epochs is then a guess", within="[0, inf)", changeable=True)
    epoch_samples: int = option(0, "samples an epoch, new ones each time; 0: all", within="[0, inf)")
    fresh: int = option(0, "draw N new sets for each epoch", within="[0, inf)")
    fresh_passes: int = option(1, "epochs in which each new set is shown", within="[1, inf)")
    font: str | None = option(None, "handwriting fonts for --fresh: a file or folder", changeable=True)
    font_share: float = option(0.05, "share of the sheets that each font writes", within="(0, 1]")
    out_of_set: float = option(0.0, "share of --fresh that is none of the classes", within="[0, 0.5]")
    drawing_processes: int = option(0, "that draw for --fresh; 0: one a core", within="[0, inf)", changeable=True)
    hiragana_repeats: int = option(3, "times a hiragana is shown for each kanji", within="[1, inf)")
    batch_size: int = option(128, "samples a step", within="[2, inf)")
    optimizer: str = option("adamw", "muon: of linear layers; -all: convolutions too", ["adamw", "muon", "muon-all"])
    learning_rate: float = option(3e-3, "the highest, after warm-up", within="(0, inf)", changeable=True)
    weight_decay: float = option(0.02, "on weights of two or more dimensions", within="[0, inf)")
    warmup: float = option(0.05, "share of the steps in which the rate rises", within="[0, 1)", changeable=True)
    final_learning_rate: float = option(0.001, "share of it that is left at the end", within="[0, 1)", changeable=True)
    label_smoothing: float = option(0.05, "of the cross entropy", within="[0, 1)")
    teacher: str | None = option(None, "a trained model, ONNX or not, to learn from too")
    distillation: float = option(0.5, "the teacher's share of the loss", within="[0, 1]")
    clip_norm: float = option(2.0, "largest gradient norm", within="(0, inf]")
    ema_decay: float = option(0.999, "of the averaged weights; 0: no average", within="[0, 1)")

    augmentation: float = option(1.0, "strength of all augmentation; 0: none", within="[0, inf)")
    seed: int = option(0, "of weights, order and augmentation", within="[0, 4294967296)")
    device: str = option("auto", "cuda, cpu, …; auto: a GPU if there is one", changeable=True)
    on_nonfinite: str = option("stop", "step-back: repeat at half the rate", ["stop", "step-back"], changeable=True)
    precision: str = option("auto", "auto: bf16 where it is fast", ["auto", "fp32", "bf16"], changeable=True)
    compile: bool | None = option(None, "torch.compile (on GPUs that can)", changeable=True)
    deterministic: bool = option(False, "deterministic GPU kernels, slower", changeable=True)
    plot: bool = option(False, "draw the curves as PNG (needs matplotlib)", changeable=True)

    def check(self) -> None:
        """Raises ValueError with one line for values that make no sense."""
        for field in dataclasses.fields(self):
            if (within := field.metadata["within"]) and not lies_in(getattr(self, field.name), within):
                raise ValueError(f"--{field.name.replace('_', '-')} must lie in {within}")
        if self.init_from and self.resume_from not in {None, "auto"}:
            raise ValueError("--resume-from continues a run, --init-from starts one: give only one")
        if self.fresh % self.fresh_passes:
            raise ValueError("--fresh must be a multiple of --fresh-passes")
        if self.font and not self.fresh:
            raise ValueError("--font needs --fresh, which draws samples during training")
        if self.out_of_set and not self.fresh:
            raise ValueError("--out-of-set needs --fresh, which draws samples during training")
        if self.on_nonfinite == "step-back" and self.keep_last_n < 2:
            raise ValueError("--on-nonfinite step-back needs the epoch's start: --keep-last-n must be at least 2")


def lies_in(value: float, interval: str) -> bool:
    """Whether a number lies in an interval such as "[0, 1)"; not a number lies in none."""
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def recorded(config: OptimizationConfig) -> dict:
    """The settings as files record them: without how the run was called, which a resumed run may be in another way."""
    return dataclasses.asdict(config) | {"resume_from": None, "overwrite": False}


def own_options(config: OptimizationConfig) -> dict:
    """The settings that shape the model: what the architecture's config adds to the shared ones."""
    shared = {field.name for field in dataclasses.fields(OptimizationConfig)}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in shared}


def restored(config_class: type[OptimizationConfig], saved: dict) -> OptimizationConfig:
    """A config with the settings that shape the model as a file names them; the shared ones, which are a run's, stay
    at their defaults. Raises ValueError for values of another type, or that `check` refuses."""
    hints, config = typing.get_type_hints(config_class), config_class()
    for name in own_options(config):
        choices = config_class.__dataclass_fields__[name].metadata["choices"]
        value = saved.get(name, getattr(config, name))
        fits = isinstance(value, int | float if hints[name] is float else hints[name])
        if not fits or isinstance(value, bool) != (hints[name] is bool) or (choices and value not in choices):
            raise ValueError(f"{name} cannot be {value!r:.40}")
        setattr(config, name, value)
    config.check()
    return config


def filled(paragraphs: list[str]) -> str:
    """Paragraphs of a docstring for the terminal's width; of those that are indented, each line is a command."""
    width, text = shutil.get_terminal_size().columns - 2, []
    fold = functools.partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
    for part in paragraphs:
        lines = re.sub(r"(--\S+) (?!-)", "\\1\N{NO-BREAK SPACE}", part).splitlines()  # a flag stays beside its value
        commands = [" \\\n".join(fold(line, width - 2, subsequent_indent=" " * 8)) for line in lines]
        text.append("\n".join(commands if part.startswith(" ") else fold(part, width)))
    return "\n\n".join(text).replace("\N{NO-BREAK SPACE}", " ")


def parse_config(config_class: type[OptimizationConfig], description: str, argv: list[str] | None = None):
    """An instance of config_class from the command line. Ends the program with exit code 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [option ...]",
        description=filled(description.strip().split("\n\n")[:3]),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28),
    )
    hints = typing.get_type_hints(config_class)
    fields = dataclasses.fields(config_class)
    shared = {field.name for field in dataclasses.fields(OptimizationConfig)}
    own = parser.add_argument_group("its own settings") if any(f.name not in shared for f in fields) else parser
    every = parser.add_argument_group("settings of every training [default]")
    for field in fields:
        if field.metadata["help"] is None:
            continue
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        group, flag = every if field.name in shared else own, "--" + field.name.replace("_", "-")
        text, choices = field.metadata["help"].replace("%", "%%"), field.metadata["choices"]
        if field.default is False:
            group.add_argument(flag, action="store_true", help=text)
        elif kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            text += "" if field.default is None else " [%(default)s]"
            metavar = None if choices else {int: "N", float: "X", str: "S"}[kind]
            group.add_argument(flag, type=kind, default=field.default, help=text, choices=choices, metavar=metavar)
    config = config_class(**vars(parser.parse_args(argv)))
    try:
        config.check()
    except ValueError as error:
        parser.error(str(error))
    return config
