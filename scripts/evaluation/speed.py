"""How fast each stage of the pipeline is on this machine."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from characters.jis import etl9g_classes
from data.augmentation import augment
from data.prepared import PreparedDataset
from engine.batches import to_input
from engine.devices import autocast
from engine.model_files import architecture_of
from engine.run import Run
from engine.timing import clock, interleaved
from handwriting.page import write_character
from handwriting.strokes import stroke_models
from handwriting.writer import new_writer
from images.normalization import normalize, normalize_frames
from images.reading import read_grey
from inference.readings import recognize
from inference.recognizer import Recognizer
from records.etl9g import read_records, unpack_images


def training_step(data_dir: Path, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of a CNN training step's stages on batches of the training split."""
    architecture = architecture_of("train_etl9g_model")
    config = architecture.config(data_dir=str(data_dir), batch_size=batch_size)
    state = Run(architecture, config, PreparedDataset(data_dir))
    state.model.train()
    rows = torch.randperm(len(state.training))[:batch_size]
    held: dict[str, torch.Tensor] = {}

    def load():
        images, held["labels"] = state.training.get(rows)
        held["images"] = to_input(images)

    def vary():
        held["varied"] = augment(held["images"], config.augmentation)

    def forward():
        with autocast(config, state.device):
            held["loss"] = state.architecture.loss(state.forward(held["varied"]), held["labels"], config)

    def backward():
        held["loss"].backward()

    def step():
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        state.optimizers[0].step()
        state.model.zero_grad(set_to_none=True)
        state.averaged.update_parameters(state.model)

    return interleaved({"load": load, "augment": vary, "forward": forward, "backward": backward, "step": step}, rounds)


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
