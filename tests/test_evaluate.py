"""evaluate.py against figures worked by hand: models whose answers are known, on data made for them."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
import torch
from PIL import Image

import evaluate
from characters.names import character_of
from data.prepared import CHUNK_NAME, PreparedDataset
from data.samples import image_samples
from engine import checkpoints
from evaluation import accuracy, measurement
from evaluation.accuracy import report
from evaluation.calibration import calibrate
from evaluation.measurement import evaluate_file
from evaluation.model import Model, load_model
from export import any_image, safetensors_file
from files import folders
from files.command_line import InputError
from images.distortions import DISTORTIONS, rotate
from inference.confidence import Confidence
from script_runs import run_script
from tiny_models import save_float, some_images, tiny_model

CLASSES = "あいう亜腕"


def linear_model(path: Path, weights: np.ndarray, classes: str, **facts: str) -> Path:
    """An ONNX file whose logits are the products of the image with weights (classes, 64, 64)."""
    model = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["": 18]>
        linear (float[batch, 1, 64, 64] input_image) => (float[batch, {len(weights)}] logits) {{
            x = Flatten(input_image)
            logits = MatMul(x, weights)
        }}""")
    matrix = weights.reshape(len(weights), -1).T.astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(matrix, "weights"))
    onnx.helper.set_model_props(model, {"classes": classes, "source": "test shapes", **facts})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


SPOTS = np.zeros((len(CLASSES), 64, 64))  # an image of each class: one pixel
SPOTS[range(5), 32, range(6, 66, 12)] = 1


def spot_model(path: Path, **facts: str) -> Path:
    return linear_model(path, SPOTS, CLASSES, **facts)


@pytest.fixture
def spots(tiny_dataset) -> Path:
    """A dataset of which the spot model reads all but three of the four test samples of あ: it takes those for い."""
    folder = tiny_dataset(CLASSES)
    for number in (1, 2):
        path = folder / CHUNK_NAME.format(number)
        with np.load(path) as chunk:
            labels, sets = chunk["labels"], chunk["sets"]
        read_as = labels.copy()
        read_as[np.flatnonzero((labels == 0) & (sets == 5))[:3]] = 1
        np.savez(path, images=(255 * SPOTS[read_as]).astype(np.uint8), labels=labels, sets=sets)
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


LABELS, PREDICTED = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 1, 3, 3])


