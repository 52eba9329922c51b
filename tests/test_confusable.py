"""What is mixed up, by hand; its file, and what it says of a reading."""

import json

import numpy as np
import pytest

from characters import confusable
from characters.confusable import Confusable
from evaluation.measurement import evaluate_file
from files.command_line import InputError
from test_evaluate import CLASSES, spot_model


def test_mix_ups_are_counted_by_true_class_and_chance_is_left_out():
    labels = np.array([0] * 10 + [1] * 10 + [2] * 200)
    predicted = labels.copy()
    predicted[:4] = 1  # 4 of 10
    predicted[4] = 2  # once: chance
    predicted[10:12] = 0  # 2 of 10
    predicted[20:23] = 0  # 3 of 200: too rare
    assert confusable.mixed_up("あいう", labels, predicted) == {"あ": {"い": 0.4}, "い": {"あ": 0.2}}


def test_a_reading_looks_like_what_it_is_mixed_up_with_and_what_has_its_shape():
    table = Confusable({"で": {"ご": 0.45}, "大": {"犬": 0.1}}, {"口": "ロ"})
    assert table.looks_like([("ご", 0.8), ("で", 0.15), ("に", 0.05)]) == ["で"]  # で is read as ご
    assert table.looks_like([("で", 0.8), ("に", 0.15), ("ご", 0.05)]) == ["ご"]
    assert table.looks_like([("ご", 0.995), ("で", 0.005)]) == []
    assert table.looks_like([("に", 0.6), ("で", 0.4)]) == []
    assert table.looks_like([("口", 1.0)]) == ["ロ"]
    assert table.looks_like([]) == []


def test_the_file_is_read_as_an_evaluation_writes_it(tiny_dataset, tmp_path):
    path = tmp_path / "confusable.json"
    assert confusable.load(path) == Confusable()
    model = spot_model(tmp_path / "spots.onnx")  # a model of five pixels is often wrong
    result = evaluate_file(model, tmp_path, tiny_dataset(CLASSES), confusable=path)
    assert result["mixed_up"]
    assert confusable.load(path) == Confusable(result["mixed_up"], {})
    measured_on = json.loads(path.read_text(encoding="utf-8"))["measured_on"]
    assert measured_on.startswith("spots.onnx (")
    assert "/" not in measured_on
    confusable.save(path, "口で", {"で": {"ご": 0.45}}, "a test")
    assert confusable.load(path) == Confusable({"で": {"ご": 0.45}}, {"口": "ロ囗"})
    confusable.save(path, "つっエ", {}, "a test")
    assert confusable.load(path).same_shape == {"つ": "っ", "っ": "つ", "エ": "工"}  # ェ is no class


@pytest.mark.parametrize(
    "content",
    [b"{}", b'{"mixed_up": {"a": 1}, "same_shape": {}}', b'{"mixed_up": {}, "same_shape": {"a": 3}}', b"\xff"],
)
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "confusable.json").write_bytes(content)
    with pytest.raises(InputError, match=r"confusable\.json is damaged"):
        confusable.load(tmp_path / "confusable.json")
