"""How many epochs of fresh samples fit into a time: training and drawing are timed for some seconds on this machine."""

from dataclasses import dataclass
from pathlib import Path

from data.fresh import FreshSets
from data.prepared import PreparedDataset
from engine.model_files import architecture_of
from evaluation import speed
from files.machine import cores

STEPS = 20  # timed
LEAST_EPOCHS = 2
STARTING = 10.0  # seconds until the processes that draw have started
EVALUATED = 3  # times as many samples a second as are trained on: of the validation after an epoch


@dataclass(frozen=True)
class Plan:
    """What a training is given: epochs and the samples that each shows; `rate` is how many samples a second this
    machine should get through, with the validation after each epoch, `start` the seconds before the first of them."""

    epochs: int
    samples: int
    rate: float
    start: float

    @property
    def seconds(self) -> float:
        return self.start + self.epochs * self.samples / self.rate


def plan(script: str, data_dir: Path, seconds: float, settings: dict, sets: int, passes: int) -> Plan:
    """The epochs, of so many fresh sets each shown in `passes` of them, that fit into so many seconds. `settings` are
    further ones of the training script. Training and drawing share all cores."""
    training, drawing = speed.training(data_dir, STEPS, script, **settings), cores() * speed.drawing()
    dataset, config = PreparedDataset(data_dir), architecture_of(script).config(fresh=sets, fresh_passes=passes)
    samples, validated = len(FreshSets(dataset.classes, config).labels), len(dataset.splits["validation"])
    rate = samples / ((samples + validated / EVALUATED) / training + samples / passes / drawing)
    start = STARTING + samples / drawing
    return Plan(max(LEAST_EPOCHS, int((seconds - start) * rate / samples)), samples, rate, start)
