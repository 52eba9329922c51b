"""INT8 files made of trained float checkpoints: by calibration alone, or by quantisation-aware training after it, which
several processes may share; the main one writes."""

import contextlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from data.prepared import PreparedDataset
from data.samples import dataset_samples, image_samples
from engine import checkpoints, model_files, processes
from engine.architecture import Architecture
from engine.pretrained import check_split
from engine.training import fit
from files.command_line import InputError
from files.folders import OutputFolders, beside, check_not
from optimization_config import OptimizationConfig, own_options, recorded
from quantization.files import check_replaceable, float_architecture, load_float, save_quantized
from quantization.loss import accuracy_table, lookalikes, measure
from quantization.network import calibrate, convert, prepare

CONFIDENCE_LOST = "\nthe float model's confidence does not hold for it: export it, then run calibrate_confidence.py"
CNN = "train_etl9g_model"
SHARED_WITH_CNN = (  # settings that a CNN that is trained first takes over
    *("data_dir", "split", "model_dir", "keep_last_n", "checkpoint_minutes", "epoch_samples", "hiragana_repeats"),
    *("fresh", "fresh_passes", "font", "font_share", "drawing_processes"),
    *("batch_size", "augmentation", "seed", "device", "on_nonfinite", "compile", "deterministic"),
)


