"""evaluate.py against figures worked by hand: models whose answers are known, on data made for them."""

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

import evaluate
import train_etl9g_model
from characters.names import character_of
from data.prepared import CHUNK_NAME, PreparedDataset
from data.samples import Samples
from engine import batches, training
from evaluation import accuracy, measurement
from evaluation.model import Model
from evaluation.report import report
from files import command_line
from files.command_line import InputError
from images.distortions import DISTORTIONS, rotate
from inference.confidence import Confidence
from quantization.files import load_trained

CLASSES = "あいう亜腕"


def linear_model(path: Path, weights: np.ndarray, classes: str, **facts: str) -> Path:
    """An ONNX file whose logits are the products of the image with weights (classes, 64, 64)."""
    matrix = numpy_helper.from_array(weights.reshape(len(weights), -1).T.astype(np.float32), "weights")
    nodes = [
        helper.make_node("Flatten", ["input_image"], ["x"]),
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["batch", 1, 64, 64])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(weights)])
    graph = helper.make_graph(nodes, "linear", [image], [logits], [matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"classes": classes, "source": "test shapes", **facts})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def spot(label: int) -> tuple[int, int]:
    """The pixel that stands for a class in the tests with spots."""
    return 32, 6 + 12 * label


def spot_model(path: Path, **facts: str) -> Path:
    weights = np.zeros((len(CLASSES), 64, 64))
    for label in range(len(CLASSES)):
        weights[label][spot(label)] = 1
    return linear_model(path, weights, CLASSES, **facts)


@pytest.fixture
def spots(tiny_dataset) -> Path:
    """A dataset of which the spot model reads all but three of the four test samples of あ: it takes those for い."""
    folder = tiny_dataset(CLASSES)
    for number in (1, 2):
        path = folder / CHUNK_NAME.format(number)
        with np.load(path) as chunk:
            arrays = dict(chunk)
        read_as = arrays["labels"].copy()
        if number == 2:
            read_as[np.flatnonzero((read_as == 0) & (arrays["sets"] == 5))[:3]] = 1
        arrays["images"] = np.zeros_like(arrays["images"])
        for row, label in enumerate(read_as):
            arrays["images"][row][spot(label)] = 255
        np.savez(path, **arrays)
    return folder


def bar_model(path: Path, classes: str = "あい") -> Path:
    """Reads a lying bar as the first class and a standing one as the second."""
    weights = np.zeros((2, 64, 64))
    weights[0, 28:36], weights[1, :, 28:36] = 1, 1
    return linear_model(path, weights, classes)


def draw_bar(path: Path, lying: bool, ink: int = 0, paper: int = 255) -> None:
    picture = np.full((120, 90), paper, np.uint8)
    picture[(slice(50, 56), slice(15, 75)) if lying else (slice(20, 100), slice(40, 46))] = ink
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


LABELS, PREDICTED = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 1, 3, 3])


def test_summary_equals_figures_worked_by_hand():
    figures = accuracy.summary("あいう亜腕", LABELS, PREDICTED, np.array([0, 3, 0, 0, 5, 0]))
    per_kind = {"hiragana": (5, 3, pytest.approx(60)), "kanji": (1, 1, 100)}
    assert figures == {
        "samples": 6,
        "classes": 4,
        "top1": pytest.approx(100 * 4 / 6),
        "top1_standard_error": pytest.approx(19.245, abs=1e-3),  # 100 √(4/6 · 2/6 / 6)
        "top5": pytest.approx(100 * 5 / 6),
        "mean_class_accuracy": pytest.approx(62.5),  # of 50, 100, 0 and 100
        "lowest_class_accuracy": 0,
        "classes_never_right": 1,
        "by_writer": None,
        "kinds": {k: dict(zip(("samples", "classes", "top1"), v, strict=True)) for k, v in per_kind.items()},
        "worst_classes": [{"character": c, "right": r, "samples": n} for c, r, n in (("う", 0, 1), ("あ", 1, 2))],
        "confused": [
            {"true": "あ", "predicted": "い", "count": 1, "of": 2},
            {"true": "う", "predicted": "亜", "count": 1, "of": 1},
        ],
        "per_class": {"あ": [1, 2], "い": [2, 2], "う": [0, 1], "亜": [1, 1]},
    }


