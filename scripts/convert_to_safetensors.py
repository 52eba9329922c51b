"""Write a trained model as SafeTensors: weights, settings and classes in one file without pickle.

    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth
    python scripts/convert_to_safetensors.py --model-path models/best_kanji_model.pth --folder kanji_model

The file's header names script, settings, classes, data source and measured accuracy, each as JSON; `load_trained` reads
it back. With --folder the same weights go into a folder with config.json and a model card, to be pushed to a hub as it
is. Either is read back and gives the original's logits bit for bit before it gets its name.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from atomic_file import atomic_write, scratch_folder, sync_folder, write_text
from checkpoints import architecture_of, build, load_safetensors, load_trained
from command_line import InputError, run
from convert_to_onnx import FILE_NAMES, ConversionError, probe_images, published_config
from normalization import CONTRACT
from output_folders import beside

TOLD = ("script", "config", "classes", "source", "generator", "metrics", "epoch", "best", "quantization", "confidence")
PROBES = 64
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "README.md"
STANDIN = "KanjiVG"  # opens the source of a model that was trained on the stand-in
STANDIN_LICENCE, OTHER_LICENCE = "cc-by-sa-3.0", "mit"
ATTRIBUTION = """\
The training images were drawn from the strokes of [KanjiVG](https://kanjivg.tagaini.net), copyright Ulrich Apel and
contributors, [CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/), varied by made-up writers: a stand-in for
ETL9G."""
ETL9G = """\
The training images are ETL9G: Electrotechnical Laboratory, Japanese Technical Committee for Optical Character
Recognition, *ETL Character Database*, 1973-1984, AIST. None of them is in this folder."""


def default_output(model_path: Path) -> Path:
    stem = model_path.stem
    return beside(model_path, FILE_NAMES.get(stem, stem) + ".safetensors")


def facts_told(facts: dict) -> dict:
    """What the file says about itself."""
    told = {name: facts[name] for name in TOLD if facts.get(name) is not None}
    return told | {"config": published_config(facts["config"]), "contract": CONTRACT}


def tensors_of(model: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """The model's tensors, each with a dense memory of its own: the format knows neither sharing nor strides."""
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise InputError(f"{path} holds {name}, which is no dense tensor and has no place in a SafeTensors file")
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def in_order(file: bytes) -> bytes:
    """A SafeTensors file, which tells of itself in an order that differs each time, with the same header in order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + file[end:]


def write(model: nn.Module, facts: dict, path: Path, model_path: Path) -> None:
    """Writes the file and reads it back; raises ConversionError unless every tensor and logit is the original's."""
    tensors = tensors_of(model, model_path)
    header = {name: json.dumps(value, ensure_ascii=False) for name, value in facts_told(facts).items()}
    path.write_bytes(in_order(save(tensors, {"format": "pt"} | header)))
    content = load_safetensors(path)
    found = content["model"]
    changed = [k for k, v in tensors.items() if k not in found or found[k].dtype != v.dtype or not found[k].equal(v)]
    if changed or found.keys() != tensors.keys():
        raise ConversionError(f"{', '.join(changed[:3]) or 'a tensor'} is not read back as it was written")
    images = probe_images(None, PROBES, {})
    with torch.no_grad():
        if not build(content, path)(images).equal(model(images)):
            raise ConversionError("the logits of the file read back are not those of the original")


def convert(model_path: Path, output: Path) -> str:
    """Writes, compares, and only then names the file; returns one line that says what was made."""
    model, facts = load_trained(model_path)
    with atomic_write(output) as temporary:
        write(model, facts, temporary, model_path)
    return told_of(output, output, model, facts)


def convert_to_folder(model_path: Path, folder: Path) -> str:
    """Writes and compares in a folder beside it; what else lies in `folder` stays. Returns one line."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give a folder with --folder")
    if others := [name for name in (SETTINGS, CARD) if (folder / name).exists() and not (folder / WEIGHTS).exists()]:
        raise InputError(
            f"{folder / others[0]} was not made by this script and stays as it is: choose another --folder"
        )
    model, facts = load_trained(model_path)
    with scratch_folder(folder) as making:
        with atomic_write(making / WEIGHTS) as temporary:
            write(model, facts, temporary, model_path)
        write_text(making / SETTINGS, json.dumps(facts_told(facts), ensure_ascii=False, indent=2) + "\n")
        write_text(making / CARD, model_card(facts, architecture_of(facts["script"], model_path).name, model))
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, SETTINGS, CARD):
            (making / name).replace(folder / name)
        sync_folder(folder)
    return told_of(folder, folder / WEIGHTS, model, facts)


def told_of(made: Path, file: Path, model: nn.Module, facts: dict) -> str:
    return (
        f"{made}: {file.stat().st_size:,} bytes, {len(model.state_dict())} tensors, {len(facts['classes']):,} classes; "
        f"read back, logits of {PROBES} images equal bit for bit"
    )


def measured(facts: dict) -> str:
    """The accuracies and losses that the file holds, as a table."""
    metrics = facts.get("metrics") or {}
    scores = {name: metrics[name] for name in metrics if any(word in name for word in ("top", "accuracy", "loss"))}
    if not scores:
        return "The file holds no figures."
    split = "by writer" if facts["config"].get("split") == "writer" else facts["config"].get("split", "unknown")
    rows = [f"| {name} | {value:.6g} |" for name, value in scores.items()]
    return "\n".join([f"Top-1 and top-5 in per cent; split: {split}.", "", "| figure | value |", "|---|---|", *rows])


def model_card(facts: dict, name: str, model: nn.Module) -> str:
    """README.md for a hub: YAML that it reads, then what a person wants to know."""
    source, classes = str(facts.get("source") or "unknown"), len(facts["classes"])
    standin = source.startswith(STANDIN)
    numbers = sum(value.numel() for value in model.state_dict().values())
    name += ", INT8" if "quantization" in facts else ""
    data = ATTRIBUTION if standin else ETL9G if source == "ETL9G" else f"Trained on: {source}."
    return f"""\
---
license: {STANDIN_LICENCE if standin else OTHER_LICENCE}
language: ja
library_name: pytorch
pipeline_tag: image-classification
tags:
- handwriting-recognition
- kanji
- hiragana
- etl9g
datasets:
- {source.replace(" ", "-")}
metrics:
- accuracy
---
# Handwritten Japanese characters: {name}

{classes:,} classes, {numbers:,} weights and statistics, made by `{facts["script"]}.py`; trained on: {source}.

Input `(N, 1, 64, 64)`: {CONTRACT}; `normalization.py` of the toolkit makes it of any picture.
Output: logits `(N, {classes})`, in the order of `classes` in `{SETTINGS}` and in the header of `{WEIGHTS}`.

```python
from pathlib import Path
from checkpoints import load_trained  # in the toolkit's scripts/
model, facts = load_trained(Path("{WEIGHTS}"))
```

## Measured in training

{measured(facts)}

## Data

{data}
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", type=Path, required=True, help="a checkpoint or a best model")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--output", type=Path, help="default: beside the model; kanji_model.safetensors for best_kanji_model.pth"
    )
    place.add_argument(
        "--folder", type=Path, metavar="DIR", help=f"write {SETTINGS}, {WEIGHTS} and a model card into DIR instead"
    )
    arguments = parser.parse_args()
    if arguments.output and arguments.output.suffix != ".safetensors":
        parser.error("--output must end in .safetensors, by which the file is known")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    model_path = arguments.model_path
    try:
        if arguments.folder:
            print(convert_to_folder(model_path, arguments.folder))
        else:
            print(convert(model_path, arguments.output or default_output(model_path)))
    except ConversionError as error:
        raise OSError(f"{model_path} was not converted: {error}") from None


if __name__ == "__main__":
    run(main)
