"""The whole pipeline on the stand-in, in minutes: raw records, dataset, training, ONNX, recognised characters.

    python scripts/quickstart.py

Everything it makes lies in ETL9G/standin, dataset and models/quickstart; report.json there holds what it took and what
it reached. Stopped half-way, the same command continues.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse
import json
import time

import numpy as np
from PIL import Image

from characters.confusable import Confusable
from characters.jis import etl9g_classes
from characters.names import true_character
from data.prepared import METADATA_FILE
from evaluation.recognition_picture import RecognitionPicture
from files.atomic import atomic_write, write_text
from files.command_line import InputError, at_least, parser, run, run_stage
from files.machine import cores
from files.plain_json import read_json
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.finding import find_images
from images.reading import read_grey
from inference.readings import read
from inference.recognizer import Recognizer
from records.etl9g import DARKEST

SHOWN = 32  # images in the picture


def fresh_samples(folder: Path, seed: int, count: int) -> None:
    """Characters by writers of no data set as PNG files in a folder for each character."""
    rng = np.random.default_rng(seed + 1_000_000)
    for char in rng.choice(list(etl9g_classes()), count, replace=False):
        frame = write_character(char, stroke_models(char), new_writer(rng), rng)
        with atomic_write(folder / f"U+{ord(char):04X}" / "sample.png") as temporary:
            Image.fromarray(255 - frame * (255 // DARKEST)).save(temporary, format="PNG")


def recognise_images(model: Path, folder: Path, picture: Path) -> dict:
    """Recognises the images of a folder and draws the picture; returns how many there are, how many of them are named
    by their character, and how many of those were read right."""
    paths = find_images([folder])
    greys, truths = [read_grey(path) for path in paths], [true_character(path) for path in paths]
    readings = read(Recognizer(model), greys, 5, Confusable())
    right = [bool(r.top) and r.top[0][0] == truth for r, truth in zip(readings, truths, strict=True)]
    sheet, shown = RecognitionPicture(), sorted(np.random.default_rng(0).permutation(len(paths))[:SHOWN])
    for i in shown:
        sheet.add(truths[i], greys[i], readings[i].top)
    sheet.write(picture)
    for i in shown[:8]:
        print(f"{paths[i]}: {readings[i]}" + ("" if truths[i] is None else "  right" if right[i] else "  wrong"))
    return {"images": len(paths), "named": sum(map(bool, truths)), "right": sum(right), "folder": str(folder)}


def pipeline(arguments: argparse.Namespace) -> dict:
    """Runs all stages; returns the report."""
    raw, data, models, seed = arguments.raw_dir, arguments.data_dir, arguments.model_dir, arguments.seed
    exported, evaluation, epochs = models / "kanji_model.onnx", models / "evaluation", arguments.epochs
    training = ("--epochs", epochs, "--seed", seed, "--resume-from", "auto")
    stages = {
        "synthesise": ("synthesize_etl9g.py", "--sets", arguments.sets, "--out", raw, "--seed", seed),
        "prepare": ("prepare_dataset.py", "--etl9g-dir", raw, "--output-dir", data),
        "train": ("train_etl9g_model.py", "--data-dir", data, "--model-dir", models, *training),
        "export": ("convert_to_onnx.py", "--model-path", models / "best_kanji_model.pth", "--data-dir", data),
        "evaluate": ("evaluate.py", "--model", exported, "--data-dir", data, "--output-dir", evaluation),
    }
    seconds = {name: run_stage(name, *words) for name, words in stages.items()}
    images = arguments.images or models / "samples"
    print(f"\n--- recognise: the images of {images}", flush=True)
    begin = time.monotonic()
    if not arguments.images:
        fresh_samples(images, seed, SHOWN)
    recognised = recognise_images(exported, images, models / "recognised.png")
    figures, facts = (read_json(path, "delete it") for path in (evaluation / "evaluation.json", data / METADATA_FILE))
    seconds["recognise"] = round(time.monotonic() - begin, 1)
    seconds["all"] = round(sum(seconds.values()), 1)
    report = {"seconds": seconds, "samples": facts["samples"], "source": facts["source"], "epochs": epochs}
    report["unseen_writers"] = {name: figures[name] for name in ("samples", "top1", "top5")}
    return report | {"recognised": recognised, "cores": cores()}


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--images", type=Path, help="images to recognise at the end (default: fresh stand-in samples)")
    flags.add_argument("--sets", type=at_least(1), default=20, help="data sets of 3,036 samples to make (default 20)")
    flags.add_argument("--epochs", type=at_least(1), default=8, help="passes over the training split (default 8)")
    flags.add_argument("--seed", type=int, default=0, help="of the stand-in and the training (default 0)")
    flags.add_argument("--raw-dir", type=Path, default=Path("ETL9G/standin"), help="default ETL9G/standin")
    flags.add_argument("--data-dir", type=Path, default=Path("dataset"), help="default dataset")
    flags.add_argument("--model-dir", type=Path, default=Path("models/quickstart"), help="default models/quickstart")
    arguments = flags.parse_args()
    metadata, models = arguments.data_dir / METADATA_FILE, arguments.model_dir
    source = read_json(metadata, "delete it").get("source") if metadata.is_file() else None
    if "ETL9G" in str(source).split(" + "):
        raise InputError(f"{arguments.data_dir} holds the real ETL9G: give the stand-in another --data-dir")
    if arguments.images:
        read_grey(find_images([arguments.images])[0])  # what is no image is refused now
    print("This makes a stand-in for ETL9G from KanjiVG strokes, trains the CNN on it and reads images with it.")
    report = pipeline(arguments)
    write_text(models / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    figures, recognised, seconds = report["unseen_writers"], report["recognised"], report["seconds"]["all"]
    scores = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %"
    print(f"\nunseen writers: {scores} of {figures['samples']:,} samples")
    if named := recognised["named"]:
        right = recognised["right"]
        print(f"{recognised['folder']}: {right} of {named} images right ({100 * right / named:.1f} %)")
    print(f"all in {seconds:.0f} s on {cores()} cores; look at {models / 'recognised.png'}, report.json")


if __name__ == "__main__":
    run(main)
