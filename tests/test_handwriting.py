"""The drawing: frames of the right kind, writers with habits, the forms of kana, what KanjiVG's files become."""

import dataclasses

import numpy as np
import pytest

from handwriting import page, variation
from handwriting.page import place_on_page, write_character
from handwriting.strokes import stroke_models
from handwriting.writer import SOFTNESS, new_writer
from structure.kanjivg import POINTS, model_files

CHARACTERS = "漢字永国書東"
MODELS = {char: stroke_models(char) for char in CHARACTERS + "あきそ" + "一十明がぱ"}
WRITER = new_writer(np.random.default_rng(3))
STIFF = dataclasses.replace(WRITER, looseness=0.0, slant=0.0, rise=0.0, haste=0.0, bow=0.0, roundness=0.0, speed=0.0)


@pytest.fixture
def clean_page(monkeypatch):
    """No frame lines, neighbours or dirt."""
    monkeypatch.setattr(page, "_dirt", lambda grey, rng: None)


def written(char: str, seed: int, writer=WRITER, models=None) -> np.ndarray:
    return write_character(char, models or MODELS[char], writer, np.random.default_rng(seed))


def ink(char: str, seeds: int, writer=WRITER) -> np.ndarray:
    """How many pixels of ink there are in each of these writings."""
    models = stroke_models(char)
    return np.array([(written(char, seed, writer, models) > 2).sum() for seed in range(seeds)])


def varied(char: str, writer=WRITER, seeds: int = 20) -> np.ndarray:
    """The strokes (seeds, S, POINTS, 2) of writings of a character's first model."""
    model = stroke_models(char)[0]
    return np.array([variation.vary_strokes(char, model, writer, np.random.default_rng(seed)) for seed in range(seeds)])


@pytest.mark.parametrize("habits", [{}, {"height": 160, "width": 160, "pen": 3.2}])  # the second would not fit
def test_a_frame_is_that_of_a_scan_with_the_ink_inside(habits, clean_page):
    touching = []
    for seed in range(40):
        writer = dataclasses.replace(new_writer(np.random.default_rng(seed)), **habits)
        for char in "漢東き":
            frame = written(char, seed, writer)
            assert (frame.shape, frame.dtype, frame.max() <= 15) == ((127, 128), np.uint8, True)
            assert 100 < (frame > 2).sum() < 0.5 * frame.size
            touching.append(max(frame[[0, -1]].max(), frame[:, [0, -1]].max()) > 3)
    assert np.mean(touching) < 0.05


def test_the_page_is_dirty_now_and_then_and_only_along_its_edges(monkeypatch):
    dirty = [written("一", seed) for seed in range(100)]
    monkeypatch.setattr(page, "_dirt", lambda grey, rng: None)
    clean = [written("一", seed) for seed in range(100)]
    where = np.array(dirty) != np.array(clean)
    assert 1 <= where.any(axis=(1, 2)).sum() <= 30
    assert not where[:, 8:-8, 8:-8].any()


def features(frame: np.ndarray) -> tuple[float, float, float, float]:
    """Grey of the ink, logarithm of its area, slant (x per y), fall to the right (y per x)."""
    ys, xs = np.nonzero(frame > 2)
    return np.median(frame[frame > 2]), np.log(len(xs)), *(np.cov(xs, ys)[0, 1] / (ys.var(), xs.var()))


@pytest.mark.parametrize(
    ("habit", "low", "high", "feature"),
    [("pressure", 5, 11, 0), ("pen", 4, 7, 1), ("slant", 0.3, -0.3, 2), ("rise", 0.3, -0.3, 3)],
)
def test_a_writers_habits_show(habit, low, high, feature, clean_page):
    """y points down: a slant to the right moves what is high up to the right."""
    means = []
    for value in (low, high):
        writer = dataclasses.replace(WRITER, **{habit: value})
        means.append(np.mean([features(written(char, 1, writer))[feature] for char in CHARACTERS]))
    assert means[1] > means[0] + 0.2


def test_pens_are_pencils_and_others_from_hairlines_to_felt_tips():
    writers = [new_writer(np.random.default_rng(seed)) for seed in range(2000)]
    scanned = np.array([writer.softness == SOFTNESS for writer in writers])
    widths = np.array([writer.pen for writer in writers])
    assert 0.55 < scanned.mean() < 0.65
    assert np.percentile(widths[scanned], [5, 95]) == pytest.approx([2.4, 4.0], abs=0.15)
    assert np.percentile(widths[~scanned], [0, 50, 100]) == pytest.approx([0.9, 2.22, 5.5], abs=0.15)


