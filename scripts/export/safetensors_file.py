"""SafeTensors: weights, settings and classes in one file without pickle, and read back."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from engine.model_files import build, load_safetensors
from export.onnx_file import FILE_NAMES, ConversionError, probe_images, published_config
from files.atomic import atomic_write
from files.folders import beside
from images.normalization import CONTRACT
from quantization.files import load_trained
from quantization.network import integer_model

FACTS = ("script", "config", "classes", "source", "generator", "metrics", "epoch", "best", "quantization", "confidence")
PROBES = 64  # images on which the file read back is compared with the original


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
    return summary(output, output, model, facts)


def summary(made: Path, file: Path, model: nn.Module, facts: dict) -> str:
    size = f"{file.stat().st_size:,} bytes, {len(model.state_dict())} tensors, {len(facts['classes']):,} classes"
    return f"{made}: {size}\nread back: logits of {PROBES} images equal bit for bit"
