"""How fast each stage of the pipeline is on this machine."""

from pathlib import Path

import numpy as np

from characters.jis import etl9g_classes
from data.prepared import PreparedDataset
from engine.model_files import architecture_of
from engine.run import Run
from engine.timing import clock, interleaved
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.normalization import CANVAS, normalize, normalize_frames
from inference.recognizer import Recognizer, single_thread
from records.etl9g import read_records, unpack_images


def training(data_dir: Path, rounds: int) -> float:
    """Images a second of whole training steps of the CNN, augmentation included."""
    architecture = architecture_of("train_etl9g_model")
    run = Run(architecture, architecture.config(data_dir=str(data_dir)), PreparedDataset(data_dir))
    run.model.train()
    rows = run.sampling.rows[: run.sampling.batch_size]
    return len(rows) / interleaved({"step": lambda: run.train_step(rows)}, rounds)["step"]


def inference_seconds(models: dict[str, Path], rounds: int) -> dict[str, float]:
    """Median seconds that onnxruntime takes for an image on one thread, of each ONNX file, in turn."""
    image = {"input_image": np.random.default_rng(0).random((1, 1, CANVAS, CANVAS), np.float32)}
    sessions = {name: single_thread(path) for name, path in models.items()}
    return interleaved({name: lambda s=s: s.run(None, image) for name, s in sessions.items()}, rounds)


def drawing() -> float:
    """Characters drawn a second by one process."""
    models = {char: stroke_models(char) for char in etl9g_classes()[::10]}
    rng = np.random.default_rng(0)
    writer = new_writer(rng)
    times = interleaved({"": lambda: [write_character(*model, writer, rng) for model in models.items()]}, 3)
    return len(models) / times[""]


def preparing(raw: Path) -> float:
    """Raw records normalised a second by one process."""
    records = np.array(read_records(raw)[0][:2048])
    return len(records) / min(clock(lambda: normalize_frames(unpack_images(records))) for _ in range(3))


def recognising(model: Path, rounds: int) -> dict[str, float]:
    """Seconds of one picture of 300 x 300 on one thread: its normalisation, the network, and both."""
    recognizer = Recognizer(model, threads=1)
    picture = np.full((300, 300), 255, np.float32)
    picture[60:240, 140:160] = picture[140:160, 60:240] = 0
    image = normalize(picture)[None]
    actions = {
        "normalise": lambda: normalize(picture),
        "network": lambda: recognizer.logits(image),
        "both": lambda: recognizer.picture_logits([picture]),
    }
    return interleaved(actions, 10 * rounds)
