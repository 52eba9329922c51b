"""A few characters of the stand-in's unseen writers, kept in the repository so that the released models can be tried
where there is no dataset. Drawn from KanjiVG's strokes: CC BY-SA 3.0.

    python tests/standin_sample.py DATASET        # makes standin_sample.npz, beside this file, again
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).with_suffix(".npz")
SAMPLES = 400


def make(data_dir: Path) -> None:
    """Takes samples of the test split at random."""
    from data.prepared import PreparedDataset

    dataset = PreparedDataset(data_dir)
    split = dataset.splits["test"]
    rows = np.sort(np.random.default_rng(0).choice(len(split), SAMPLES, replace=False))
    np.savez_compressed(
        FILE,
        images=dataset.images(split.positions[rows]).numpy()[:, 0],
        characters=np.array([dataset.classes[label] for label in split.labels[rows].tolist()]),
        source=f"{dataset.source}, CC BY-SA 3.0: KanjiVG by Ulrich Apel and contributors",
    )


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 (SAMPLES, 1, 64, 64), ink 1 on paper 0, and the character of each (SAMPLES,)."""
    with np.load(FILE) as kept:
        return kept["images"][:, None].astype(np.float32) / 255, kept["characters"]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    make(Path(sys.argv[1]))
