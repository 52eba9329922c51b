"""augmentation.py: ranges, randomness per sample, and what each kind of variety does to pictures that are known."""

import math

import pytest
import torch
import torch.nn.functional as F

from data import augmentation
from data.augmentation import BLURRED, KNOTS, augment, bicubic, erase, soften, stretch, thicken_or_thin, warp
from images.normalization import SOLID

SIDE = 64


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def cross(count: int) -> torch.Tensor:
    """The same upright cross, strokes 4 px wide, in each of `count` images (count, 1, 64, 64)."""
    image = torch.zeros(1, SIDE, SIDE)
    image[:, 12:52, 30:34] = 1
    image[:, 30:34, 12:52] = 1
    return image.repeat(count, 1, 1, 1)


def only(monkeypatch, **kept: float) -> None:
    """Turns off every kind of warp but those given."""
    for name in ("ROTATION", "SHEAR", "STRETCH", "SIZE", "SHIFT", "ELASTIC", "PERSPECTIVE"):
        monkeypatch.setattr(augmentation, name, kept.get(name, 0.0))


def centres(images: torch.Tensor) -> torch.Tensor:
    """Centre of the ink, (N, 2) as x, y in px."""
    at = torch.arange(SIDE) + 0.5
    ink = images[:, 0]
    total = ink.sum(dim=(1, 2))
    return torch.stack([(ink.sum(dim=1) * at).sum(dim=1) / total, (ink.sum(dim=2) * at).sum(dim=1) / total], dim=1)


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_shape_type_and_range(count, strength):
    images = cross(count)
    varied = augment(images, strength)
    assert varied.shape == images.shape
    assert varied.dtype == torch.float32
    assert torch.isfinite(varied).all()
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert torch.equal(images, cross(count))  # the batch itself stays as it was


def test_bicubic_interpolation_is_pytorchs():
    knots, cpu = torch.randn(3, 2, KNOTS, KNOTS), torch.device("cpu")
    expected = F.interpolate(knots, (48, 64), mode="bicubic", align_corners=True)
    torch.testing.assert_close(bicubic(48, cpu) @ knots @ bicubic(64, cpu).T, expected, atol=1e-5, rtol=0)


def test_strength_zero_changes_nothing():
    images = torch.rand(4, 1, SIDE, SIDE)
    assert torch.equal(augment(images, 0.0), images)


def test_the_same_seed_gives_the_same_and_another_does_not():
    varied = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        varied.append(augment(cross(8), 1.0))
    assert torch.equal(varied[0], varied[1])
    assert not torch.equal(varied[0], varied[2])


@pytest.mark.parametrize("vary", [augment, warp, thicken_or_thin])
def test_every_sample_is_varied_by_itself(vary):
    varied = vary(cross(12), 1.0)
    equal = [torch.equal(varied[i], varied[j]) for i in range(12) for j in range(i)]
    assert sum(equal) <= 3  # some may stay as they are


def test_paper_stays_paper_but_for_noise(monkeypatch):
    monkeypatch.setattr(augmentation, "NOISE", 0.0)
    assert not augment(torch.zeros(8, 1, SIDE, SIDE), 1.0).any()


