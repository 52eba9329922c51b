"""Model files on their way to INT8 and after: trained float checkpoints in, integer networks out."""

from pathlib import Path

from torch import fx, nn

from engine import checkpoints, model_files
from engine.architecture import Architecture
from files.command_line import InputError, first_line
from optimization_config import OptimizationConfig, restored
from quantization.loss import accuracy_table, metrics_of, quantization_loss
from quantization.network import convert, integer_model

KEPT = ("script", "config", "classes", "source", "generator", "metrics")  # of what the float checkpoint says of itself


def float_architecture(facts: dict, path: Path) -> tuple[Architecture, OptimizationConfig]:
    """The architecture and the settings that a model file names, INT8 or float.

    Raises InputError for a checkpoint of quantisation-aware training and for settings that `check` refuses.
    """
    architecture = model_files.architecture_of(facts["script"], path)
    if architecture.name == "qat":
        raise InputError(f"{path} is quantised already: give a float model")
    try:
        return architecture, restored(architecture.config, facts["config"])
    except ValueError as error:
        raise InputError(f"{path} names settings that make no sense ({first_line(error)})") from None


def load_float(path: Path) -> tuple[nn.Module, dict]:
    """A trained float checkpoint: the model (CPU, evaluation mode), and what the file says about itself.

    Raises InputError for one that is quantised already.
    """
    model, facts = model_files.load_float(path)
    float_architecture(facts, path)
    return model, facts


def load_trained(path: Path) -> tuple[nn.Module, dict]:
    """Any trained model of this toolkit, float or INT8: the model (CPU, evaluation mode), and what its file says."""
    content = model_files.load_content(path)
    return model_files.build(content, path, integer_model), model_files.facts_of(content)


def load_quantized(path: Path) -> tuple[fx.GraphModule, dict]:
    """An INT8 file: the network that computes with its integers, and what the file says about itself.

    Raises InputError for a model file of another kind.
    """
    network, facts = load_trained(path)
    if "quantization" not in facts:
        raise InputError(
            f"{path} is a float model: make it INT8 with scripts/quantize_model.py or scripts/train_qat.py"
        )
    return network, facts


def save_quantized(path: Path, network: fx.GraphModule, facts: dict, how: dict) -> None:
    """Writes an integer network with what its float checkpoint says about itself, and how it was quantised."""
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoints.save(path, {name: facts.get(name) for name in KEPT} | {"quantization": how, "model": tensors})


def save_measured(
    path: Path,
    network: fx.GraphModule,
    model: nn.Module,
    facts: dict,
    how: dict,
    data_dir: Path,
    images_dir: Path | None = None,
    limit: int | None = None,
) -> str:
    """Makes a prepared network INT8, measures it beside the float model it comes from, and writes it to `path`.

    `facts` is what the float checkpoint says about itself, `how` is how it was quantised. Returns the accuracies and
    the size of the file as lines.
    """
    integer = convert(network)
    figures = quantization_loss({"float": model, "int8": integer}, facts, data_dir, images_dir, limit)
    save_quantized(path, integer, facts | {"metrics": metrics_of(figures)}, how | {"measured": figures})
    return f"{accuracy_table(figures)}\n{path}: {path.stat().st_size:,} bytes"
