"""What stands around a character goes, and nothing of the character: on drawings whose surroundings are known."""

import cv2
import numpy as np
import pytest

from images.normalization import normalize, normalize_frames
from images.surroundings import SURROUNDINGS, ink_box, neighbour, pen
from test_normalization import difference, drawing

AROUND = ["frame at the edge", "frame inside", "ruled paper", "manuscript cell", "letterbox", "card's edge"]
TIGHT = "一口国囲回田目日い八川心小ばにこ上土車円門ハ"


def like_plain(picture: np.ndarray, plain: np.ndarray) -> float:
    """The mean difference of what both become, relative to the mean ink, of strokes blurred by two pixels."""
    images = [normalize(image.astype(np.float32))[0] for image in (picture, plain)]
    return difference(*(cv2.GaussianBlur(image, (0, 0), 2) for image in images))


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("char", "あ漢国一い")
def test_surroundings_go(name, char):
    plain, other = (drawing(c, pen=4, size=0.5).astype(np.uint8) for c in (char, "永"))
    made = [SURROUNDINGS[name](plain, np.random.default_rng(seed), other) for seed in range(20)]
    assert np.sort([like_plain(picture, plain) for picture in made])[-2] < 0.2


@pytest.mark.parametrize("char", "あ漢い")
def test_a_neighbours_piece_goes(char):
    plain = drawing(char, pen=4, size=0.5).astype(np.uint8)
    for seed, other in enumerate("語明鬱永" * 5):
        picture = neighbour(plain, np.random.default_rng(seed), drawing(other, pen=4).astype(np.uint8))
        assert like_plain(picture, plain) < 0.05, seed


@pytest.mark.parametrize("char", TIGHT)
@pytest.mark.parametrize("width", [2, 5, 10])
@pytest.mark.parametrize("margin", [0, 2])
def test_a_tight_crop_loses_nothing(char, width, margin):
    plain = drawing(char, pen=width, size=0.6)
    tight = np.pad(plain[ink_box(plain)], margin, constant_values=255)
    for picture in (tight, cv2.resize(tight, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)):
        assert like_plain(picture, plain) < 0.4


@pytest.mark.parametrize("width", [13, 17])
def test_a_thick_pen_becomes_as_thin_as_others(width):
    plain = drawing("十", pen=5)
    usual = normalize(plain).sum()
    thick = pen(plain.astype(np.uint8), None, None, width).astype(np.float32)
    assert 0.7 * usual < normalize(thick).sum() < 1.5 * usual


@pytest.mark.parametrize("turns", range(4))
def test_neighbours_in_frames_go(turns):
    """Pieces that overlap the character's box, and two at once."""
    frame = np.pad((255 - drawing("漢", 96, pen=4)).astype(np.uint8) // 36, ((15, 16), (16, 16)))
    dirty = np.rot90(frame, turns).copy()
    cv2.line(dirty, (0, 20), (13, 40), 7, 4)
    cv2.line(dirty, (2, 60), (9, 90), 7, 4)
    dirty = np.rot90(dirty, -turns).copy()
    dirty[-6:, 40:60] = 7
    plain, image = normalize_frames(np.array([frame, dirty])).astype(float)
    assert difference(image, plain) < 0.05


def test_a_frame_keeps_strokes_that_stand_apart():
    for char in "川い心小":
        frame = (255 - drawing(char, 128, pen=5, size=0.7)[:127]).astype(np.uint8) // 36
        bare = (255 - drawing(char, 300, pen=12, size=0.5)).astype(np.uint8) // 36
        one, other = normalize_frames(frame[None]), normalize_frames(cv2.resize(bare, (128, 127))[None])
        assert difference(one.astype(float), other.astype(float)) < 0.35
