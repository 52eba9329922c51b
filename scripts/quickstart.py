"""Train an INT8 model that reads handwriting, all stages in one command, in about ten minutes (twenty without bf16).

    python scripts/quickstart.py
    python scripts/quickstart.py --minutes 60 --font fonts

It draws a stand-in for ETL9G, prepares it, trains HierCode on samples that are drawn during training, makes the model
INT8, exports it, measures it on writers that no training saw, and reads pictures with it. Everything that it makes lies
in ETL9G/standin, dataset and models/quickstart; report.json there holds what it took and what it reached. Stopped
half-way, the same command continues.

The released INT8 HierCode is its teacher: the new model learns from its answers too. --no-teacher leaves it out: the
model then sees more samples in the same time, and on average reads real handwriting a point worse.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse
import json
import os
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
from inference.recognizer import RELEASED, Recognizer
from records.etl9g import DARKEST

TRAINING = "train_hiercode"
FRESH, PASSES = 4, 4  # sets of an epoch, and epochs that a set is shown in
MINUTES = 10, 20  # for all of it, where bf16 is fast and where it is not
PATIENCE = 1.75  # times as long at most, where another program has a core
AFTER, AFTER_LIMITS = 0.09, (0.7, 2)  # of the time is for what comes after the training, in these limits of minutes
GUESS = 32  # epochs, until the first one has shown how long they take
WIDTH = 0.5  # of the released models' channels: as good after ten minutes, better in shorter trainings, half the bytes
SHOWN = 32  # images in the picture
NEXT = """
Next: read a photo of your own, measure the model on your handwriting, give it more time.

  python scripts/recognize.py photo.png --model {0}
  python scripts/evaluate.py --images my_handwriting --model {0}
  python scripts/quickstart.py --minutes 60"""


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


def plan(given: argparse.Namespace) -> None:
    """How long it takes, unless that was said. A core that another program has is left to it, where nobody said how
    many threads to use: the training then has the others, and up to 1.75 times as long."""
    from engine.devices import choose_device, fast_bf16  # PyTorch takes its time
    from engine.timing import core_is_taken

    minutes, others = MINUTES[not fast_bf16(choose_device("auto"))], max(1, cores() - 1)
    if "OMP_NUM_THREADS" not in os.environ and core_is_taken():
        os.environ["OMP_NUM_THREADS"] = str(others)
        minutes = round(minutes * min(PATIENCE, cores() / others), 1)
        print(" Another program has a core, which is left to it.", end="")
    given.asked, given.minutes = given.minutes, given.minutes or minutes
    print("" if given.epochs else f" It takes about {given.minutes:g} minutes.", flush=True)


def training_minutes(given: argparse.Namespace, seconds: float) -> float:
    """How long the training may take, when so many seconds have passed, or what was left for it at the first call."""
    path = given.model_dir / "plan.json"
    content = read_json(path, "delete it") if path.is_file() else {}
    if content.get("asked", 0) != given.asked:
        after = float(np.clip(AFTER * given.minutes, *AFTER_LIMITS))
        content = {"asked": given.asked, "training": round(given.minutes - after - seconds / 60, 2)}
        write_text(path, json.dumps(content) + "\n")
    return max(1, content["training"])


def pipeline(given: argparse.Namespace) -> dict:
    """Runs all stages; returns the report."""
    raw, data, models, begin = given.raw_dir, given.data_dir, given.model_dir, time.monotonic()
    best, int8 = models / "hiercode_model_best.pth", models / "quantized_hiercode_int8.pth"
    exported, evaluation = models / "hiercode_int8.onnx", models / "evaluation"
    taught = {"teacher": str(RELEASED), "distillation": 0.7, "code_dropout": 0, "batch_size": 64}
    settings = taught if given.teacher else {"label_smoothing": 0.2, "batch_size": 128}
    settings |= {"optimizer": "muon-all", "learning_rate": 2e-2, "width": WIDTH}
    seconds = {
        "draw": run_stage("draw", "synthesize_etl9g.py", "--sets", given.sets, "--out", raw, "--seed", given.seed),
        "prepare": run_stage("prepare", "prepare_dataset.py", "--etl9g-dir", raw, "--output-dir", data),
    }
    settings["epochs"] = given.epochs or GUESS
    if not given.epochs:
        settings["minutes"] = training_minutes(given, time.monotonic() - begin)
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    flags += ["--font", given.font, "--font-share", "0.03"] if given.font else []
    flags += ["--fresh", FRESH, "--fresh-passes", PASSES, "--seed", given.seed]
    flags += ["--data-dir", data, "--model-dir", models, "--keep-last-n", 1, "--resume-from", "auto"]
    seconds["train"] = run_stage("train", f"{TRAINING}.py", *flags)
    stages = {
        "quantise": ("quantize_model.py", "--model-path", best, "--data-dir", data, "--limit", 1000),
        "export": ("convert_int8_pytorch_to_quantized_onnx.py", "--model-path", int8, "--data-dir", data),
        "evaluate": ("evaluate.py", "--model", exported, "--data-dir", data, "--output-dir", evaluation),
    }
    stages["export"] += ("--output", exported, "--compare", 1000)
    seconds |= {name: run_stage(name, *words) for name, words in stages.items()}
    images, start = given.images or models / "samples", time.monotonic()
    print(f"\n--- recognise: the images of {images}", flush=True)
    if not given.images:
        fresh_samples(images, given.seed, SHOWN)
    recognised = recognise_images(exported, images, models / "recognised.png")
    figures = read_json(evaluation / "evaluation.json", "delete it")
    source = read_json(data / METADATA_FILE, "delete it")["source"]
    epochs = len((models / "hiercode/metrics.jsonl").read_text(encoding="utf-8").splitlines())
    seconds["recognise"] = round(time.monotonic() - start, 1)
    seconds["all"] = round(time.monotonic() - begin, 1)
    report = {"seconds": seconds, "source": source, "epochs": epochs, "teacher": given.teacher, "cores": cores()}
    report["unseen_writers"] = {name: figures[name] for name in ("samples", "top1", "top5")}
    return report | {"model": str(exported), "bytes": exported.stat().st_size, "recognised": recognised}


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--minutes", type=at_least(1, float), help="for all of it (default 10; 20 without bf16)")
    flags.add_argument("--epochs", type=at_least(1), help="of the training, instead of what fits into --minutes")
    flags.add_argument("--no-teacher", dest="teacher", action="store_false", help="learn from the samples alone")
    flags.add_argument("--font", type=Path, metavar="DIR", help="fonts that some writers copy (fetch_fonts.py)")
    flags.add_argument("--images", type=Path, help="images to recognise at the end (default: drawn ones)")
    flags.add_argument("--sets", type=at_least(1), default=4, help="raw sets of 3,036 samples to draw (default 4)")
    flags.add_argument("--seed", type=int, default=0, help="of all that is drawn, and of the training (default 0)")
    flags.add_argument("--raw-dir", type=Path, default=Path("ETL9G/standin"), help="default ETL9G/standin")
    flags.add_argument("--data-dir", type=Path, default=Path("dataset"), help="default dataset")
    flags.add_argument("--model-dir", type=Path, default=Path("models/quickstart"), help="default models/quickstart")
    given = flags.parse_args()
    metadata, models = given.data_dir / METADATA_FILE, given.model_dir
    source = read_json(metadata, "delete it").get("source") if metadata.is_file() else None
    if "ETL9G" in str(source).split(" + "):
        raise InputError(f"{given.data_dir} holds the real ETL9G: give the stand-in another --data-dir")
    if given.images:
        read_grey(find_images([given.images])[0])  # what is no image is refused now
    print("This draws a stand-in for ETL9G, trains HierCode, makes it INT8 and reads images.", end="", flush=True)
    plan(given)
    report = pipeline(given)
    write_text(models / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    figures, recognised, seconds = report["unseen_writers"], report["recognised"], report["seconds"]["all"]
    scores = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %"
    print(f"\nunseen writers: {scores} of {figures['samples']:,} samples")
    if named := recognised["named"]:
        right = recognised["right"]
        print(f"{recognised['folder']}: {right} of {named} images right ({100 * right / named:.1f} %)")
    print(f"all in {seconds:.0f} s on {cores()} cores; look at {models / 'recognised.png'}")
    print(NEXT.format(report["model"]))


if __name__ == "__main__":
    run(main)
