"""--fresh: samples drawn as training goes are other ones in each epoch, and the same for the same seed and epoch; a run
that was killed ends like one that was not, and takes the processes that draw along."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data import fresh
from data.fresh import NONE, FreshSets, sheets_of
from data.prepared import PreparedDataset
from engine import checkpoints, processes, training
from engine.model_files import architecture_of
from engine.run import Run
from files.command_line import InputError
from handwriting import standin
from records.etl9g import set_layout
from tiny_models import TINY
from tiny_training import SCRIPT, TINY_FLAGS, assert_identical, config, weights
from train_etl9g_model import ARCHITECTURE, CNNConfig

FEW = {"fresh": 2, "drawing_processes": 1, "hiragana_repeats": 2}


def never() -> int:
    return 0


def drawn(classes: str, epochs: list[int], **changes) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The images of these epochs, and the labels."""
    with contextlib.closing(FreshSets(classes, CNNConfig(**(FEW | {"epochs": 9} | changes)))) as fresh:
        return [fresh.images(epoch, never) for epoch in epochs], fresh.labels


def test_epochs_differ_and_a_seed_draws_the_same_again():
    (first, second), labels = drawn("い一人", [0, 1])
    (again,), _ = drawn("い一人", [1], drawing_processes=2)
    (other,), _ = drawn("い一人", [1], seed=1)
    assert torch.equal(second, again)
    assert (second != first).flatten(1).any(1).all()
    assert (second != other).flatten(1).any(1).all()
    assert torch.bincount(labels).tolist() == [4, 2, 2]  # hiragana twice, as other samples
    assert len({image.numpy().tobytes() for image in torch.cat([first, second])}) == 16
    height = (first[:, 0] > 64).any(2).sum(1)
    assert (height[labels == 1] < 25).all()  # 一 is the only low one
    assert (height[labels != 1] > 25).all()


def test_a_set_may_be_shown_in_several_epochs():
    epochs, labels = drawn("い一人", [0, 1, 2], fresh_passes=2, hiragana_repeats=1)
    halves = [images.split(3) for images in epochs]
    assert labels.tolist() == [*labels[:3].tolist()] * 2
    for before, after in ((0, 1), (1, 2)):
        assert torch.equal(halves[before][1], halves[after][0])
        assert (halves[before][0] != halves[after][1]).flatten(1).any(1).all()
    (again,), _ = drawn("い一人", [2], fresh_passes=2, hiragana_repeats=1)  # as a resumed run does
    assert torch.equal(again, epochs[2])
    with pytest.raises(ValueError, match="multiple of --fresh-passes"):
        CNNConfig(fresh=3, fresh_passes=2).check()