def test_what_one_writer_wrote_counts_as_one_observation():
    figures = accuracy.summary("あいう亜", LABELS, PREDICTED, LABELS, np.array([7, 7, 30, 30, 30, 9]))
    assert figures["top1_standard_error"] == pytest.approx(7.857, abs=1e-3)  # 100 √((1/3)² + 0 + (1/3)²) / 6
    median, lowest = 100 * 2 / 3, 50 + (100 * 2 / 3 - 50) / 10  # of 50, 66.7 and 100 %
    by_writer = {"writers": 3, "median": pytest.approx(median), "lowest_twentieth": pytest.approx(lowest)}
    assert figures["by_writer"] == by_writer
    alone = accuracy.summary("あいう亜", LABELS, PREDICTED, LABELS, np.zeros(6, int))
    assert alone["top1_standard_error"] == pytest.approx(19.245, abs=1e-3)  # as if by six


def test_the_first_of_equal_logits_is_the_likelier():
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    predicted, rank = accuracy.ranked(logits, np.array([0, 1, 2]))
    assert (predicted.tolist(), rank.tolist()) == ([0, 0, 0], [0, 1, 2])


def test_logits_that_are_no_numbers_or_too_few_are_refused():
    images = np.zeros((1, 1, 64, 64), np.float32)
    with pytest.raises(FloatingPointError, match="not finite"):
        Model(lambda _: np.array([[np.nan, 0]]), "あい", {}).logits(images)
    with pytest.raises(InputError, match="2 logits for its 3 classes"):
        Model(lambda _: np.zeros((1, 2)), "あいう", {}).logits(images)


def test_a_known_model_on_the_test_split(spots, tmp_path):
    model = spot_model(tmp_path / "spots.onnx", script="train_spots")
    result = measurement.evaluate_file(model, spots)
    assert (result["samples"], result["classes"]) == (20, 5)
    assert result["top1"] == pytest.approx(85)
    assert result["top1_standard_error"] == pytest.approx(4.243, abs=1e-3)  # 100 √(0.6² + 0.6²) / 20, two sheets
    assert (result["by_writer"]["writers"], result["by_writer"]["median"]) == (2, pytest.approx(90.625))
    assert result["top5"] == 100  # of five classes
    assert result["confused"] == [{"true": "あ", "predicted": "い", "count": 3, "of": 4}]
    assert result["worst_classes"] == [{"character": "あ", "right": 1, "samples": 4}]
    assert result["kinds"]["hiragana"]["top1"] == pytest.approx(75)
    top1 = result["robustness"]["top1"]
    assert list(top1) == ["clean", *DISTORTIONS]
    for same in ("clean", "thick", "blur", "noise", "low contrast"):
        assert top1[same] == pytest.approx(85), same
    assert top1["rotation 30°"] < 60  # most spots have left their places
    assert (result["model"]["script"], result["data"]["split_by"]) == ("train_spots", "writer")
    sure = result["calibration"]
    share = np.e / (np.e + 4)  # the softmax of one spot among five classes
    assert sure["bins"] == [{"probability": pytest.approx(share), "right": pytest.approx(0.85), "samples": 20}]
    assert sure["error"] == sure["error_without_temperature"] == pytest.approx(0.85 - share)
    assert (sure["temperature"], sure["rejected"], sure["rejected_of_right"]) == (1, None, None)
    assert result["mixed_up"] == {"あ": {"い": 0.75}}
    folder = tmp_path / "spots_evaluation"
    assert sorted(p.name for p in folder.iterdir()) == ["evaluation.json", "evaluation.png"]
    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) == result
    with Image.open(folder / "evaluation.png") as picture:
        picture.load()
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture))) > 100


