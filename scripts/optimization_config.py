"""Settings: each field of a config is one line, and that line is also its command-line flag, default and help."""

import argparse
import dataclasses
import shutil
import textwrap
import types
import typing
from dataclasses import dataclass


def option(default, help, choices=None):
    """A config field: default, help text, and the values it may take if only some are allowed."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class OptimizationConfig:
    """What every training script can be told. An architecture's config inherits from this and adds its own."""

    data_dir: str = option("dataset", "the prepared dataset")
    split: str = option(
        "writer", "no writer on two sides, or at random (to compare with such figures)", ["writer", "random"]
    )
    model_dir: str = option("models", "where the best model, metrics and plots go")
    checkpoint_dir: str | None = option(None, "folder of the checkpoints (default: MODEL_DIR/checkpoints/NAME)")
    keep_last_n: int = option(5, "checkpoints to keep")
    checkpoint_minutes: float = option(15.0, "also save inside an epoch when this long has passed")
    resume_from: str | None = option(None, "a checkpoint to go on from, or 'auto': the latest if there is one")
    overwrite: bool = option(False, "begin anew where an earlier run left checkpoints; they are deleted")
    init_from: str | None = option(None, "start from the weights of this trained model")

    epochs: int = option(30, "passes over the training split")
    hiragana_repeats: int = option(
        3, "times a hiragana is shown for each kanji: they vary more, and are half of all text"
    )
    batch_size: int = option(128, "samples a step")
    optimizer: str = option("adamw", "muon: for the weight matrices, AdamW for the rest", ["adamw", "muon"])
    learning_rate: float = option(3e-3, "the highest, after warm-up")
    weight_decay: float = option(0.02, "on weights of two or more dimensions")
    warmup: float = option(0.05, "share of the steps over which the learning rate rises")
    final_learning_rate: float = option(0.001, "where the cosine ends, as a share of the highest")
    label_smoothing: float = option(0.05, "of the cross entropy")
    clip_norm: float = option(2.0, "largest gradient norm")
    ema_decay: float = option(0.999, "of the averaged weights that are evaluated and kept; 0 turns them off")

    augmentation: float = option(1.0, "strength of all augmentation; 0 turns it off")
    seed: int = option(0, "of the weights, the order and the augmentation")
    device: str = option("auto", "cuda, cpu, …; auto takes the GPU if there is one")
    precision: str = option("auto", "auto: bf16 where the hardware multiplies it fast", ["auto", "fp32", "bf16"])
    compile: bool | None = option(None, "torch.compile (default: on a GPU)")
    deterministic: bool = option(False, "deterministic GPU kernels, slower")
    plot: bool = option(False, "draw the curves as PNG (needs matplotlib)")
    tensorboard: bool = option(False, "write TensorBoard events (needs tensorboard)")

    def check(self) -> None:
        """Raises ValueError with one line for values that make no sense."""
        for name in (
            "epochs",
            "batch_size",
            "hiragana_repeats",
            "keep_last_n",
            "learning_rate",
            "clip_norm",
            "checkpoint_minutes",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')} must be greater than 0")
        for name in ("warmup", "label_smoothing", "ema_decay", "final_learning_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must lie in [0, 1)")
        for name in ("augmentation", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{name.replace('_', '-')} must not be negative")
        if self.batch_size < 2:
            raise ValueError("--batch-size must be at least 2: batch norm has no spread over one sample")
        if self.seed >= 2**32:
            raise ValueError("--seed must be below 2³²")
        if self.resume_from and (self.init_from or self.overwrite):
            raise ValueError("--resume-from goes on with a run, --init-from and --overwrite begin one: give only one")


def own_options(config: OptimizationConfig) -> dict:
    """The settings that shape the model: what the architecture's config adds to the shared ones."""
    shared = {field.name for field in dataclasses.fields(OptimizationConfig)}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in shared}


def _filled(description: str) -> str:
    """A docstring for the terminal's width: its paragraphs filled, indented ones (commands) as they are."""
    width = shutil.get_terminal_size().columns - 2
    paragraphs = description.strip().split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else textwrap.fill(p, width) for p in paragraphs)


def parse_config(config_class: type[OptimizationConfig], description: str, argv: list[str] | None = None):
    """An instance of config_class from the command line. Ends the program with exit code 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [option ...]",
        description=_filled(description),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType):
            kind = next(k for k in typing.get_args(kind) if k is not type(None))
        flag, text = "--" + field.name.replace("_", "-"), field.metadata["help"].replace("%", "%%")
        if field.default is not None and kind is not bool:
            text += " (default %(default)s)"
        if field.default is False:
            parser.add_argument(flag, action="store_true", help=text)
        elif kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            metavar = None if field.metadata["choices"] else kind.__name__.upper()
            parser.add_argument(
                flag, type=kind, default=field.default, help=text, choices=field.metadata["choices"], metavar=metavar
            )
    config = config_class(**vars(parser.parse_args(argv)))
    try:
        config.check()
    except ValueError as error:
        parser.error(str(error))
    return config
