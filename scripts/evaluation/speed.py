"""TODO doc: from benchmark"""

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
from structure.codes import encode
from structure.table import StructureTable, structure_table
from structure.trees import ARRANGEMENTS, DEEPEST, Node


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
    """Milliseconds of one PNG of 300 x 300 on one thread: its decoding, normalisation, the network, and all of it."""
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
        return {name: 1000 * seconds for name, seconds in interleaved(actions, 10 * rounds).items()}


def made_up_trees(count: int) -> dict[str, Node]:
    """So many trees, each another, of halves of known characters; named by private-use code points."""
    rng = np.random.default_rng(0)
    halves = [part for tree in structure_table().trees.values() for part in tree.parts if part.depth() < DEEPEST]
    trees: dict[str, Node] = {}
    while len(trees) < count:
        first, second = rng.integers(len(halves), size=2)
        tree = Node(str(rng.choice(list(ARRANGEMENTS))), (halves[first], halves[second]))
        trees[str(tree)] = tree
    return {chr(0xF0000 + i): tree for i, tree in enumerate(trees.values())}


def head_bytes(count: int) -> dict[str, int]:
    """Bytes in fp32 of what turns a feature into logits of so many classes, in the CNN and in HierCode."""
    cnn = architecture_of("train_etl9g_model").config()
    linear = nn.Linear(cnn.embedding, count)
    hiercode = architecture_of("train_hiercode")
    prototypes = hiercode.model(hiercode.config(), "一").prototypes
    codes = encode("".join(trees := made_up_trees(count)), StructureTable(trees, {}), prototypes.symbols)
    learned = sum(p.numel() * p.itemsize for p in prototypes.parameters())
    return {
        "cnn": sum(p.numel() * p.itemsize for p in linear.parameters()),
        "hiercode": learned + codes.kinds.nbytes + codes.members.nbytes,
        "hiercode, learned": learned,
    }


def heads(counts: tuple[int, ...] = (3036, 10_000, 100_000)) -> dict[str, dict[str, int]]:
    """Prints a line for each number of classes."""
    found = {}
    print(f"{'bytes of the head':<20}{'CNN':>14}{'HierCode':>14}{'of it learned':>16}")
    for count in counts:
        found[str(count)] = row = head_bytes(count)
        print(f"{count:<20,}{row['cnn']:>14,}{row['hiercode']:>14,}{row['hiercode, learned']:>16,}")
    return found