def test_the_confidence_that_the_file_names_is_used(spots, tmp_path):
    confidence = json.dumps({"temperature": 0.25, "score": "probability", "threshold": 0.94})
    sure = measurement.evaluate_file(spot_model(tmp_path / "sure.onnx", confidence=confidence), spots)["calibration"]
    share = np.exp(4) / (np.exp(4) + 4)  # 0.932
    assert sure["bins"][0]["probability"] == pytest.approx(share)
    assert sure["error"] == pytest.approx(share - 0.85)
    assert sure["error_without_temperature"] == pytest.approx(0.85 - np.e / (np.e + 4))
    assert (sure["rejected"], sure["rejected_of_right"]) == (100, 100)
    confidence = confidence.replace("0.94", "0.93")
    sure = measurement.evaluate_file(spot_model(tmp_path / "kept.onnx", confidence=confidence), spots)["calibration"]
    assert (sure["rejected"], sure["rejected_of_right"]) == (0, 0)
    right, accepted = np.array([True, True, True, True, False]), np.array([True, True, True, False, False])
    shares, model = np.full(5, 0.9), Model(None, "あい", {}, Confidence(threshold=1.0))
    figures = measurement.calibration(model, shares, shares, right, accepted)
    assert (figures["rejected"], figures["rejected_of_right"]) == (40, 25)
    assert measurement.calibration(model, shares, shares, ~(shares > 0), accepted)["rejected_of_right"] is None


def test_other_splits_and_the_models_own_random_split(spots, tmp_path):
    model = spot_model(tmp_path / "writer.onnx")
    assert measurement.evaluate_file(model, spots, split="train")["top1"] == 100
    assert measurement.evaluate_file(model, spots, split="train")["samples"] == 80
    config = json.dumps({"split": "random", "seed": 3})
    result = measurement.evaluate_file(spot_model(tmp_path / "random.onnx", config=config), spots)
    assert result["data"]["split_by"] == "random"
    own = PreparedDataset(spots, "random", 3).splits["test"].labels
    assert result["samples"] == len(own) > 0
    counts = {c: row[1] for c, row in result["per_class"].items()}
    assert counts == {CLASSES[label]: int((own == label).sum()) for label in own.unique().tolist()}


