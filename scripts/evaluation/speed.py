"""How fast each stage of the pipeline is on this machine."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from characters.jis import etl9g_classes
from data.augmentation import augment
from data.prepared import PreparedDataset
from engine.batches import to_input
from engine.model_files import architecture_of
from engine.run import Run
from engine.timing import clock, interleaved
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.normalization import CANVAS, normalize, normalize_frames
from images.reading import read_grey
from inference.readings import recognize
from inference.recognizer import Recognizer, single_thread
from records.etl9g import read_records, unpack_images


def training_step(data_dir: Path, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of a whole CNN training step on a batch of the training split, and of two of its parts by themselves."""
    architecture = architecture_of("train_etl9g_model")
    config = architecture.config(data_dir=str(data_dir), batch_size=batch_size)
    state = Run(architecture, config, PreparedDataset(data_dir))
    state.model.train()
    rows = torch.randperm(len(state.training))[:batch_size]
    images = to_input(state.training.get(rows)[0])
    actions = {
        "load": lambda: state.training.get(rows),
        "augment": lambda: augment(images, config.augmentation),
        "whole step": lambda: state.train_step(rows),
    }
    return interleaved(actions, rounds)


def inference_seconds(models: dict[str, Path], batch: int, rounds: int) -> dict[str, float]:
    """Median seconds that onnxruntime takes for a batch on one thread, of each ONNX file, in turn."""
    images = np.random.default_rng(0).random((batch, 1, CANVAS, CANVAS), np.float32)
    sessions = {name: single_thread(path) for name, path in models.items()}
    return interleaved({n: lambda s=s: s.run(None, {"input_image": images}) for n, s in sessions.items()}, rounds)


def drawing(count: int = 300) -> float:
    """Characters drawn a second by one process."""
    classes = etl9g_classes()[:: len(etl9g_classes()) // count]
    models = {char: stroke_models(char) for char in classes}
    rng = np.random.default_rng(0)
    writer = new_writer(rng)
    return len(classes) / clock(lambda: [write_character(char, models[char], writer, rng) for char in classes])


def preparing(raw: Path, count: int = 2048) -> float:
    """Raw records normalised a second by one process."""
    records = np.array(read_records(raw)[0][:count])
    return len(records) / min(clock(lambda: normalize_frames(unpack_images(records))) for _ in range(3))


def recognising(model: Path, rounds: int) -> dict[str, float]:
    """Seconds of one PNG of 300 x 300 on one thread: its decoding, normalisation, the network, and all of it."""
    recognizer = Recognizer(model, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        picture = np.full((300, 300), 255, np.uint8)
        picture[60:240, 140:160] = picture[140:160, 60:240] = 0
        Image.fromarray(picture).save(path)
        grey = read_grey(path)
        image = normalize(grey)[None]
        actions = {
            "decode": lambda: read_grey(path),
            "normalise": lambda: normalize(grey),
            "network": lambda: recognizer.logits(image),
            "all": lambda: recognize(recognizer, [read_grey(path)], 1),
        }
        return interleaved(actions, 10 * rounds)
