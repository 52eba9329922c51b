"""The whole pipeline on the stand-in, in minutes: raw records, dataset, training, ONNX, recognised characters.

    python scripts/quickstart.py

Everything it makes lies in ETL9G/standin, dataset and models/quickstart; report.json there holds what it took and what
it reached. Stopped half-way, the same command goes on.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from characters.confusable import Confusable
from characters.jis import etl9g_classes
from characters.names import true_character
from data.prepared import METADATA_FILE
from evaluation.recognition_picture import RecognitionPicture
from files.atomic import atomic_write, write_text
from files.command_line import InputError, at_least, parser, run
from files.machine import cores
from files.plain_json import read_json
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.reading import find_images, read_grey
from inference.readings import read
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
        sheet.add(paths[i], greys[i], readings[i].top)
    sheet.write(picture)
    for i in shown[:8]:
        print(f"{paths[i]}: {readings[i]}" + ("" if truths[i] is None else "  right" if right[i] else "  wrong"))
    return {"images": len(paths), "named": sum(map(bool, truths)), "right": sum(right), "folder": str(folder)}


def pipeline(arguments: argparse.Namespace) -> dict:
    """Runs all stages; returns the report."""
    raw, data, models = arguments.raw_dir, arguments.data_dir, arguments.model_dir
    seed, checkpoint, exported = arguments.seed, models / "best_kanji_model.pth", models / "kanji_model.onnx"
    seconds: dict[str, float] = {}
    begin = time.monotonic()
    training = ("--epochs", arguments.epochs, "--seed", seed, "--resume-from", "auto")
    stage(seconds, "synthesise", "synthesize_etl9g.py", "--sets", arguments.sets, "--out", raw, "--seed", seed)
    stage(seconds, "prepare", "prepare_dataset.py", "--etl9g-dir", raw, "--output-dir", data)
    stage(seconds, "train", "train_etl9g_model.py", "--data-dir", data, "--model-dir", models, *training)
    stage(seconds, "export", "convert_to_onnx.py", "--model-path", checkpoint, "--data-dir", data)
    evaluation = models / "evaluation"
    stage(seconds, "evaluate", "evaluate.py", "--model", exported, "--data-dir", data, "--output-dir", evaluation)
    images = arguments.images or models / "samples"
    print(f"\n--- recognise: the images of {images}", flush=True)
    started = time.monotonic()
    if not arguments.images:
        fresh_samples(images, seed, SHOWN)
    recognised = recognise_images(exported, images, models / "recognised.png")
    figures, facts = (read_json(path, "delete it") for path in (evaluation / "evaluation.json", data / METADATA_FILE))
    ended = time.monotonic()
    return {
        "seconds": seconds | {"recognise": round(ended - started, 1), "all": round(ended - begin, 1)},
        "samples": facts["samples"],
        "source": facts["source"],
        "epochs": arguments.epochs,
        "unseen_writers": {name: figures[name] for name in ("samples", "top1", "top5")},
        "recognised": recognised,
        "cores": cores(),
    }


def parse_arguments() -> argparse.Namespace:
    flags = parser(__doc__)
    flags.add_argument("--images", type=Path, help="images to recognise at the end (default: fresh stand-in samples)")
    flags.add_argument("--sets", type=at_least(1), default=20, help="data sets of 3,036 samples to make (default 20)")
    flags.add_argument("--epochs", type=at_least(1), default=8, help="passes over the training split (default 8)")
    flags.add_argument("--seed", type=int, default=0, help="of the stand-in and the training (default 0)")
    flags.add_argument("--raw-dir", type=Path, default=Path("ETL9G/standin"), help="default ETL9G/standin")
    flags.add_argument("--data-dir", type=Path, default=Path("dataset"), help="default dataset")
    flags.add_argument("--model-dir", type=Path, default=Path("models/quickstart"), help="default models/quickstart")
    return flags.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.images and not arguments.images.is_dir():
        raise FileNotFoundError(f"{arguments.images} is missing: --images takes a folder of images")
    if arguments.images:
        find_images([arguments.images])  # a folder without any is refused now
    metadata, models = arguments.data_dir / METADATA_FILE, arguments.model_dir
    if metadata.is_file() and read_json(metadata, "delete it").get("source") == "ETL9G":
        raise InputError(
            f"{arguments.data_dir} holds the real ETL9G, which stays as it is: give the stand-in another --data-dir"
        )
    print(
        "This makes a stand-in for ETL9G from KanjiVG strokes, trains the CNN on it and reads images with the result."
    )
    report = pipeline(arguments)
    write_text(models / "report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    figures, recognised = report["unseen_writers"], report["recognised"]
    scores = f"top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %"
    print(f"\nunseen writers: {scores} of {figures['samples']:,} samples")
    if named := recognised["named"]:
        share = f"({100 * recognised['right'] / named:.1f} %)"
        print(f"{recognised['folder']}: {recognised['right']} of {named} images right {share}")
    print(
        f"all in {report['seconds']['all']:.0f} s on {cores()} cores; look at {models / 'recognised.png'}, "
        f"then at {models / 'report.json'}"
    )


if __name__ == "__main__":
    run(main)