def test_a_hairline_on_a_screen_is_thin_and_sharp(clean_page):
    """Of ink as dark as it gets a sharp pen leaves the larger share, and a thin one less in all."""
    share, area = [], []
    for habits in ({"pen": 0.9, "softness": 0.1}, {"pen": 3, "softness": 0.1}, {"pen": 3, "softness": SOFTNESS}):
        writer = dataclasses.replace(WRITER, grain=0, **habits)
        frames = [written(char, seed, writer) for char in CHARACTERS for seed in range(5)]
        share.append(np.mean([(frame >= frame.max() - 1).sum() / (frame > 0).sum() for frame in frames]))
        area.append(np.mean([(frame > 2).sum() for frame in frames]))
    assert share[1] > 1.15 * share[2]
    assert area[0] < 0.6 * area[1]


def test_the_middle_of_characters_moves_to_their_sides(monkeypatch):
    """Of three points on a page without other warps: where between the outer ones the middle comes to lie."""
    monkeypatch.setattr(page, "PAGE_WARP", 0.0)
    points = np.array([[[-0.4, -0.4], [0, 0], [0.4, 0.4]]])
    for kana in (False, True):
        middles = []
        for seed in range(200):
            placed = place_on_page(points, WRITER, kana, np.random.default_rng(seed))[0]
            middles.append((placed[1] - placed[0]) / (placed[2] - placed[0]))
        assert np.abs(np.mean(middles, axis=0) - 0.5).max() < 0.03
        assert (np.std(middles, axis=0) > (0.03 if kana else 0.015)).all()
        assert (np.std(middles, axis=0) < (0.10 if kana else 0.05)).all()


@pytest.mark.parametrize("char", "でぐじぴ")
def test_high_marks_stand_at_the_top_beside_the_strokes(char):
    """じ has its hook below them."""
    marks = stroke_models(char)[0].marks
    beyond, below = {}, {}
    for share in (0.0, 1.0):
        moved = varied(char, dataclasses.replace(STIFF, high_marks=share), 8)
        body, mark = moved[:, :-marks].reshape(8, -1, 2), moved[:, -marks:].reshape(8, -1, 2)
        top = body[..., 1].min(axis=1)
        beside = np.array([points[points[:, 1] <= y + 0.1, 0].max() for points, y in zip(body, top, strict=True)])
        beyond[share] = (mark[..., 0].mean(axis=1) - beside).mean()
        below[share] = (mark[..., 1].mean(axis=1) - top).mean()
    assert beyond[1.0] > 0.03
    assert abs(below[1.0]) < 0.15
    if char == "で":  # KanjiVG sets them below the bar
        assert beyond[0.0] < 0
        assert below[0.0] > below[1.0] + 0.1


def test_hands_in_haste_join_strokes(clean_page):
    amount = [np.mean([ink(c, 3, dataclasses.replace(WRITER, haste=haste)) for c in CHARACTERS]) for haste in (0, 50)]
    assert amount[1] > 1.03 * amount[0]