def test_limit_takes_the_same_samples_of_everywhere_each_time():
    seen = []
    samples = Samples(
        np.array(["あ"] * 50 + ["い"] * 50),
        lambda rows: seen.append(rows.tolist()) or np.zeros((len(rows), 1, 64, 64), np.float32),
        {},
    )
    model = Model(lambda batch: np.tile(np.float32([1, 0]), (len(batch), 1)), "あい", {})
    figures, _ = measurement.measure(model, samples, limit=20)
    measurement.measure(model, samples, limit=20)
    assert figures["samples"] == len(set(seen[0])) == 20
    assert 0 < figures["per_class"]["い"][1] < 20
    assert figures["top1"] == pytest.approx(100 * figures["per_class"]["あ"][1] / 20)
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def test_images_in_folders_named_by_character_or_code_point(tmp_path):
    folder = tmp_path / "drawn"
    draw_bar(folder / "あ" / "lying.png", lying=True)
    draw_bar(folder / "あ" / "deeper" / "chalk.bmp", lying=True, ink=250, paper=20)
    draw_bar(folder / "あ" / "standing.jpg", lying=False)
    draw_bar(folder / "U+3044" / "standing.webp", lying=False)
    draw_bar(folder / "い" / "standing.gif", lying=False)
    draw_bar(folder / "漢" / "lying.png", lying=True)
    (folder / "あ" / ".DS_Store").write_bytes(b"\0")
    (folder / "README.md").write_text("about")
    result = measurement.evaluate_file(bar_model(tmp_path / "bars.onnx"), images_dir=folder)
    assert (result["samples"], result["classes"]) == (5, 2)
    assert result["top1"] == pytest.approx(80)
    assert result["mean_class_accuracy"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert result["confused"] == [{"true": "あ", "predicted": "い", "count": 1, "of": 3}]
    assert result["left_out"] == {"漢": 1}
    assert "漢" in report(result)


def test_folders_are_named_by_a_character_or_its_code_point():
    names = {"漢": "漢", "U+6F22": "漢", "U+6f22": "漢", "U+20B9F": "𠮟", "か\u3099": "が", "7": "7"}
    assert {name: character_of(Path(name)) for name in names} == names
    for name in ("漢字", "kanji", "U+", "U+6F2", "U+D800", "U+FFFFFF", "u6F22", "\u0085"):
        with pytest.raises(InputError, match="named neither"):
            character_of(Path("drawn") / name)


def test_checkpoint_and_safetensors_score_as_the_training_engine_does(tiny_dataset, tmp_path):
    folder = tiny_dataset(CLASSES)
    config = train_etl9g_model.CNNConfig(
        data_dir=str(folder), model_dir=str(tmp_path), width=0.25, embedding=16, epochs=5, batch_size=16, ema_decay=0.9,
        precision="fp32",
    )  # fmt: skip
    training.fit(train_etl9g_model.ARCHITECTURE, config)
    path = tmp_path / "best_kanji_model.pth"
    network, facts = load_trained(path)
    held_back = batches.Batches(PreparedDataset(folder), "test", torch.device("cpu"))
    expected = batches.evaluate(network, held_back, torch.arange(len(held_back)), config)
    result = measurement.evaluate_file(path, folder)
    assert 20 < result["top1"] == pytest.approx(expected["top1"])
    assert result["model"]["script"] == "train_etl9g_model"
    assert result["model"]["source"] == result["data"]["source"] == "test shapes"
    header = {name: json.dumps(facts[name]) for name in ("script", "config", "classes", "source")}
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, tmp_path / "same.safetensors", header)
    same = measurement.evaluate_file(tmp_path / "same.safetensors", folder)
    assert same["per_class"] == result["per_class"]
    assert same["robustness"] == result["robustness"]


