"""Model files on their way to INT8 and after: trained float checkpoints in, integer networks out."""

from pathlib import Path

from torch import fx, nn

from engine import checkpoints, model_files
from engine.architecture import Architecture
from files.command_line import InputError
from optimization_config import OptimizationConfig, restored
from quantization.network import integer_model

KEPT = ("script", "config", "classes", "source", "generator", "metrics", "quantization")  # of what facts say


def float_architecture(facts: dict) -> tuple[Architecture, OptimizationConfig]:
    """The architecture and the settings of a float network, by the script and the config that its file names."""
    architecture = model_files.architecture_of(facts["script"])
    return architecture, restored(architecture.config, facts["config"])


def load_float(path: Path) -> tuple[nn.Module, dict]:
    """A trained float checkpoint as `load_trained` gives it. Raises InputError for one that is quantised already."""
    model, facts = model_files.load_network(path)
    if facts["script"] == "train_qat":
        raise InputError(f"{path} is quantised already: give a float model")
    return model, facts


def load_trained(path: Path) -> tuple[nn.Module, dict]:
    """Any trained model of this toolkit, float or INT8: the model (CPU, evaluation mode), and what its file says."""
    return model_files.load_network(path, integer_model)


def load_quantized(path: Path) -> tuple[fx.GraphModule, dict]:
    """An INT8 file as `load_trained` gives it. Raises InputError for a model file of another kind."""
    network, facts = load_trained(path)
    if "quantization" not in facts:
        scripts = "scripts/quantize_model.py or scripts/train_qat.py"
        raise InputError(f"{path} is a float model: make it INT8 with {scripts}")
    return network, facts


def save_quantized(path: Path, network: fx.GraphModule, facts: dict) -> None:
    """Writes an integer network, what its float checkpoint says about itself, and as "quantization" how it was made."""
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoints.save(path, {name: facts.get(name) for name in KEPT} | {"model": tensors})


def check_replaceable(path: Path, how: str, overwrite: bool) -> None:
    """Raises InputError where an INT8 file lies at `path` that was made in another way than `how`."""
    if overwrite or not path.exists():
        return
    made = (checkpoints.load(path).get("quantization") or {}).get("how", "an unknown way")
    if made != how:
        remedy = "replace it with --overwrite, or move it away"
        raise InputError(f"{path} holds a model that was made INT8 by {made}: {remedy}")
