"""The whole pipeline on the stand-in, in minutes: raw records, dataset, training, ONNX, recognised characters.

    python scripts/quickstart.py

Everything it makes lies in ETL9G/standin, dataset and models/quickstart; report.json there holds what it took and what
it reached. Stopped half-way, the same command goes on.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from characters.jis import etl9g_classes
from characters.names import true_character
from evaluation.recognition_picture import RecognitionPicture
from files.atomic import atomic_write, write_text
from files.command_line import InputError, run
from files.plain_json import read_json
from files.workers import cores
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.reading import find_images, read_grey
from inference.readings import recognize
from inference.recognizer import Recognizer
from records.etl9g import DARKEST

SCRIPTS = Path(__file__).resolve().parent
SHOWN = 32  # images in the picture


def stage(seconds: dict[str, float], name: str, script: str, *arguments: object) -> None:
    """Runs a script as a person would, shows the command and how long it took; ends this program if it fails."""
    words = [str(a) for a in arguments]
    print(f"\n--- {name}: python scripts/{script} {' '.join(words)}", flush=True)
    begin = time.monotonic()
    code = subprocess.run([sys.executable, SCRIPTS / script, *words], check=False).returncode
    seconds[name] = round(time.monotonic() - begin, 1)
    if code:
        print(f"{name} ended with exit code {code}; the same command goes on from here", file=sys.stderr)
        sys.exit(code)
    print(f"--- {name} took {seconds[name]:.1f} s", flush=True)


def fresh_samples(folder: Path, seed: int, count: int) -> None:
    """Characters by writers of no data set as PNG files in a folder for each character."""
    rng = np.random.default_rng(seed + 1_000_000)
    for char in rng.choice(list(etl9g_classes()), count, replace=False):
        frame = write_character(char, stroke_models(char), new_writer(rng), rng)
        path = folder / f"U+{ord(char):04X}" / "sample.png"
        with atomic_write(path) as temporary:
            Image.fromarray(255 - frame * (255 // DARKEST)).save(temporary, format="PNG")


def recognise_images(model: Path, images: Path, picture: Path) -> dict:
    """Recognises the images of a folder and draws the picture; returns how many there were and how many were right."""
    paths = find_images([images])
    truths = [true_character(path) for path in paths]
    greys = [read_grey(path) for path in paths]
    results = recognize(Recognizer(model), greys, 5)
    known = [(top, truth) for top, truth in zip(results, truths, strict=True) if truth]
    right = sum(bool(top) and top[0][0] == truth for top, truth in known)
    shown = sorted(np.random.default_rng(0).permutation(len(paths))[:SHOWN])
    sheet = RecognitionPicture()
    for i in shown:
        sheet.add(paths[i], greys[i], results[i])
    sheet.write(picture)
    for i in shown[:8]:
        mark = "" if truths[i] is None else "right" if results[i] and results[i][0][0] == truths[i] else "wrong"
        print(f"{paths[i]}: " + "  ".join(f"{c} {100 * p:.0f} %" for c, p in results[i]) + f"  {mark}")
    return {"images": len(paths), "named": len(known), "right": right}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="images to recognise at the end (default: fresh stand-in samples)")
    parser.add_argument("--sets", type=int, default=20, help="data sets of 3,036 samples to make (default 20)")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training split (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the stand-in and the training (default 0)")
    parser.add_argument("--raw-dir", type=Path, default=Path("ETL9G/standin"), help="default ETL9G/standin")
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="default dataset")
    parser.add_argument("--model-dir", type=Path, default=Path("models/quickstart"), help="default models/quickstart")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    raw, data, models = arguments.raw_dir, arguments.data_dir, arguments.model_dir
    if arguments.images and not arguments.images.is_dir():
        raise FileNotFoundError(f"{arguments.images} is missing: --images takes a folder of images")
    if arguments.images:
        find_images([arguments.images])  # a folder without any is refused now
    metadata = data / "metadata.json"
    if metadata.is_file() and read_json(metadata, "delete it").get("source") == "ETL9G":
        raise InputError(f"{data} holds the real ETL9G, which stays as it is: give the stand-in another --data-dir")
    seconds: dict[str, float] = {}
    begin = time.monotonic()
    print(
        "This makes a stand-in for ETL9G from KanjiVG strokes, trains the CNN on it and reads images with the result."
    )
    stage(
        seconds, "synthesise", "synthesize_etl9g.py", "--sets", arguments.sets, "--out", raw, "--seed", arguments.seed
    )
    stage(seconds, "prepare", "prepare_dataset.py", "--etl9g-dir", raw, "--output-dir", data)
    training = ("--epochs", arguments.epochs, "--seed", arguments.seed, "--resume-from", "auto")
    stage(seconds, "train", "train_etl9g_model.py", "--data-dir", data, "--model-dir", models, *training)
    checkpoint, exported = models / "best_kanji_model.pth", models / "kanji_model.onnx"
    stage(seconds, "export", "convert_to_onnx.py", "--model-path", checkpoint, "--data-dir", data)
    evaluation = models / "evaluation"
    stage(seconds, "evaluate", "evaluate.py", "--model", exported, "--data-dir", data, "--output-dir", evaluation)
    images = arguments.images
    if images is None:
        images = models / "samples"
        fresh_samples(images, arguments.seed, SHOWN)
    print(f"\n--- recognise: the images of {images}", flush=True)
    started = time.monotonic()
    recognised = recognise_images(exported, images, models / "recognised.png")
    seconds["recognise"] = round(time.monotonic() - started, 1)
    figures = json.loads((evaluation / "evaluation.json").read_text(encoding="utf-8"))
    dataset_facts = json.loads(metadata.read_text(encoding="utf-8"))
    report = {
        "seconds": seconds | {"all": round(time.monotonic() - begin, 1)},
        "samples": dataset_facts["samples"],
        "source": dataset_facts["source"],
        "epochs": arguments.epochs,
        "unseen_writers": {k: figures[k] for k in ("samples", "top1", "top5")},
        "recognised": recognised | {"folder": str(images)},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "cores": cores(),
    }
    write_text(models / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    scores = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %"
    print(f"\nunseen writers: {scores} of {figures['samples']:,} samples")
    if recognised["named"]:
        print(
            f"{images}: {recognised['right']} of {recognised['named']} images right "
            f"({100 * recognised['right'] / recognised['named']:.1f} %)"
        )
    print(
        f"all in {report['seconds']['all']:.0f} s on {cores()} cores; look at {models / 'recognised.png'}, "
        f"then at {models / 'report.json'}"
    )


if __name__ == "__main__":
    run(main)