def test_a_warp_that_is_turned_off_is_the_identity(monkeypatch):
    only(monkeypatch)
    images = torch.rand(3, 1, SIDE, SIDE)
    torch.testing.assert_close(warp(images, 1.0), images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_shifts_have_the_spread_that_their_constant_says(strength, monkeypatch):
    """SHIFT is a standard deviation in half sides of 32 px."""
    only(monkeypatch, SHIFT=0.05)
    moved = centres(warp(cross(800), strength)) - SIDE / 2
    assert moved.std(dim=0).tolist() == pytest.approx([strength * 0.05 * 32] * 2, rel=0.12)
    assert moved.mean(dim=0).tolist() == pytest.approx([0, 0], abs=0.25)
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.15  # each way by itself


def test_rotations_have_the_spread_that_their_constant_says(monkeypatch):
    """The angle of a bar from its second moments, for turns up to a few tenths of a radian."""
    only(monkeypatch, ROTATION=0.1)
    bar = torch.zeros(800, 1, SIDE, SIDE)
    bar[:, :, 31:33, 8:56] = 1
    turned = warp(bar, 1.0)[:, 0]
    at = torch.arange(SIDE) + 0.5 - SIDE / 2
    x, y = at[None, None, :], at[None, :, None]
    xx, xy = (turned * x * x).sum(dim=(1, 2)), (turned * x * y).sum(dim=(1, 2))
    angle = torch.atan(xy / xx)
    assert float(angle.std()) == pytest.approx(0.1, rel=0.12)
    assert turned.sum(dim=(1, 2)).min() > 0.9 * 96  # nothing is lost


def test_stretching_keeps_the_centre_and_changes_the_extent(monkeypatch):
    only(monkeypatch, STRETCH=0.1)
    varied = warp(cross(400), 1.0)
    torch.testing.assert_close(centres(varied), torch.full((400, 2), SIDE / 2.0), atol=0.05, rtol=0)
    wide = (varied[:, 0].amax(dim=1) > 0.5).sum(dim=1)  # columns with ink; 40 before
    assert float(torch.log(wide / 40.0).std()) == pytest.approx(0.1, rel=0.2)


def test_an_elastic_warp_bends_straight_lines(monkeypatch):
    only(monkeypatch, ELASTIC=0.07)
    bar = torch.zeros(50, 1, SIDE, SIDE)
    bar[:, :, 31:33, 4:60] = 1
    bent = warp(bar, 1.0)[:, 0]
    y = torch.arange(SIDE)[None, :, None] + 0.5
    middle = ((bent * y).sum(dim=1) / bent.sum(dim=1).clamp(min=1e-6))[:, 10:54]
    line = torch.linspace(-1, 1, 44)
    slope = (middle * line).mean(dim=1, keepdim=True) / line.square().mean()
    bow = (middle - middle.mean(dim=1, keepdim=True) - slope * line).std(dim=1)
    assert float(bow.median()) > 0.5  # px
    assert float(bow.max()) < 6


def test_turned_and_sheared_together_ink_keeps_its_area(monkeypatch):
    """A turn and a shear each have determinant 1, and so has their product, if the signs in it are right."""
    only(monkeypatch, ROTATION=0.4, SHEAR=0.3)
    disc = ((torch.arange(SIDE) - 31.5).square()[:, None] + (torch.arange(SIDE) - 31.5).square() < 12**2).float()
    area = warp(disc.repeat(300, 1, 1, 1), 1.0).sum(dim=(1, 2, 3))
    assert area.tolist() == pytest.approx([float(disc.sum())] * 300, rel=0.03)


def test_shears_slant_upright_strokes_alone(monkeypatch):
    only(monkeypatch, SHEAR=0.2)
    upright = torch.zeros(400, 1, SIDE, SIDE)
    upright[:, :, 12:52, 31:33] = 1
    level = warp(upright.transpose(2, 3), 1.0)[:, 0]
    assert (level.sum(dim=2) > 1).sum(dim=1).float().mean() == 2  # two rows, as before
    at = torch.arange(SIDE) + 0.5 - SIDE / 2
    slanted = warp(upright, 1.0)[:, 0]
    x = (slanted * at).sum(dim=2)[:, 12:52] / slanted.sum(dim=2)[:, 12:52]
    slope = (x * at[12:52]).sum(dim=1) / at[12:52].square().sum()
    assert float(slope.std()) == pytest.approx(0.2, rel=0.12)


def test_perspective_makes_one_side_larger(monkeypatch):
    """A bar a quarter of the width from the middle, at either side: their heights have the ratio exp(tilt)."""
    only(monkeypatch, PERSPECTIVE=0.1)
    bars = torch.zeros(600, 1, SIDE, SIDE)
    bars[:, :, 16:48, 14:18] = bars[:, :, 16:48, 46:50] = 1
    left, right = warp(bars, 1.0)[:, 0].split(SIDE // 2, dim=2)
    ratio = left.amax(dim=2).sum(dim=1).log() - right.amax(dim=2).sum(dim=1).log()
    assert float(ratio.std()) == pytest.approx(0.1, rel=0.25)


def amounts(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ink of each image before and after strokes are drawn thicker or thinner."""
    return images.sum(dim=(1, 2, 3)), thicken_or_thin(images, 1.0).sum(dim=(1, 2, 3))


def test_some_strokes_become_thicker_and_some_thinner():
    before, after = amounts(cross(300))
    assert (after > 1.05 * before).sum() > 30
    assert (after < 0.95 * before).sum() > 30
    # At most a pixel to either side: 4 px become 6, and one ring round the ends.
    grown = torch.nn.functional.max_pool2d(cross(1), 3, 1, 1).sum()
    assert after.max() <= grown + 1e-3


@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("level", [0.4, 0.8, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_a_stroke_is_never_thinned_to_nothing(width, level, soft):
    images = torch.zeros(200, 1, SIDE, SIDE)
    images[:, :, :, 30 : 30 + width] = level
    if soft:
        images = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    ridge = float(images.max())
    thinned = thicken_or_thin(images, 2.0).amax(dim=3)
    assert thinned.min() > 0.15 * ridge
    assert thinned.max() <= ridge + 1e-6


def test_stretch_gives_ink_the_darkness_of_the_contract():
    images = cross(3) * torch.tensor([0.3, 0.6, 1.0]).view(3, 1, 1, 1)
    stretched = stretch(images)
    mean = stretched.square().sum(dim=(1, 2, 3)) / stretched.sum(dim=(1, 2, 3))
    assert mean.tolist() == pytest.approx([SOLID] * 3)
    assert not stretch(torch.zeros(2, 1, SIDE, SIDE)).any()


def test_erasing_takes_a_rectangle_from_the_share_that_its_constant_says():
    images = torch.full((2000, 1, SIDE, SIDE), 0.7)
    erased = erase(images, 1.0)
    assert set(erased.unique().tolist()) == {0.0, images[0, 0, 0, 0].item()}
    holes = (erased == 0)[:, 0]
    hit = holes.any(dim=(1, 2))
    share = augmentation.ERASED
    assert float(hit.float().mean()) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 2000))
    height, width = holes.any(dim=2).sum(dim=1)[hit], holes.any(dim=1).sum(dim=1)[hit]
    assert torch.equal(holes.sum(dim=(1, 2))[hit], height * width)  # rectangles
    assert max(int(height.max()), int(width.max())) <= 0.25 * SIDE
    assert not (erase(images, 0.0) == 0).any()


def test_noise_has_another_level_in_each_image():
    blank = augment(torch.zeros(200, 1, SIDE, SIDE), 1.0)
    spread = blank.std(dim=(1, 2, 3))
    assert float(spread.max()) > 3 * float(spread.min())
    assert float(spread.max()) < augmentation.NOISE


def test_some_images_are_softened_and_no_ink_is_lost():
    images = cross(40)
    soft = soften(images, 1.0)
    changed = (soft - images).abs().amax(dim=(1, 2, 3)) > 0
    assert changed.sum() == round(BLURRED * 40)
    assert torch.allclose(soft.sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3)), rtol=1e-4)
    assert soft[changed].amax() <= 1
    line = torch.zeros(4, 1, SIDE, SIDE)
    line[:, :, :, 32] = 1
    widths = [
        float(((torch.arange(SIDE) - 32) ** 2 * row[0, 20]).sum()) for row in soften(line.repeat(4, 1, 1, 1), 1.0)
    ]
    assert widths[:5] == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])  # a variance of 1/2 for each pass
