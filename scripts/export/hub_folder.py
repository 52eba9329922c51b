"""A folder for a model hub that is complete in itself: weights, settings, the network's code, ONNX files and a card."""

import json
import shutil
from pathlib import Path

import torch
from torch import nn

from engine.architecture import Architecture
from export import modeling
from export.onnx_file import ConversionError, probe_images
from export.safetensors_file import PROBES, published_facts, summary, write
from files.atomic import atomic_write, scratch_folder, sync_folder, write_text
from files.command_line import InputError
from images.normalization import CONTRACT
from inference.recognizer import Recognizer
from optimization_config import own_options
from quantization.files import float_architecture, load_float

WEIGHTS, SETTINGS, CODE, CARD = "model.safetensors", "config.json", "modeling.py", "README.md"
TEXTS = Path(__file__).with_name("hub_card")  # card.md, two examples of code, and a text for each source of samples


def convert_to_folder(model_path: Path, folder: Path, onnx_files: list[Path]) -> str:
    """Makes the folder of a float model, with copies of ONNX files that were exported from it; what else lies there
    stays. Returns lines that say what was made. Raises InputError for INT8, for ONNX files of other classes, and for a
    folder whose card or settings are not this function's; ConversionError where the folder computes other logits."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder with --folder")
    others = [folder / name for name in (SETTINGS, CODE, CARD) if (folder / name).exists()]
    if others and not (folder / WEIGHTS).exists():
        raise InputError(f"{others[0]} was not made by this script and stays as it is: choose another --folder")
    model, facts = load_float(model_path)
    architecture, config = float_architecture(facts)
    exported = {path.name: Recognizer(path) for path in onnx_files}
    if len(exported) < len(onnx_files):
        raise InputError("two of the --onnx files have the same name: rename one")
    if unlike := [reader.path for reader in exported.values() if reader.classes != facts["classes"]]:
        raise InputError(f"{unlike[0]} has other classes than {model_path}: was it exported from another model?")
    facts = facts | {"config": facts["config"] | own_options(config)}
    with scratch_folder(folder) as making:
        with atomic_write(making / WEIGHTS) as temporary:
            write(model, facts, temporary)
        write_text(making / SETTINGS, json.dumps(published_facts(facts), ensure_ascii=False, indent=2) + "\n")
        shutil.copyfile(modeling.__file__, making / CODE)
        for path in onnx_files:
            shutil.copyfile(path, making / path.name)
        write_text(making / CARD, model_card(facts, architecture, model, exported))
        images = probe_images(None, PROBES, {})
        with torch.inference_mode():
            if not modeling.Model(making)(images).equal(model(images)):
                raise ConversionError(f"{CODE} gives other logits than the model")
        folder.mkdir(parents=True, exist_ok=True)
        names = (WEIGHTS, SETTINGS, CODE, *exported, CARD)
        for name in names:
            (making / name).replace(folder / name)
        sync_folder(folder)
    return f"{summary(folder, folder / WEIGHTS, model, facts)}, and those of {CODE}\nin the folder: {', '.join(names)}"


def text_of(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8").rstrip()


def model_card(facts: dict, architecture: Architecture, model: nn.Module, exported: dict[str, Recognizer]) -> str:
    """README.md for a hub: YAML that it reads, then what a person wants to know. `exported` names the ONNX files."""
    source, metrics = str(facts.get("source") or "unknown"), facts.get("metrics") or {}
    rows = [f"| {k} | {v:.6g} |" for k, v in metrics.items() if any(word in k for word in ("top", "accuracy", "loss"))]
    head = f"Top-1 and top-5 in %; split: {facts['config'].get('split', 'unknown')}.\n\n| figure | value |\n|---|---|"
    takes = {name: "pictures of any size" if e.takes_pictures else "normalised images" for name, e in exported.items()}
    of_pictures = [name for name, reader in exported.items() if reader.takes_pictures]
    example = text_of("picture.txt").replace("ANY_IMAGE.onnx", of_pictures[0]) if of_pictures else text_of("logits.txt")
    return text_of("card.md").format(
        contract=CONTRACT,
        script=facts["script"],
        source=source,
        dataset=source.partition(";")[0].partition(",")[0].replace(" ", "-"),
        licence="cc-by-sa-3.0" if "KanjiVG" in source else "mit",
        example=example,
        files="".join(f"\n- `{name}`: ONNX, for onnxruntime; takes {what}." for name, what in takes.items()),
        name=architecture.name,
        data="\n\n".join(text_of(f"{word}.md") for word in ("KanjiVG", "ETL9G") if word in source) or f"{source}.",
        classes=len(facts["classes"]),
        numbers=sum(value.numel() for value in model.state_dict().values()),
        measured="\n".join([head, *rows]) if rows else "The file holds no figures.",
    )
