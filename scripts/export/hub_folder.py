"""A folder for a model hub: SafeTensors, the settings as JSON, and a model card."""

import json
from pathlib import Path

from torch import nn

from engine.model_files import architecture_of
from export.safetensors_file import published_facts, summary, write
from files.atomic import atomic_write, scratch_folder, sync_folder, write_text
from files.command_line import InputError
from images.normalization import CONTRACT
from quantization.files import load_trained

WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "README.md"
TEMPLATE = Path(__file__).with_name("hub_card.md")
STANDIN_LICENCE, OTHER_LICENCE = "cc-by-sa-3.0", "mit"
STANDIN = """\
The training images were drawn from the strokes of [KanjiVG](https://kanjivg.tagaini.net), copyright Ulrich Apel and
contributors, [CC BY-SA 3.0](https://creativecommons.org/licenses/by-sa/3.0/), varied by made-up writers: a stand-in for
ETL9G."""
ETL9G = """\
The training images are ETL9G: Electrotechnical Laboratory, Japanese Technical Committee for Optical Character
Recognition, *ETL Character Database*, 1973-1984, AIST. None of them is in this folder."""


def convert_to_folder(model_path: Path, folder: Path) -> str:
    """Writes and compares in a folder beside it; what else lies in `folder` stays. Returns one line."""
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
    return summary(folder, folder / WEIGHTS, model, facts)


def measured(facts: dict) -> str:
    """The accuracies and losses that the file holds, as a table in Markdown."""
    metrics = (facts.get("metrics") or {}).items()
    scores = {name: value for name, value in metrics if any(word in name for word in ("top", "accuracy", "loss"))}
    if not scores:
        return "The file holds no figures."
    split = "by writer" if facts["config"].get("split") == "writer" else facts["config"].get("split", "unknown")
    rows = [f"| {name} | {value:.6g} |" for name, value in scores.items()]
    return "\n".join([f"Top-1 and top-5 in per cent; split: {split}.", "", "| figure | value |", "|---|---|", *rows])


def model_card(facts: dict, name: str, model: nn.Module) -> str:
    """README.md for a hub: YAML that it reads, then what a person wants to know."""
    source = str(facts.get("source") or "unknown")
    standin = source.startswith("KanjiVG")
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=name + (", INT8" if "quantization" in facts else ""),
        licence=STANDIN_LICENCE if standin else OTHER_LICENCE,
        source=source,
        dataset=source.replace(" ", "-"),
        data=STANDIN if standin else ETL9G if source == "ETL9G" else f"Trained on: {source}.",
        classes=len(facts["classes"]),
        numbers=sum(value.numel() for value in model.state_dict().values()),
        script=facts["script"],
        contract=CONTRACT,
        measured=measured(facts),
        weights=WEIGHTS,
        settings=SETTINGS,
    )
