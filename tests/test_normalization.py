"""The input contract: any picture of a character to 64 x 64, ink 1 on paper 0."""

import cv2
import numpy as np
import pytest

from handwriting.page import write_character
from handwriting.strokes import read_model, stroke_models
from handwriting.writer import new_writer
from images.normalization import ink_of, normalize, normalize_frames
from structure.kanjivg import model_files


def drawing(char: str, side: int = 300, size: float = 0.6, pen: int = 6, centre=(0.5, 0.5)) -> np.ndarray:
    """A character in black on white, float32 (side, side)."""
    picture = np.full((side, side), 255, np.uint8)
    for stroke in read_model(model_files(char)[0]).strokes:
        points = (stroke * size + np.array(centre)) * side * 16
        cv2.polylines(picture, [points.astype(np.int32)], False, 0, pen, cv2.LINE_AA, 4)
    return picture.astype(np.float32)


def box(image: np.ndarray) -> tuple[int, int, int, int]:
    """First and one-past-last row and column of the ink."""
    ys, xs = np.nonzero(image > 0.4)
    return ys.min(), ys.max() + 1, xs.min(), xs.max() + 1


def tight_crop(plain: np.ndarray) -> np.ndarray:
    """The part of a drawing that holds ink."""
    ys, xs = np.nonzero(plain < 128)
    return plain[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference relative to the mean ink."""
    return float(np.abs(a - b).sum() / np.maximum(a.sum(), b.sum()))


@pytest.mark.parametrize("char", ["鬱", "一", "川", "あ", "語", "日"])
@pytest.mark.parametrize("side", [40, 128, 300, 1000])
def test_shape_range_size_and_place(char, side):
    image = normalize(drawing(char, side, pen=max(1, side // 50)))
    assert (image.shape, image.dtype) == ((1, 64, 64), np.float32)
    assert image.min() >= 0
    assert image.max() <= 1
    y0, y1, x0, x1 = box(image[0])
    assert max(y1 - y0, x1 - x0) == pytest.approx(52, abs=2)
    assert ((y0 + y1) / 2, (x0 + x1) / 2) == pytest.approx((32, 32), abs=1.5)


def test_the_aspect_ratio_stays():
    picture = np.full((200, 200), 255, np.float32)
    cv2.rectangle(picture, (50, 80), (149, 119), 0, 4)  # 104 x 44 with the pen's width
    y0, y1, x0, x1 = box(normalize(picture)[0])
    assert (y1 - y0) / (x1 - x0) == pytest.approx(44 / 104, abs=0.04)


@pytest.mark.parametrize("char", ["漢", "き", "口"])
def test_polarity_contrast_place_and_size_do_not_matter(char):
    plain = drawing(char)
    expected = normalize(plain)
    changed = {
        "low contrast": 120 + (plain - 255) * 60 / 255,
        "elsewhere": drawing(char, centre=(0.42, 0.56)),
        "smaller": drawing(char, size=0.45, pen=5),
        "large": cv2.resize(plain, (900, 900), interpolation=cv2.INTER_LINEAR),
        "in a wide picture": np.pad(plain, ((0, 0), (150, 40)), constant_values=255),
    }
    for name, picture in changed.items():
        assert difference(normalize(picture), expected) < 0.3, name
    assert difference(normalize(255 - plain), expected) < 0.02
    assert difference(normalize(drawing("永")), expected) > 0.7  # the measure parts one character from another


@pytest.mark.parametrize(("char", "shade", "noise"), [("漢", True, 4), ("一", False, 16)])
def test_shadows_and_noise_do_not_matter(char, shade, noise):
    plain = drawing(char, pen=8)
    y, x = np.mgrid[:300, :300] / 300
    picture = plain * (0.45 + 0.5 * x) * (1 - 0.25 * y) if shade else 60 + plain * 150 / 255
    noisy = picture + np.random.default_rng(0).normal(0, noise, plain.shape)
    assert difference(normalize(noisy.clip(0, 255).astype(np.float32)), normalize(plain)) < 0.3


def test_strokes_are_as_dark_in_a_shadow_as_in_the_light():
    x = np.arange(300) / 300
    light = 1 - 0.5 / (1 + np.exp(-(x - 0.5) * 80))  # half the picture lies in a shadow with a soft edge
    image = normalize((60 + drawing("二", pen=8) * 160 / 255).astype(np.float32) * light)[0]
    assert image[:, 36:].sum() == pytest.approx(image[:, :28].sum(), rel=0.15)


def test_specks_and_edge_fragments_go():
    plain = drawing("漢")
    speck, line, frame_line, neighbour = np.s_[20:22, 30:32], np.s_[15:17], np.s_[1:4, 30:260], np.s_[100:190, :7]
    for fragment in (speck, line, frame_line, neighbour, np.s_[294:, 200:225]):
        dirty = plain.copy()
        dirty[fragment] = 0
        assert difference(normalize(dirty), normalize(plain)) < 0.05, fragment
    box_shape = drawing("口", pen=8)
    dirty = box_shape.copy()
    dirty[150:153, 150:153] = 0  # between the strokes
    assert np.abs(normalize(dirty) - normalize(box_shape)).max() < 0.05


def test_a_blank_picture_gives_zeros():
    scanned = np.random.default_rng(0).normal(200, 1, (300, 300)).astype(np.float32)
    for picture in (scanned, np.full((80, 90), 255, np.float32), np.zeros((80, 90), np.float32)):
        assert not normalize(picture).any()
    frames = np.zeros((2, 127, 128), np.uint8)
    frames[0, 60, 60], frames[0, 0, 0] = 15, 5  # specks
    assert not normalize_frames(frames).any()


@pytest.mark.parametrize("level", [6, 8, 12])
def test_a_broad_pen_keeps_its_thin_strokes(level):
    """Many broad pens make level strokes thinner than upright ones; thinning the latter must not take the former."""
    picture = np.full((300, 300), 255, np.float32)
    for left in (60, 215):
        picture[50:250, left : left + 25] = 0
    for top in (50, 140, 250 - level):
        picture[top : top + level, 60:240] = 0
    between = normalize(picture)[0, :, 26:38].mean(axis=1)  # the level strokes alone
    assert np.count_nonzero(np.diff((between > 0.3).astype(int)) == 1) == 3


@pytest.mark.parametrize("shape", [(3,), (2, 5, 5), (0, 10), (10, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="two dimensions"):
        normalize(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (2, 3), (5, 400), (1000, 3), (1, 1000)])
def test_tiny_and_narrow_pictures_of_anything_pass(shape):
    dot = np.full(shape, 255, np.float32)
    dot[0, 0] = 0
    for picture in (dot, np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)):
        assert np.isfinite(normalize(picture)).all()


@pytest.mark.parametrize("char", list("一二三主小川心い八言が国口"))
@pytest.mark.parametrize("pen", [3, 9, 16])
def test_a_tight_crop_of_either_polarity_loses_nothing(char, pen):
    """The border of such a crop is mostly ink: the rarer shade is the ink."""
    expected = normalize(plain := drawing(char, pen=pen))
    assert difference(normalize(tight_crop(plain)), expected) < 0.25
    assert difference(normalize(255 - tight_crop(plain)), expected) < 0.25


@pytest.mark.parametrize("char", ["漢", "一", "国"])
@pytest.mark.parametrize("pen", [4, 9])
def test_dark_corners_are_no_ink(char, pen):
    plain = drawing(char, pen=pen)
    y, x = np.mgrid[:300, :300] / 300 - 0.5
    vignette = (80 + plain * 140 / 255) * (1 - 1.1 * (x**2 + y**2))
    noisy = vignette + np.random.default_rng(0).normal(0, 3, vignette.shape)
    assert difference(normalize(noisy.astype(np.float32)), normalize(plain)) < 0.3


@pytest.mark.parametrize("char", ["川", "国", "園", "因", "三", "心"])
@pytest.mark.parametrize("margins", [(0.01,) * 4, (0.05,) * 4, (0.1,) * 4, (0.02, 0.02, 0.02, 0.08)])
def test_strokes_near_an_edge_are_not_taken_for_fragments(char, margins):
    tight = tight_crop(plain := drawing(char, pen=5))
    top, bottom, left, right = (round(margin * max(tight.shape)) for margin in margins)
    cropped = np.pad(tight, ((top, bottom), (left, right)), constant_values=255)
    assert difference(normalize(cropped), normalize(plain)) < 0.25


@pytest.mark.parametrize("char", ["州", "引", "主", "立"])
def test_dirt_at_an_edge_takes_no_stroke_with_it(char):
    """Strokes that stand apart near an edge, or only in a corner, stay when dirt along that edge goes."""
    tight = tight_crop(plain := drawing(char, pen=4))
    dirty = np.pad(tight, round(0.07 * max(tight.shape)), constant_values=255)
    dirty[40:60, :3] = 0
    assert difference(normalize(dirty), normalize(plain)) < 0.25


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([write_character(c, stroke_models(c), new_writer(rng), rng) for c in "あきぷ一二川漢字国鬱" * 4])


def test_frames_one_by_one_and_together_are_equal(frames):
    together = normalize_frames(frames)
    one_by_one = np.concatenate([normalize_frames(frame[None]) for frame in frames])
    assert (together.shape, together.dtype) == ((len(frames), 64, 64), np.uint8)
    assert np.abs(together.astype(int) - one_by_one).max() <= 1
    assert normalize_frames(frames[:0]).shape == (0, 64, 64)


LEFT_LINE, BOTTOM_LINE, SLIVER, DIRT = np.s_[10:120, 1:3], np.s_[-3:-1], np.s_[40:60, -4:], np.s_[:4, 2:13]


@pytest.mark.parametrize("fragments", [[LEFT_LINE], [BOTTOM_LINE], [LEFT_LINE, BOTTOM_LINE], [SLIVER], [DIRT]])
def test_fragments_at_the_edges_of_frames_go(fragments):
    frame = (255 - drawing("漢", 128, pen=5)[:127]).astype(np.uint8) // 36
    dirty = frame.copy()
    for fragment in fragments:
        dirty[fragment] = 6
    clean_image, image = normalize_frames(np.array([frame, dirty])).astype(float)
    assert difference(image, clean_image) < 0.05


def test_a_frame_saved_as_a_picture_gives_the_same(frames):
    together = normalize_frames(frames).astype(np.float32) / 255
    as_pictures = np.concatenate([normalize(255.0 - frame * 17.0) for frame in frames])
    differences = [difference(a, b) for a, b in zip(together, as_pictures, strict=True)]
    assert np.median(differences) < 0.05
    assert np.quantile(differences, 0.9) < 0.2


@pytest.mark.parametrize("lighter", [False, True])
def test_noise_on_even_paper_is_measured(lighter):
    """Specks that leave some clean paper in every window, or that are lighter as well as darker and fill few pixels."""
    grey = np.tile(np.uint8((205, 190, 205, 200) if lighter else (200, 191, 200, 195)), (256, 64))
    if lighter:
        grey[:, :40] = grey[:, 216:] = 200
        grey[:, 36:40] = grey[:, 216:220] = 190
    else:
        grey.reshape(8, 32, 8, 32)[:, :12, :, :12] = 200
    grey[112:152, 84:88] = 0
    assert np.count_nonzero(ink_of(grey)) == 160  # the stroke alone
