"""Quantisation-aware training, from a trained float checkpoint over a calibrated start to an INT8 file.

Several processes may share it: the main one writes.
"""

import contextlib
import json
from pathlib import Path

from torch import nn

from data.prepared import PreparedDataset
from engine import checkpoints, model_files, processes
from engine.architecture import Architecture
from engine.pretrained import check_split
from engine.training import fit
from files.command_line import InputError
from files.folders import OutputFolders
from files.plain_json import parse_json
from optimization_config import OptimizationConfig, own_options, recorded
from quantization.calibration import calibrated
from quantization.files import float_architecture, load_float, save_measured

CNN = "train_etl9g_model"
FILES = ("data_dir", "split", "model_dir", "keep_last_n", "checkpoint_minutes")
SAMPLES = ("epoch_samples", "hiragana_repeats", "batch_size", "augmentation", "seed")
MACHINE = ("device", "on_nonfinite", "compile", "deterministic")
SHARED_WITH_CNN = FILES + SAMPLES + MACHINE  # settings that a CNN that is trained first takes over


def architecture_trained(config: OptimizationConfig) -> tuple[Architecture, OptimizationConfig]:
    """The architecture and the settings of the float checkpoint, as the config of its fine-tuning records them."""
    facts = {"script": config.float_script, "config": parse_json(config.float_settings, "float_settings", "")}
    return float_architecture(facts, Path(config.model_path or config.float_script))


def fine_tune(architecture: Architecture, config: OptimizationConfig) -> str:
    """Makes an INT8 file of a trained float checkpoint; returns its accuracy as lines, "" in all but the main process.

    `architecture` is that of train_qat.py: its model holds the network that rounds as `network`. With --resume-from,
    what is done already is not done again.
    """
    folder = Path(config.checkpoint_dir or Path(config.model_dir) / "checkpoints" / architecture.name)
    with contextlib.ExitStack() as held:
        with processes.fail_together():
            if processes.is_main():
                held.enter_context(OutputFolders(Path(config.model_dir) / architecture.name, folder))
        path = float_checkpoint(config)
        with processes.fail_together():
            model, facts = load_float(path)
            check_split(path, facts, config)
        config.model_path, config.teacher = str(path), config.teacher or str(path)
        config.float_script = facts["script"]
        config.float_settings = json.dumps(own_options(float_architecture(facts, path)[1]))
        with processes.fail_together():
            resuming = config.resume_from and (config.resume_from != "auto" or checkpoints.existing(folder))
            if not processes.from_main(lambda: bool(resuming)) and not config.init_from:
                config.init_from = processes.from_main(lambda: str(save_start(architecture, config, model, facts)))
        fit(architecture, config)
        return save_result(architecture, config, model, facts) if processes.is_main() else ""


def float_checkpoint(config: OptimizationConfig) -> Path:
    """The float checkpoint to start from: MODEL_PATH, or the CNN's best, which is trained first if there is none."""
    if config.model_path:
        return Path(config.model_path)
    cnn, folder = model_files.architecture_of(CNN), Path(config.model_dir) / "checkpoints" / "qat_cnn"
    best = Path(config.model_dir) / cnn.best_file

    def needs_training() -> bool:
        if not best.is_file():
            return True
        if checkpoints.load(best)["config"].get("checkpoint_dir") != str(folder):
            return False  # train_etl9g_model.py trained it
        begun = checkpoints.existing(folder)  # the best model of the first epoch is written before its checkpoint
        return not begun or checkpoints.load(begun[-1])["epoch"] < config.cnn_epochs

    if processes.from_main(needs_training):
        processes.say(f"{best} is not there yet: the CNN is trained first")
        shared = {name: getattr(config, name) for name in SHARED_WITH_CNN}
        own = {"epochs": config.cnn_epochs, "checkpoint_dir": str(folder), "resume_from": "auto"}
        fit(cnn, cnn.config(**shared, **own))
        processes.all_max(0)  # waits for the main one, which writes it
    return best


def save_start(architecture: Architecture, config: OptimizationConfig, model: nn.Module, facts: dict) -> Path:
    """Calibrates the float model, and saves it as a model of `architecture` from which training starts."""
    dataset = PreparedDataset(Path(config.data_dir), config.split, config.seed)
    if facts["classes"] != dataset.classes:
        raise InputError(f"{config.model_path} was trained on other classes than {config.data_dir} has")
    start = architecture.model(config, dataset.classes)
    held_out = architecture.held_out(config, dataset.classes)
    start.network = calibrated(model, dataset, config.calibration_images, held_out)[0]
    path = Path(config.model_dir) / architecture.name / "calibrated.pth"
    tensors = {name: value.clone() for name, value in start.state_dict().items()}
    content = {"script": f"train_{architecture.name}", "config": recorded(config), "classes": dataset.classes}
    checkpoints.save(path, content | {"model": tensors})
    return path


def save_result(architecture: Architecture, config: OptimizationConfig, model: nn.Module, facts: dict) -> str:
    """Makes the best model of the training INT8, measures it and writes it; returns its accuracy as lines."""
    best, about = model_files.load_float(Path(config.model_dir) / architecture.best_file)
    how = {"how": "training", "epoch": about["epoch"], "images": config.calibration_images}
    output = Path(config.model_dir) / f"quantized_{architecture_trained(config)[0].name}_int8.pth"
    return save_measured(output, best.network, model, facts, how, Path(config.data_dir), limit=config.test_samples)