def test_models_are_what_the_characters_look_like():
    (level,) = MODELS["一"][0].strokes
    across, down = MODELS["十"][0].strokes
    for stroke in (level, across):
        assert np.ptp(stroke[:, 0]) > 5 * np.ptp(stroke[:, 1])
        assert (np.diff(stroke[:, 0]) > 0).all()  # from left to right
    assert np.ptp(down[:, 1]) > 5 * np.ptp(down[:, 0])
    assert (np.diff(down[:, 1]) > 0).all()  # y points down

    bright = MODELS["明"][0]  # 日 on the left, 月 on the right, four strokes each
    assert [np.flatnonzero(group).tolist() for group in bright.groups[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert bright.strokes[:4, :, 0].max() < bright.strokes[4:, :, 0].mean()


def test_points_are_evenly_spaced_and_inside_the_box():
    for model in (model for models in MODELS.values() for model in models):
        assert np.abs(model.strokes).max() <= 0.5
        step = np.hypot(*np.diff(model.strokes, axis=1).transpose(2, 0, 1))
        length = step.sum(axis=1, keepdims=True)
        assert (step <= 1.02 * length / (POINTS - 1)).all()  # shorter only where a corner is cut


def test_a_flick_is_short_and_what_makes_the_character_is_none():
    for char, stroke in (("水", 0), ("小", 0), ("了", 1), ("に", 0)):
        assert 0.5 < stroke_models(char)[0].hooks[stroke] < 1
    for char, stroke in (("わ", 1), ("ね", 1), ("れ", 1), ("口", 1), ("七", 1), ("九", 1)):
        assert stroke_models(char)[0].hooks[stroke] == 1


@pytest.mark.parametrize(("char", "marks"), [("が", 2), ("ぱ", 1), ("あ", 0), ("漢", 0)])
def test_voicing_marks_are_the_last_strokes(char, marks):
    model = MODELS[char][0]
    assert model.marks == marks
    if marks:  # small and in the upper right
        last = model.strokes[-marks:]
        assert np.ptp(last.reshape(-1, 2), axis=0).max() < 0.3
        assert last[..., 0].mean() > 0.1
        assert last[..., 1].mean() < 0


@pytest.mark.parametrize(("char", "written_ones"), [("道", [False, True]), ("令", [False, False]), ("亜", [False])])
def test_variant_files_are_further_models_of_a_character(char, written_ones):
    """道 has a -Kaisho file, how it is written; 令 an -Insatsu file, how it is printed; 亜 one file alone."""
    assert [model.written for model in stroke_models(char)] == written_ones
    assert model_files(char)[0].stem == f"{ord(char):05x}"  # the standard form first
    with pytest.raises(KeyError, match="KanjiVG has no strokes for ☃"):
        model_files("☃")


def test_writers_choose_between_written_and_printed_forms():
    models = stroke_models("天")
    for share, written_form in ((1.0, True), (0.0, False)):
        writer = dataclasses.replace(WRITER, written_forms=share)
        chosen = [variation.choose_model(models, writer, np.random.default_rng(seed)).written for seed in range(5)]
        assert chosen == [written_form] * 5
    standard, rarer = stroke_models("令")
    chosen = [variation.choose_model([standard, rarer], WRITER, np.random.default_rng(seed)) for seed in range(100)]
    assert 25 < sum(model is rarer for model in chosen) < 55


def _corner(stroke: np.ndarray) -> float:
    """The angle in degrees between the first and the last third of a stroke (P, 2)."""
    third = len(stroke) // 3
    legs = stroke[third] - stroke[0], stroke[-1] - stroke[-third]
    return float(np.degrees(np.arctan2(legs[0][0] * legs[1][1] - legs[0][1] * legs[1][0], legs[0] @ legs[1])))


def test_a_fold_turns_its_second_leg_and_nothing_else(monkeypatch):
    """力's folded stroke and 口's; the level stroke and the one with two folds (弓's last) stay."""
    for char, stroke, turns in (("力", 0, 0.2), ("口", 1, 0.2), ("一", 0, 0), ("弓", 2, 0), ("口", 2, 0)):
        model = stroke_models(char)[0]
        before = model.strokes[stroke]
        after = variation._refold(model.strokes, model.hooks - 0.05, np.full(len(model.strokes), 0.2))[stroke]
        assert _corner(after) - _corner(before) == pytest.approx(np.degrees(turns), abs=3)
        np.testing.assert_allclose(after[:4], before[:4], atol=1e-6)
        np.testing.assert_allclose(*(np.hypot(*np.diff(points, axis=0).T) for points in (after, before)), atol=1e-5)
    # On average folds stand more upright than the model.
    upright = _corner(varied("力", STIFF, 1)[0, 0])
    monkeypatch.setattr(variation, "UPRIGHT", 0)
    assert upright < _corner(varied("力", STIFF, 1)[0, 0]) - 3


def test_kanji_of_few_strokes_leave_each_more_room(monkeypatch):
    spread = []
    for most in (1.0, variation.FEW_STROKES_MOST):
        monkeypatch.setattr(variation, "FEW_STROKES_MOST", most)
        middles = varied("人", WRITER, 80).mean(axis=2)
        spread.append(np.std(middles[:, 1] - middles[:, 0], axis=0).sum())
    assert spread[1] > 1.15 * spread[0]
