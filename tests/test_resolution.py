"""--low-resolution-epochs: smaller images at first, the usual ones later and for validation, also after a resume."""

import dataclasses

import pytest
import torch

import train_vit
from data.prepared import PreparedDataset
from engine import training
from engine.run import Run
from files.command_line import InputError
from tiny_models import TINY
from tiny_training import assert_identical, config, weights
from train_etl9g_model import ARCHITECTURE, CNN


@pytest.fixture
def sides(monkeypatch) -> list[int]:
    """The sides of the images of each batch that the CNN sees in training."""
    seen, honest = [], CNN.forward

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen.append(images.shape[-1])
        return honest(self, images)

    monkeypatch.setattr(CNN, "forward", forward)
    return seen


@pytest.mark.parametrize("side", [32, 48])
def test_the_first_epochs_see_smaller_images_and_a_resumed_run_too(side, sides, tiny_dataset, tmp_path, monkeypatch):
    data, steps = tiny_dataset(), 10  # of 8 samples
    shape = {"epochs": 3, "hiragana_repeats": 1, "low_resolution_epochs": 2, "low_resolution": side}
    training.fit(ARCHITECTURE, config(data, tmp_path / "whole", **shape))
    assert sides == [side] * (2 * steps) + [64] * steps
    taken, honest = [], Run.train_step

    def stopping(self, rows):
        if len(taken) == 15:
            raise KeyboardInterrupt
        taken.append(1)
        return honest(self, rows)

    settings = config(data, tmp_path / "killed", checkpoint_minutes=1e-9, **shape)
    monkeypatch.setattr(Run, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.fit(ARCHITECTURE, settings)
    monkeypatch.setattr(Run, "train_step", honest)
    training.fit(ARCHITECTURE, dataclasses.replace(settings, resume_from="auto"))
    assert sides[30:] == [side] * (2 * steps) + [64] * steps
    assert_identical(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_a_model_of_fixed_tokens_says_that_it_cannot(tiny_dataset, tmp_path):
    shape = TINY["train_vit"] | {"data_dir": str(tiny_dataset()), "model_dir": str(tmp_path), "device": "cpu"}
    settings = train_vit.ViTConfig(low_resolution_epochs=1, **shape)
    with pytest.raises(InputError, match="vit reads images of one size alone: leave --low-resolution-epochs out"):
        Run(train_vit.ARCHITECTURE, settings, PreparedDataset(tiny_dataset()))