def test_the_report_fits_eighty_columns():
    random = np.random.default_rng(0)
    classes = "".join(chr(0x4E00 + i) for i in range(400))
    labels = random.integers(0, 400, 60_000)
    predicted = np.where(random.random(60_000) < 0.5, labels, labels // 2)
    table = {"samples": 3000, "top1": {"clean": 100.0} | dict.fromkeys(DISTORTIONS, 0.0)}
    sure = {"temperature": 0.5, "error": 1.0, "error_without_temperature": 1.0, "rejected": 100.0}
    facts = {"model": {"description": "model"}, "data": {"description": "data"}, "robustness": table}
    facts |= {"calibration": sure | {"rejected_of_right": 100.0}, "left_out": dict.fromkeys(classes, 1000)}
    text = report(accuracy.summary(classes, labels, predicted, labels, np.arange(60_000) // 15) | facts)
    assert max(width(line) for line in text.splitlines()) <= 80
    assert "100.00 %" in text
    assert "-100.00" in text
    assert "of 4,000 writers" in text


def test_distortions_do_what_they_are_called():
    bar, hair = torch.zeros(2, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    bar[:, :, 12:52, 30:34], hair[:, :, 12:52, 30] = 1, 1
    made = {name: distort(bar.clone(), torch.Generator().manual_seed(5)) for name, distort in DISTORTIONS.items()}
    for name, distort in DISTORTIONS.items():
        assert torch.equal(made[name], distort(bar.clone(), torch.Generator().manual_seed(5))), name
        assert 0 <= float(made[name].min()) < float(made[name].max()) <= 1 + 1e-6, name
        assert not torch.equal(made[name], bar), name
    assert float(made["thick"][0].sum()) == 42 * 6
    assert float((made["thin"][0] == 1).sum()) == 38 * 2
    assert float(DISTORTIONS["thin"](hair, torch.Generator())[0, 0, 30, 30]) == pytest.approx(0.8)
    assert float(made["low contrast"].max()) == pytest.approx(0.4)
    assert float(made["blur"].sum()) == pytest.approx(float(bar.sum()), rel=1e-4)
    assert float(made["blur"].max()) < 0.9


def test_rotation_turns_by_the_angle_to_both_sides():
    image = torch.zeros(40, 1, 64, 64)
    image[:, :, 31:33, 50:54] = 1  # right of the middle
    turned = rotate(image, torch.Generator().manual_seed(0), 30.0)[:, 0]
    rows = torch.arange(64) - 31.5
    height = -(turned.sum(dim=2) @ rows) / turned.sum(dim=(1, 2))  # above the middle
    expected = 20 * 0.5  # 20 pixels out, sin 30°
    assert torch.allclose(height.abs(), torch.full((40,), expected), atol=0.2)
    assert 8 <= int((height > 0).sum()) <= 32


def script_in_process(script, folder: Path, monkeypatch, capsys, *always: str) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a script in a folder with these words; returns its exit code, output and errors."""
    monkeypatch.chdir(folder)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *always, *words])
        code = 0
        try:
            command_line.run(script.main)
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def call(tmp_path, spots, monkeypatch, capsys):
    """A function that calls evaluate.py and returns its exit code, output and errors."""
    spot_model(tmp_path / "model" / "spots.onnx")
    for name in ("text.onnx", "text.pt", "text.safetensors"):
        (tmp_path / name).write_text("not a model\n")
    for name in ("empty/あ", "notes/あ", "kanji/kanji"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notes/あ/notes.txt").write_text("not an image")
    draw_bar(tmp_path / "others/漢/a.png", lying=True)
    draw_bar(tmp_path / "flat/a.png", lying=True)
    (tmp_path / "data").symlink_to(spots)
    return script_in_process(evaluate, tmp_path, monkeypatch, capsys)


SPOTS = "--model model/spots.onnx"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model missing.pth --images flat", "missing.pth"),
        ("--model missing.onnx --images flat", "missing.onnx"),
        ("--model text.onnx --images flat", "text.onnx"),
        ("--model text.pt --images flat", "text.pt"),
        ("--model text.safetensors --images flat", "text.safetensors"),
        (f"{SPOTS} --images drawn", "drawn is missing"),
        (f"{SPOTS} --images empty", "holds no images"),
        (f"{SPOTS} --images notes", "notes.txt"),
        (f"{SPOTS} --images kanji", "kanji is named neither"),
        (f"{SPOTS} --images flat", "a.png lies in no folder"),
        (f"{SPOTS} --images others", "none of 漢 is among the model's 5 classes"),
        (f"{SPOTS} --data-dir nowhere", "prepare_dataset.py"),
        (f"{SPOTS} --data-dir data --output-dir model/spots.onnx", "spots.onnx is a file"),
        (f"{SPOTS} --data-dir data --output-dir model/spots.onnx/below", "Not a directory"),
        (f"{SPOTS} --limit 0", "--limit"),
        (f"{SPOTS} --images a --split test", "--split is of a dataset"),
        (f"{SPOTS} --images a --data-dir b", "not allowed with"),
    ],
)
def test_wrong_calls_end_with_one_line(call, tmp_path, words, message):
    code, out, err = call(*words.split())
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert err.startswith(("error: ", "usage: "))
    assert not list(tmp_path.rglob("evaluation.*"))


def test_the_script_prints_its_figures_and_where_they_are(call):
    code, printed, _ = call(*f"{SPOTS} --data-dir data --output-dir x".split())
    assert code == 0
    assert "85.00 % ± 4.24" in printed
    assert "あ → い 3/4" in printed
    assert printed.endswith("x/evaluation.json\nx/evaluation.png\n")
    assert Path("x/evaluation.json").is_file()
