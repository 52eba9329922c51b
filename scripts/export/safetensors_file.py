"""SafeTensors: weights, settings and classes in one file without pickle, or in a folder for a hub, and read back."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from engine.model_files import architecture_of, build, load_safetensors
from export.onnx_file import FILE_NAMES, ConversionError, probe_images, published_config
from files.atomic import atomic_write, scratch_folder, sync_folder, write_text
from files.command_line import InputError
from files.folders import beside
from images.normalization import CONTRACT
from quantization.files import load_trained
from quantization.network import integer_model

FACTS = ("script", "config", "classes", "source", "generator", "metrics", "epoch", "best", "quantization", "confidence")
PROBES = 64  # images on which the file read back is compared with the original
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "README.md"
STANDIN = """\
The training images were drawn from the strokes of [KanjiVG](https://kanjivg.tagaini.net), copyright Ulrich Apel and
contributors, [CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/), varied by made-up writers: a stand-in for
ETL9G."""
ETL9G = """\
The training images are ETL9G: Electrotechnical Laboratory, Japanese Technical Committee for Optical Character
Recognition, *ETL Character Database*, 1973-1984, AIST. None of them is in this folder."""

DATA = {"KanjiVG": STANDIN, "ETL9G": ETL9G}  # by a word of the source


def default_output(model_path: Path) -> Path:
    return beside(model_path, FILE_NAMES.get(model_path.stem, model_path.stem) + ".safetensors")


def published_facts(facts: dict) -> dict:
    """What a published file says of its model, without the folders and files of this machine."""
    published = {name: facts[name] for name in FACTS if facts.get(name) is not None}
    return published | {"config": published_config(facts["config"]), "contract": CONTRACT}


def _in_order(file: bytes) -> bytes:
    """A SafeTensors file with its metadata sorted: the library writes them in an order that differs each time."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + file[end:]


def write(model: nn.Module, facts: dict, path: Path) -> None:
    """Writes the file and reads it back; raises ConversionError unless every tensor and logit is the original's."""
    # Each with a dense memory of its own: the format knows neither sharing nor strides.
    tensors = {k: v.clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in published_facts(facts).items()}
    path.write_bytes(_in_order(save(tensors, {"format": "pt"} | metadata)))
    read = (content := load_safetensors(path))["model"]
    same = [k in read and read[k].dtype == v.dtype and read[k].equal(v) for k, v in tensors.items()]
    if not all(same) or read.keys() != tensors.keys():
        raise ConversionError("a tensor is not read back as it was written")
    images = probe_images(None, PROBES, {})
    with torch.no_grad():
        if not build(content, path, integer_model)(images).equal(model(images)):
            raise ConversionError("the logits of the file read back are not those of the original")


def convert(model_path: Path, output: Path) -> str:
    """Writes, compares, and only then names the file; returns one line that says what was made."""
    model, facts = load_trained(model_path)
    with atomic_write(output) as temporary:
        write(model, facts, temporary)
    return _summary(output, output, model, facts)


def convert_to_folder(model_path: Path, folder: Path) -> str:
    """The same as a folder with config.json and a model card; what else lies in `folder` stays."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder with --folder")
    others = [folder / name for name in (SETTINGS, CARD) if (folder / name).exists()]
    if others and not (folder / WEIGHTS).exists():
        raise InputError(f"{others[0]} was not made by this script and stays as it is: choose another --folder")
    model, facts = load_trained(model_path)
    with scratch_folder(folder) as making:
        with atomic_write(making / WEIGHTS) as temporary:
            write(model, facts, temporary)
        write_text(making / SETTINGS, json.dumps(published_facts(facts), ensure_ascii=False, indent=2) + "\n")
        write_text(making / CARD, model_card(facts, architecture_of(facts["script"], model_path).name, model))
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, SETTINGS, CARD):
            (making / name).replace(folder / name)
        sync_folder(folder)
    return _summary(folder, folder / WEIGHTS, model, facts)


def _summary(made: Path, file: Path, model: nn.Module, facts: dict) -> str:
    size = f"{file.stat().st_size:,} bytes, {len(model.state_dict())} tensors, {len(facts['classes']):,} classes"
    return f"{made}: {size}\nread back: logits of {PROBES} images equal bit for bit"


def model_card(facts: dict, name: str, model: nn.Module) -> str:
    """README.md for a hub: YAML that it reads, then what a person wants to know."""
    source, metrics = str(facts.get("source") or "unknown"), facts.get("metrics") or {}
    rows = [f"| {k} | {v:.6g} |" for k, v in metrics.items() if any(word in k for word in ("top", "accuracy", "loss"))]
    split = facts["config"].get("split", "unknown")
    head = f"Top-1 and top-5 in per cent; split: {split}.\n\n| figure | value |\n|---|---|"
    template = Path(__file__).with_name("hub_card.md").read_text(encoding="utf-8")
    words = {"weights": WEIGHTS, "settings": SETTINGS, "contract": CONTRACT, "script": facts["script"]}
    words |= {
        "source": source,
        "dataset": source.partition(";")[0].partition(",")[0].replace(" ", "-"),
        "licence": "cc-by-sa-3.0" if "KanjiVG" in source else "mit",
    }
    return template.format(
        **words,
        name=name + (", INT8" if "quantization" in facts else ""),
        data="\n\n".join(text for word, text in DATA.items() if word in source) or f"Trained on: {source}.",
        classes=len(facts["classes"]),
        numbers=sum(value.numel() for value in model.state_dict().values()),
        measured="\n".join([head, *rows]) if rows else "The file holds no figures.",
    )
