"""Measure how fast the pipeline is on this machine: drawing, preparing, a training step by its stages, recognising.

    python scripts/benchmark.py --data-dir dataset --etl9g-dir ETL9G
    python scripts/benchmark.py --heads
    python scripts/benchmark.py --processes 2 --data-dir dataset
    python scripts/benchmark.py --memory-limit 1.5 --scratch DIR
    python scripts/benchmark.py --soak 60 --data-dir dataset

Stages of a training step are timed in turn within one interleaved run, so that a noisy machine disturbs all alike.
Figures are medians. --json writes them to a file. --heads measures instead how many bytes the CNN's and HierCode's
heads take as the classes grow, with made-up characters: two halves of known ones in an arrangement. The last three
watch whole trainings: shared by several processes of a thread each, on a made-up dataset four times as large as the
memory that a control group leaves it (in GiB; as root), and what a training holds while so many minutes pass.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import train_etl9g_model
import train_hiercode
from atomic_file import write_text
from augmentation import augment
from character_structure import ARRANGEMENTS, DEEPEST, Node, StructureTable, structure_table
from command_line import run
from devices import autocast
from etl9g_dataset import PreparedDataset
from etl9g_format import etl9g_classes, read_records, unpack_images
from handwriting import new_writer, write_character
from kanjivg_strokes import stroke_models
from normalization import normalize, normalize_frames
from prepare_dataset import find_raw
from recognize import Recognizer, read_grey, recognize
from structure_codes import encode
from training import Run, to_input
from watched_training import GIB, larger_than_memory, shared, soak


def clock(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def interleaved(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each action, all of them once in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for round_number in range(rounds + 2):
        for name, action in actions.items():
            taken = clock(action)
            if round_number >= 2:  # the first two warm up
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def training_step(data_dir: Path, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of a CNN training step's stages on batches of the training split."""
    config = train_etl9g_model.CNNConfig(data_dir=str(data_dir), batch_size=batch_size)
    state = Run(train_etl9g_model.ARCHITECTURE, config, PreparedDataset(data_dir))
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
    cnn = train_etl9g_model.CNNConfig()
    linear = nn.Linear(cnn.embedding, count)
    config = train_hiercode.HierCodeConfig()
    prototypes = train_hiercode.Prototypes("一", config.dimensions, 0)
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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("dataset"), help="the prepared dataset (default dataset)")
    parser.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="the raw files (default ETL9G)")
    parser.add_argument("--model", type=Path, help="an exported model to time as well")
    parser.add_argument("--batch-size", type=int, default=128, help="of the training step (default 128)")
    parser.add_argument("--rounds", type=int, default=20, help="default 20")
    parser.add_argument("--heads", action="store_true", help="only the bytes of the heads, by the number of classes")
    parser.add_argument("--processes", type=int, metavar="N", help="only the rate of one process and of N")
    parser.add_argument("--memory-limit", type=float, metavar="GIB", help="only the rate with so little memory")
    parser.add_argument("--scratch", type=Path, help="for the made-up dataset (default: the system's temporary folder)")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only what a training holds over so long a time")
    parser.add_argument("--seconds", type=float, default=60, help="for each training that is watched (default 60)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.batch_size < 2:
        parser.error("--rounds must be at least 1, --batch-size at least 2")
    if not all(value > 0 for value in (arguments.seconds, arguments.soak or 1, arguments.memory_limit or 1)):
        parser.error("--seconds, --soak and --memory-limit must be greater than 0")
    if arguments.processes is not None and arguments.processes < 2:
        parser.error("--processes must be at least 2")
    return arguments


def only(arguments: argparse.Namespace) -> dict | list | None:
    """The figures of the one thing that is asked for, if one is."""
    if arguments.heads:
        return heads()
    if arguments.processes:
        return shared(arguments.data_dir, arguments.processes, arguments.seconds, arguments.rounds)
    if arguments.memory_limit:
        return larger_than_memory(arguments.scratch, GIB * arguments.memory_limit, arguments.seconds, arguments.rounds)
    return soak(arguments.data_dir, arguments.soak) if arguments.soak else None


def main() -> None:
    arguments = parse_arguments()
    if figures := only(arguments):
        if arguments.json:
            write_text(arguments.json, json.dumps(figures, indent=1) + "\n")
        return
    raw = find_raw(arguments.etl9g_dir)[0]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}; torch {torch.__version__}; {os.cpu_count()} cores")
    figures: dict = {
        "drawn a second, one process": drawing(),
        "prepared a second, one process": preparing(raw),
    }
    for name, value in figures.items():
        print(f"{name:<34} {value:10,.0f}")
    stages = training_step(arguments.data_dir, arguments.batch_size, arguments.rounds)
    total = sum(stages.values())
    print(f"{'CNN training, images a second':<34} {arguments.batch_size / total:10,.0f}")
    for name, seconds in stages.items():
        print(f"  {name:<32} {1000 * seconds:10.2f} ms {100 * seconds / total:5.1f} %")
    figures |= {f"step: {name}, ms": 1000 * seconds for name, seconds in stages.items()}
    figures["CNN training, images a second"] = arguments.batch_size / total
    if arguments.model:
        for name, milliseconds in recognising(arguments.model, arguments.rounds).items():
            figures[f"recognise: {name}, ms"] = milliseconds
            print(f"recognise, one thread: {name:<11} {milliseconds:10.2f} ms")
    if arguments.json:
        write_text(arguments.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