def test_summary_equals_figures_worked_by_hand():
    figures = accuracy.summary("あいう亜腕", LABELS, PREDICTED, np.array([0, 3, 0, 0, 5, 0]))
    per_kind = {"hiragana": (5, 3, pytest.approx(60)), "kanji": (1, 1, 100)}
    assert figures == {
        "samples": 6,
        "classes": 4,
        "top1": pytest.approx(100 * 4 / 6),
        "top1_standard_error": pytest.approx(19.245, abs=1e-3),  # 100 √(4/6 · 2/6 / 6)
        "top1_by_shape": pytest.approx(100 * 4 / 6),
        "top1_by_shape_standard_error": pytest.approx(19.245, abs=1e-3),
        "top5": pytest.approx(100 * 5 / 6),
        "mean_class_accuracy": pytest.approx(62.5),  # of 50, 100, 0 and 100
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


def test_a_writer_is_one_observation_and_the_first_of_equal_logits_the_likelier():
    figures = accuracy.summary("あいう亜", LABELS, PREDICTED, LABELS, np.array([7, 7, 30, 30, 30, 9]))
    assert figures["top1_standard_error"] == pytest.approx(7.857, abs=1e-3)  # 100 √((1/3)² + 0 + (1/3)²) / 6
    by_writer = {"writers": 3, "median": 200 / 3, "lowest_twentieth": 50 + (200 / 3 - 50) / 10}  # of 50, 66.7, 100 %
    assert figures["by_writer"] == pytest.approx(by_writer)
    alone = accuracy.summary("あいう亜", LABELS, PREDICTED, LABELS, np.full(6, 7))
    assert alone["top1_standard_error"] == pytest.approx(19.245, abs=1e-3)  # as if by six
    predicted, rank = accuracy.ranked(np.float32([[1, 1, 0], [1, 1, 0], [0, 0, 0]]), np.array([0, 1, 2]))
    assert (predicted.tolist(), rank.tolist()) == ([0, 0, 0], [0, 1, 2])


def test_checkpoints_and_safetensors_give_the_logits_of_their_network(tmp_path):
    path, images = save_float("train_hiercode", tmp_path / "model.pth"), some_images(8)
    safetensors_file.convert(path, tmp_path / "model.safetensors")
    with torch.no_grad():
        expected = tiny_model("train_hiercode")[0](images)
    for file in (path, tmp_path / "model.safetensors"):
        np.testing.assert_allclose(load_model(file).logits(images.numpy()), expected, atol=1e-5)
    content = checkpoints.load(path)
    content["model"]["log_scale"] *= np.nan
    checkpoints.save(path, content)
    with pytest.raises(FloatingPointError, match=r"model\.pth gives logits that are not finite"):
        load_model(path).logits(images.numpy())


def figures_of(model: Path, *data: Path, **options: object) -> dict:
    return evaluate_file(model, model.with_suffix(""), *data, **options)


def test_a_known_model_on_the_test_split(spots, tmp_path):
    done = run_script("evaluate", "--model", spot_model(tmp_path / "spots.onnx"), "--data-dir", spots)
    assert done.returncode == 0, done.stderr
    for part in ("85.00 % ± 4.24", "あ → い 3/4"):
        assert part in done.stdout
    figures, picture = (tmp_path / f"spots_evaluation/evaluation.{kind}" for kind in ("json", "png"))
    assert done.stdout.endswith(f"\n{figures}\n{picture}\n")
    result = json.loads(figures.read_text(encoding="utf-8"))
    assert (result["samples"], result["classes"], result["top1"]) == (20, 5, pytest.approx(85))
    assert result["top1_standard_error"] == pytest.approx(4.243, abs=1e-3)  # 100 √(0.6² + 0.6²) / 20, two sheets
    assert (result["by_writer"]["writers"], result["by_writer"]["median"]) == (2, pytest.approx(90.625))
    top1 = result["robustness"]["top1"]
    assert list(top1) == ["clean", *DISTORTIONS]
    assert [top1[same] for same in ("clean", "thick", "blur", "noise", "low contrast")] == pytest.approx([85] * 5)
    assert top1["rotation 30°"] < 60  # most spots have left their places
    sure, share = result["calibration"], np.e / (np.e + 4)  # the softmax of one spot among five classes
    assert sure["bins"] == [{"probability": pytest.approx(share), "right": pytest.approx(0.85), "samples": 20}]
    assert sure["error"] == sure["error_without_temperature"] == pytest.approx(0.85 - share)
    assert (sure["temperature"], sure["rejected"], sure["rejected_of_right"]) == (1, None, None)
    assert result["mixed_up"] == {"あ": {"い": 0.75}}
    with Image.open(picture) as image:
        assert len(np.unique(np.asarray(image))) > 100


def test_the_confidence_that_the_file_names_is_used(spots, tmp_path):
    share = np.exp(4) / (np.exp(4) + 4)  # 0.932
    for threshold, rejected in ((0.81, 100), (0.79, 0)):  # of a largest logit that is 0.8 above the mean
        confidence = json.dumps({"temperature": 0.25, "threshold": threshold})
        result = figures_of(spot_model(tmp_path / "sure.onnx", confidence=confidence), spots)
        assert f"{rejected:6.2f} %   of the correct answers {rejected:.2f} %" in report(result)
        sure = result["calibration"]
        assert sure["bins"][0]["probability"] == pytest.approx(share)
        assert sure["error"] == pytest.approx(share - 0.85)
        assert sure["error_without_temperature"] == pytest.approx(0.85 - np.e / (np.e + 4))
        assert (sure["rejected"], sure["rejected_of_right"]) == (rejected, rejected)
    right, accepted = np.array([True, True, True, True, False]), np.array([True, True, True, False, False])
    figures = measurement.calibration(Model(None, "", {}, Confidence(threshold=1.0)), right, right, right, accepted)
    assert (figures["rejected"], figures["rejected_of_right"]) == (40, 25)
    assert (figures["known_and_right"], figures["known_and_wrong"]) == (60, 0)
    figures = measurement.calibration(Model(None, "", {}, Confidence(threshold=1.0)), right, right, right, ~right)
    assert (figures["known_and_right"], figures["known_and_wrong"]) == (0, 20)


def test_what_is_measured_of_a_released_model_does_not_go_among_the_released_ones(spots, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "RELEASED", tmp_path / "models" / "released")
    (tmp_path / "models" / "released").mkdir(parents=True)
    released = spot_model(tmp_path / "models" / "released" / "spots.onnx")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--model", str(released), "--data-dir", str(spots)])
    evaluate.main()
    assert [path.name for path in released.parent.iterdir()] == ["spots.onnx"]
    assert (tmp_path / "models" / "spots_evaluation" / "evaluation.json").is_file()


def test_other_splits_and_the_models_own_random_split(spots, tmp_path):
    result = figures_of(spot_model(tmp_path / "writer.onnx"), spots, split="train")
    assert (result["top1"], result["samples"]) == (100, 80)
    config = json.dumps({"split": "random", "seed": 3})
    result = figures_of(spot_model(tmp_path / "random.onnx", config=config), spots)
    assert "split by random" in result["data"]["description"]
    own = PreparedDataset(spots, "random", 3).splits["test"].labels
    counts = {c: row[1] for c, row in result["per_class"].items()}
    assert counts == {CLASSES[label]: int((own == label).sum()) for label in own.unique().tolist()}
    some = [figures_of(tmp_path / "writer.onnx", spots, split="train", limit=20) for _ in range(2)]
    assert some[0] == some[1]  # always the same, from everywhere
    assert (some[0]["samples"], some[0]["classes"]) == (20, 5)


def test_images_in_folders_named_by_character_or_code_point(tmp_path):
    folder = tmp_path / "drawn"
    draw_bar(folder / "あ" / "lying.png", lying=True)
    draw_bar(folder / "あ" / "deeper" / "chalk.bmp", lying=True, ink=250, paper=20)
    draw_bar(folder / "あ" / "standing.jpg", lying=False)
    draw_bar(tmp_path / "elsewhere" / "standing.webp", lying=False)
    (folder / "U+3044").symlink_to(tmp_path / "elsewhere")
    draw_bar(folder / "い" / "standing.gif", lying=False)
    draw_bar(folder / "漢" / "lying.png", lying=True)
    (folder / "__MACOSX" / "あ").mkdir(parents=True)
    for name in (
        "あ/.DS_Store",
        "あ/._lying.png",
        "__MACOSX/あ/._lying.png",
        "あ/Thumbs.db",
        "い/desktop.ini",
        "README",
    ):
        (folder / name).write_bytes(b"\0")
    result = figures_of(bar_model(tmp_path / "bars.onnx"), images_dir=folder)
    assert (result["samples"], result["left_out"]) == (5, {"漢": 1})
    assert result["per_class"] == {"あ": [2, 3], "い": [2, 2]}
    assert "left out                 1 samples" in report(result)


def test_folders_are_named_by_a_character_or_its_code_point():
    names = {"漢": "漢", "U+6F22": "漢", "U+6f22": "漢", "U+20B9F": "𠮟", "か\u3099": "が", "7": "7"}
    assert {name: character_of(Path(name)) for name in names} == names
    for name in ("漢字", "kanji", "U+", "U+6F2", "U+D800", "U+FFFFFF", "u6F22", "\u0085"):
        with pytest.raises(InputError, match="named neither"):
            character_of(Path("drawn") / name)


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
    height = -(turned.sum(dim=2) @ (torch.arange(64) - 31.5)) / turned.sum(dim=(1, 2))  # above the middle
    assert torch.allclose(height.abs(), torch.full((40,), 20 * 0.5), atol=0.2)  # 20 pixels out, sin 30°
    assert 8 <= int((height > 0).sum()) <= 32


@pytest.fixture
def work(tmp_path, spots) -> Path:
    spot_model(tmp_path / "model" / "spots.onnx")
    (tmp_path / "empty").mkdir()
    draw_bar(tmp_path / "bare/picture.png", lying=True)
    (tmp_path / "bare/picture.png").rename(tmp_path / "bare/picture")
    (tmp_path / "phone/あ").mkdir(parents=True)
    (tmp_path / "phone/あ/a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("others/漢/a.png", "flat/a.png", "kanji/kanji/a.png", "notes/あ/a.png"):
        draw_bar(tmp_path / name, lying=True)
    (tmp_path / "notes/あ/notes.txt").write_text("not an image")
    (tmp_path / "data").symlink_to(spots)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--images drawn", "drawn is missing or holds no images"),
        ("--images empty", "holds no images"),
        ("--images notes", "notes.txt"),
        ("--images kanji", "kanji is named neither"),
        ("--images flat", "a.png lies in no folder"),
        ("--images bare", "picture lies in no folder"),
        ("--images phone", "a.jpg is not an image that can be read"),
        ("--images others", "the images of others: none is of the model's 5 classes"),
        ("--data-dir data --output-dir model/spots.onnx", "spots.onnx: File exists"),
        ("--images a --data-dir b", "not allowed with"),
        ("--images flat --model missing.pth", "missing.pth"),
    ],
)
def test_wrong_calls_end_with_one_line(work, words, message):
    done = run_script("evaluate", "--model", "model/spots.onnx", *words.split(), cwd=work)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.startswith(("error: ", "usage: "))
    assert not list(work.rglob("evaluation.*"))


