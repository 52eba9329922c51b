"""Checkpoints: whole or absent, loaded without running anything, refused where they do not fit."""

import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from engine import checkpoints, model_files
from engine.pretrained import copy_weights
from files import atomic
from files.command_line import InputError
from train_etl9g_model import CNN, CNNConfig

CLASSES = "あいう亜腕"


def content(classes: str = CLASSES, **changes) -> dict:
    torch.manual_seed(len(classes))
    model = CNN(CNNConfig(width=0.25, embedding=16), classes)
    facts = {"script": "train_etl9g_model", "config": {"width": 0.25, "embedding": 16}, "classes": classes}
    return facts | {"source": "test", "metrics": {}, "model": model.state_dict()} | changes


class Evil:
    """Unpickling this would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_epoch_001.pt"
    checkpoints.save(path, content())
    before = path.read_bytes()

    def half_written(_content, temporary):
        Path(temporary).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", half_written)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(path, content())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_file_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(atomic.os, "fsync", lambda number: (events.append("fsync"), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("rename"), replace(self, target))[1])
    atomic.write_text(tmp_path / "a.txt", "text")
    assert events == ["fsync", "rename", "fsync"]  # the data, the name, the folder


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    trace = tmp_path / "it_ran"
    for name, dump in {
        "torch.pth": torch.save,
        "plain.pth": lambda c, p: p.write_bytes(pickle.dumps(c, protocol=2)),
    }.items():
        dump(content(config={"evil": Evil(trace)}), tmp_path / name)
        with pytest.raises(InputError, match="not a checkpoint"):
            checkpoints.load(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("bad", [b"", b"text", b"PK\x03\x04 not a zip"])
def test_other_files_are_refused(tmp_path, bad):
    path = tmp_path / "model.pth"
    path.write_bytes(bad)
    with pytest.raises(InputError, match=r"model\.pth"):
        checkpoints.load(path)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        other = tmp_path / "model.safetensors"
        other.write_bytes(bad)
        model_files.load_network(other)


def test_a_full_disk_is_a_plain_failure_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pth"
    checkpoints.save(path, {"weights": torch.zeros(10)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may grow further, as on a full disk
    try:
        with pytest.raises(OSError, match=r"model\.pth cannot be written"):
            checkpoints.save(path, {"weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_missing_and_foreign_content(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        checkpoints.load(tmp_path / "none.pth")
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match="which script"):
        checkpoints.load(tmp_path / "foreign.pth")


@pytest.mark.parametrize("script", ["os", "training", "train_", "../evil", "train_x.y", "train_nothing_of_ours"])
def test_only_training_scripts_are_imported(tmp_path, script):
    path = tmp_path / "model.pth"
    checkpoints.save(path, content(script=script))
    with pytest.raises(InputError, match="not one of this toolkit's"):
        model_files.load_network(path)


def test_a_trained_model_comes_back_equal(tmp_path):
    saved = content()
    path = tmp_path / "model.pth"
    checkpoints.save(path, saved)
    model, facts = model_files.load_network(path)
    original = CNN(CNNConfig(width=0.25, embedding=16), CLASSES)
    original.load_state_dict(saved["model"])
    images = torch.rand(3, 1, 64, 64)
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(images), original.eval()(images))
    assert facts["classes"] == CLASSES
    assert "model" not in facts


def test_the_averaged_weights_are_preferred(tmp_path):
    saved = content()
    averaged = {k: v * 0 if v.is_floating_point() else v for k, v in saved["model"].items()}
    checkpoints.save(tmp_path / "model.pth", saved | {"ema": averaged})
    model, _ = model_files.load_network(tmp_path / "model.pth")
    assert all((p == 0).all() for p in model.parameters())


def test_weights_of_another_shape_are_refused(tmp_path):
    checkpoints.save(tmp_path / "model.pth", content(config={"width": 0.5, "embedding": 16}))
    with pytest.raises(InputError, match="do not fit"):
        model_files.load_network(tmp_path / "model.pth")


def test_only_the_last_checkpoints_are_kept(tmp_path):
    for epoch in (1, 2, 3, 10, 1000):
        (tmp_path / checkpoints.FILE_NAME.format(epoch)).touch()
    (tmp_path / "checkpoint_epoch_x.pt").touch()
    checkpoints.prune(tmp_path, 2)
    assert [p.name for p in checkpoints.existing(tmp_path)] == ["checkpoint_epoch_010.pt", "checkpoint_epoch_1000.pt"]
    assert (tmp_path / "checkpoint_epoch_x.pt").exists()


def test_what_a_killed_run_left_goes(tmp_path):
    for epoch in (1, 2, 3):
        (tmp_path / checkpoints.FILE_NAME.format(epoch)).touch()
    (tmp_path / ".checkpoint_epoch_004.pt.part").touch()
    checkpoints.clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoints.FILE_NAME.format(epoch) for epoch in (1, 2, 3)]


def test_equal_contents_are_equal_files(tmp_path):
    """Though some texts in them were loaded, as those of a resumed run's optimizers, and are other objects now."""
    first, second = tmp_path / "first" / "model.pth", tmp_path / "second" / "model.pth"
    saved = content() | {"loaded": {"step": torch.zeros(())}, "new": {"step": torch.zeros(())}}
    checkpoints.save(first, saved)
    checkpoints.save(second, saved | {"loaded": checkpoints.load(first)["loaded"]})
    assert first.read_bytes() == second.read_bytes()


def test_checkpoints_of_epochs_that_are_done_again_go(tmp_path):
    for epoch in (1, 2, 3, 9, 10):
        (tmp_path / checkpoints.FILE_NAME.format(epoch)).touch()
    checkpoints.prune(tmp_path, 2, last=tmp_path / "checkpoint_epoch_003.pt")
    assert [p.name for p in checkpoints.existing(tmp_path)] == ["checkpoint_epoch_002.pt", "checkpoint_epoch_003.pt"]


def test_starting_from_other_classes_makes_the_head_anew(tmp_path):
    saved = content("一二三亜腕")  # as many classes, other ones: the shapes agree
    model = CNN(CNNConfig(width=0.25, embedding=16), CLASSES)
    head = model.classify[1].weight.clone()
    fresh = copy_weights(model, CLASSES, saved, tmp_path)
    assert fresh == ["classify.1.bias", "classify.1.weight"]
    torch.testing.assert_close(model.classify[1].weight, head)
    torch.testing.assert_close(model.features[0][0].weight, saved["model"]["features.0.0.weight"])


def test_starting_from_the_same_classes_takes_everything(tmp_path):
    saved = content()
    model = CNN(CNNConfig(width=0.25, embedding=16), CLASSES)
    assert copy_weights(model, CLASSES, saved, tmp_path) == []
    torch.testing.assert_close(model.classify[1].weight, saved["model"]["classify.1.weight"])