def calibration_images(dataset: PreparedDataset, count: int) -> list[torch.Tensor]:
    """Batches of training images float32 (n, 1, 64, 64), as many of each class as of any other."""
    split = dataset.splits["train"]
    order = np.random.default_rng(0).permutation(len(split.labels))
    labels = split.labels.numpy()[order]
    by_class = np.argsort(labels, kind="stable")
    index_in_class = np.empty(len(order), np.int64)
    index_in_class[by_class] = np.arange(len(order)) - np.searchsorted(labels[by_class], labels[by_class])
    chosen = order[np.argsort(index_in_class, kind="stable")[:count]]
    batches = np.array_split(split.positions[chosen], -(-len(chosen) // 128))
    return [dataset.images(positions).float() / 255 for positions in batches]


def calibrated(model: nn.Module, facts: dict, dataset: PreparedDataset, count: int) -> tuple[fx.GraphModule, int]:
    """A copy of a float network that rounds as INT8 will, and on how many images its ranges were measured: `count`, or
    all training images if there are fewer."""
    batches = calibration_images(dataset, count)
    network = prepare(model)
    calibrate(network, batches)
    return network, sum(map(len, batches))


def save_measured(
    path: Path, network: nn.Module, model: nn.Module, facts: dict, data: Path, images: Path | None, limit: int | None
) -> str:
    """Makes a prepared network INT8, measures it beside the float model it comes from, and writes it to `path`.

    Measures on the test split, and on a folder of images if there is one, `limit` samples of each at most. `facts` are
    of the float checkpoint, and "quantization": how the network was made. Returns the figures and the size as lines.
    """
    classes, config, networks = facts["classes"], facts["config"], {"float": model, "int8": convert(network)}
    samples = {"test": dataset_samples(data, "test", config)}
    if images is not None:
        samples["images"] = image_samples(images)
    alike = lookalikes(model, classes, dataset_samples(data, "validation", config), limit)
    measured = {place: measure(networks, classes, samples[place], alike, limit) for place in samples}
    metrics = {
        f"{place}_{name.removeprefix('int8_')}": value
        for place, figures in measured.items()
        for name, value in figures.items()
        if not name.startswith("float_")
    }
    how = facts["quantization"] | {"measured": measured}
    save_quantized(path, networks["int8"], facts | {"metrics": metrics, "quantization": how})
    return f"{accuracy_table(measured)}\n{path}: {path.stat().st_size:,} bytes"


def quantize(
    model_path: Path,
    data_dir: Path,
    output: Path | None,
    count: int,
    images: Path | None,
    limit: int | None,
    overwrite: bool = False,
) -> str:
    """Makes a trained float checkpoint INT8 by calibration on `count` images; measures, writes and returns what
    `save_measured` does. Raises InputError for a model or an output that cannot be."""
    if output:
        check_not(output, model_path)
        if output.suffix not in {".pth", ".pt"}:
            raise InputError(f"{output}: an INT8 file is named *.pth; convert_to_safetensors.py makes others")
    model, facts = load_float(model_path)
    output = output or beside(model_path, f"quantized_{float_architecture(facts)[0].name}_int8.pth")
    check_replaceable(output, "calibration", overwrite)
    dataset = PreparedDataset(data_dir, facts["config"].get("split", "writer"), facts["config"].get("seed", 0))
    network, count = calibrated(model, facts, dataset, count)
    made = facts | {"quantization": {"how": "calibration", "images": count}}
    report = save_measured(output, network, model, made, data_dir, images, limit)
    return f"{report}, calibrated on {count:,} images" + (CONFIDENCE_LOST if facts.get("confidence") else "")


def fine_tune(architecture: Architecture, config: OptimizationConfig) -> str:
    """Makes an INT8 file of a trained float checkpoint; returns its accuracy as lines, "" in all but the main process.

    `architecture` is that of train_qat.py: its model holds the network that rounds as `network`.
    """
    models = Path(config.model_dir)
    folder = Path(config.checkpoint_dir or models / "checkpoints" / architecture.name)
    with contextlib.ExitStack() as held:
        with processes.fail_together():
            if processes.is_main():
                held.enter_context(OutputFolders(models / architecture.name, folder))
        path = float_checkpoint(config)
        with processes.fail_together():
            model, facts = load_float(path)
            check_split(path, facts, config)
            trained, settings = float_architecture(facts)
            output = models / f"quantized_{trained.name}_int8.pth"
            check_replaceable(output, "training", config.overwrite)
        config.model_path, config.teacher = str(path), config.teacher or str(path)
        config.float_script, config.float_settings = facts["script"], json.dumps(own_options(settings))
        with processes.fail_together():
            resuming = config.resume_from and (config.resume_from != "auto" or checkpoints.existing(folder))
            if not processes.from_main(lambda: bool(resuming)) and not config.init_from:
                start = models / architecture.name / "calibrated.pth"
                processes.from_main(lambda: save_start(start, architecture.name, config, model, facts))
                config.init_from = str(start)
        fit(architecture, config)
        if not processes.is_main():
            return ""
        best, about = model_files.load_network(models / architecture.best_file)
        how = {"how": "training", "epoch": about["epoch"], "images": config.calibration_images}
        made = facts | {"quantization": how}
        return save_measured(output, best.network, model, made, Path(config.data_dir), None, config.test_samples)


def float_checkpoint(config: OptimizationConfig) -> Path:
    """The float checkpoint to start from: MODEL_PATH, or the CNN's best, which is trained first if there is none."""
    if config.model_path:
        return Path(config.model_path)
    cnn, folder = model_files.architecture_of(CNN), Path(config.model_dir) / "checkpoints" / "qat_cnn"
    best = Path(config.model_dir) / cnn.best_file

    def needs_training() -> bool:
        if best.is_file() and checkpoints.load(best)["config"].get("checkpoint_dir") != str(folder):
            return False  # train_etl9g_model.py trained it
        begun = checkpoints.existing(folder)  # the best model of the first epoch is written before its checkpoint
        return not (best.is_file() and begun) or checkpoints.load(begun[-1])["epoch"] < config.cnn_epochs

    if processes.from_main(needs_training):
        processes.say(f"{best} is not there yet: the CNN is trained first")
        settings = {name: getattr(config, name) for name in SHARED_WITH_CNN}
        settings |= {"epochs": config.cnn_epochs, "checkpoint_dir": str(folder), "resume_from": "auto"}
        fit(cnn, cnn.config(**settings))
        processes.all_max(0)  # waits for the main one, which writes it
    return best


def save_start(path: Path, name: str, config: OptimizationConfig, model: nn.Module, facts: dict) -> None:
    """Calibrates the float model, and saves it as one of the architecture `name`, from which training starts."""
    dataset = PreparedDataset(Path(config.data_dir), config.split, config.seed)
    if facts["classes"] != dataset.classes:
        raise InputError(f"{config.model_path} was trained on other classes than {config.data_dir} has")
    network, _ = calibrated(model, facts, dataset, config.calibration_images)
    tensors = {f"network.{key}": value.clone() for key, value in network.state_dict().items()}
    content = {"script": f"train_{name}", "config": recorded(config), "classes": dataset.classes}
    checkpoints.save(path, content | {"model": tensors})