def test_a_file_for_any_image_is_measured_on_the_pictures_themselves(tmp_path):
    """As recognize.py reads them, not cropped twice; it is right where the file that it was made from is."""
    pictures, images = tmp_path / "drawn", tmp_path / "model.onnx"
    weights = np.zeros((2, 64, 64))
    weights[0, 28:36], weights[1, :, 28:36] = 1 / 16, 1 / 16  # a level stroke, an upright one
    linear_model(images, weights, "一丨")
    for char, place in (("一", np.s_[40:44, 10:90]), ("丨", np.s_[5:85, 48:52])):
        (pictures / char).mkdir(parents=True)
        for number, grey in enumerate((0, 90)):
            drawn = np.full((90, 100), 255, np.uint8)
            drawn[place] = grey
            Image.fromarray(drawn).save(pictures / char / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(any_image, "COMPARED", 30)
        any_image.convert_any_image(images, tmp_path / "any.onnx", None, 18, top=2)
    whole, made_from = load_model(tmp_path / "any.onnx"), load_model(images)
    samples = image_samples(pictures)
    logits = [model.read(samples, np.arange(4)) for model in (whole, made_from)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    figures = figures_of(tmp_path / "any.onnx", tmp_path, pictures)
    assert figures["top1"] == figures["robustness"]["top1"]["clean"] == 100
    assert figures["robustness"]["top1"]["low contrast"] == 100
    with pytest.raises(InputError, match="calibrate the model that it was made from"):
        calibrate(whole, tmp_path, 0.97, 10, 10)