@pytest.mark.parametrize(("threads", "cores", "ahead"), [(2, 2, False), (1, 2, True), (2, 16, True)])
def test_the_next_block_is_drawn_ahead_where_cores_are_left(threads, cores, ahead, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(fresh, "cores", lambda: cores)
    settings, coming = CNNConfig(**FEW, epochs=9), []
    for on_cpu in (True, False):
        with contextlib.closing(FreshSets("い一人", settings, on_cpu)) as drawing:
            assert drawing.images(0, never) is not None
            coming.append(list(drawing._coming))
    assert coming == [[1] if ahead else [], [1]]  # a GPU leaves all cores


def test_rare_characters_are_in_one_set_of_a_block_alone():
    _, labels = drawn("子孑いヷ", [], fresh=6, fresh_passes=2)
    assert torch.bincount(labels).tolist() == [6, 2, 12, 2]  # two blocks of three sets, kana twice as often
    _, labels = drawn("子孑いヷ", [], fresh=1, hiragana_repeats=1)
    assert torch.bincount(labels).tolist() == [1, 1, 1, 1]


def test_a_share_is_none_of_the_classes():
    """What these are is up to tests/test_confidence.py; a third here, other ones in each epoch."""
    settings = {"out_of_set": 1 / 3, "hiragana_repeats": 1}
    (first, second), labels = drawn("い一人語四五六七", [0, 1], **settings)
    assert labels.tolist() == [*labels[:16].tolist(), *[NONE] * 8]
    assert (labels[:16] >= 0).all()
    assert first.shape == second.shape == (24, 1, 64, 64)
    inked = (first[16:] > 0).flatten(1).any(1)  # blank paper has none
    assert inked.sum() >= 5
    assert not any(torch.equal(a, b) for a, b in zip(first[16:][inked], second[16:][inked], strict=True))
    (again,), _ = drawn("い一人語四五六七", [1], drawing_processes=2, **settings)
    assert torch.equal(second, again)
    with pytest.raises(ValueError, match="--out-of-set needs --fresh"):
        CNNConfig(out_of_set=0.1).check()


@pytest.mark.parametrize("script", ["train_etl9g_model", "train_radical_rnn", "train_hiercode"])
def test_what_is_none_of_the_classes_is_to_be_every_class_equally(script, tiny_dataset, tmp_path):
    """The loss of a batch with out-of-set samples is that of the others, for their share, and more the surer the model
    is of those; with a teacher too, which says nothing of them."""
    architecture, data = architecture_of(script), tiny_dataset("あい一人")
    settings = TINY[script] | FEW | {"epochs": 2, "data_dir": str(data), "model_dir": str(tmp_path), "out_of_set": 0.5}
    run = Run(architecture, architecture.config(**settings), PreparedDataset(data))
    images, labels = torch.rand(6, 1, 64, 64), torch.tensor([0, 1, 2, 3, NONE, NONE])
    output = run.model(images)
    rest = tuple(output[1:]) if isinstance(output, tuple) else ()
    logits = (output[0] if rest else output).detach().float()

    def answering(logits: torch.Tensor):
        run.__dict__["forward"] = lambda _: (logits, *rest) if rest else logits

    answering(logits)
    loss = run.loss(images, labels)
    run.config.out_of_set = 0.0
    without = run.loss(images, labels)
    outside = -logits[4:].log_softmax(1).mean(1).sum() / 6
    assert (loss - without).item() == pytest.approx(0.5 * outside.item(), rel=1e-4)
    sure = logits.clone()
    sure[4:, 0] += 20
    run.config.out_of_set = 0.5
    answering(sure)
    assert run.loss(images, labels) > loss + 1
    run.teacher = lambda _: torch.tensor([[0.0, 9, 0, 0]]).repeat(6, 1)
    taught = run.loss(images, labels)
    run.teacher = lambda _: torch.cat([torch.tensor([[0.0, 9, 0, 0]]).repeat(4, 1), torch.full((2, 4), 5.0)])
    assert run.loss(images, labels) == taught


def test_a_set_has_the_sheets_of_the_database_and_further_ones_for_other_characters():
    order, sheets, _ = set_layout()
    written = sheets_of("アイ" + "".join(sorted(order)))
    assert [len(characters) for characters in written] == [*np.bincount(sheets)[1:], 2]
    assert "".join(written) == order + "アイ"


def test_no_seed_of_a_dataset_gives_what_training_draws(monkeypatch):
    """Files draw from the streams 0 and 1, training from 2 and 3, which no seed and no number of a set reaches."""
    streams, honest = set(), standin.random_of

    def random_of(seed: int, stream: int, index: int) -> np.random.Generator:
        assert index < 2**62
        streams.add(stream)
        return honest(seed, stream, index)

    monkeypatch.setattr(standin, "random_of", random_of)
    standin.draw_samples(0, 2**40, 1000, "あ亜")
    assert streams == {2, 3}
    states = [honest(7, stream, 3).bit_generator.state["state"]["key"].tolist() for stream in range(4)]
    assert len(set(map(tuple, states))) == 4


def test_a_killed_run_ends_bit_for_bit(tiny_dataset, tmp_path, monkeypatch, capsys):
    data, taken, honest = tiny_dataset("あい一人"), [], Run.train_step
    settings = config(data, tmp_path / "whole", epochs=3, batch_size=4, **FEW)
    training.fit(ARCHITECTURE, settings)
    assert "2 sets that 1 processes draw for each epoch replace" in capsys.readouterr().out

    def stopping(self, rows):
        if len(taken) == 5:  # of three a epoch
            raise KeyboardInterrupt  # as sudden as kill -9: nothing is saved
        taken.append(1)
        return honest(self, rows)

    settings = dataclasses.replace(settings, model_dir=str(tmp_path / "killed"), checkpoint_minutes=1e-9)
    monkeypatch.setattr(Run, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.fit(ARCHITECTURE, settings)
    monkeypatch.setattr(Run, "train_step", honest)
    training.fit(ARCHITECTURE, dataclasses.replace(settings, resume_from="auto", drawing_processes=2))
    assert "at epoch 2, step 3" in capsys.readouterr().out
    assert_identical(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    content = checkpoints.load(tmp_path / "killed" / "best_kanji_model.pth")
    assert content["source"].startswith("KanjiVG stand-in, drawn as training went, generator version ")
    assert content["generator"].endswith("fonts: none")


def test_fresh_samples_take_the_place_of_the_training_split_alone(tiny_dataset, tmp_path):
    data = tiny_dataset("あい一人")
    run = Run(ARCHITECTURE, config(data, tmp_path, epochs=2, **FEW), PreparedDataset(data))
    assert (len(run.training), len(run.sampling.rows), run.sampling.images) == (12, 12, 12)
    assert torch.equal(run.validation.labels, PreparedDataset(data).splits["validation"].labels)


def test_what_fresh_cannot_do(tiny_dataset, tmp_path, monkeypatch, square_font):
    with pytest.raises(InputError, match=r"KanjiVG has no strokes for 㐀 \(U\+3400\)"):
        drawn("あ㐀", [])
    (tmp_path / "fonts" / "held_out").mkdir(parents=True)
    square_font.rename(tmp_path / "fonts" / "held_out" / "a.ttf")
    with pytest.raises(InputError, match="fonts holds no fonts"):
        drawn("あ", [], font=str(tmp_path / "fonts"))
    for name in "abc":
        (tmp_path / "fonts" / f"{name}.ttf").hardlink_to(tmp_path / "fonts" / "held_out" / "a.ttf")
    drawn("あ", [], font=str(tmp_path / "fonts"), font_share=1 / 3)
    with pytest.raises(InputError, match=r"3 fonts of 0.4 of the sheets each are more than all: give 2 at most"):
        drawn("あ", [], font=str(tmp_path / "fonts"), font_share=0.4)
    with pytest.raises(ValueError, match="--font needs --fresh"):
        CNNConfig(font="fonts").check()
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(InputError, match="without torchrun"):
        Run(ARCHITECTURE, config(data := tiny_dataset(), tmp_path, **FEW), PreparedDataset(data))


def test_going_on_with_other_fonts_is_refused(tiny_dataset, tmp_path, square_font):
    settings = config(tiny_dataset(), tmp_path / "models", epochs=1, font=str(square_font), **FEW)
    training.fit(ARCHITECTURE, settings)
    moved = square_font.rename(tmp_path / square_font.name)
    more = dataclasses.replace(settings, epochs=2, resume_from="auto", font=str(moved))
    training.fit(ARCHITECTURE, more)  # wherever it lies
    moved.write_bytes(moved.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"was trained on other data: .*fonts: square [0-9a-f]{8} \(now .*square"):
        training.fit(ARCHITECTURE, dataclasses.replace(more, epochs=3))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_who_draws_ends_with_the_training(tiny_dataset, tmp_path, number, code):
    """Killed alone, or by Ctrl-C, which a terminal sends to all its processes."""
    words = ["--data-dir", tiny_dataset(), "--fresh", 400, "--drawing-processes", 2, "--model-dir", tmp_path]
    command = [sys.executable, SCRIPT, *TINY_FLAGS, *map(str, words)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(workers := children(run.pid)) < 3:  # with multiprocessing's own
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    time.sleep(5)  # until they draw
    os.kill(run.pid, number) if number == signal.SIGKILL else os.killpg(run.pid, number)
    _, error = run.communicate(timeout=60)
    assert (run.returncode, "Traceback" in error) == (code, False), error
    end = time.monotonic() + 20
    while alive := [worker for worker in workers if Path(f"/proc/{worker}/stat").exists()]:
        assert time.monotonic() < end, alive
        time.sleep(0.05)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
