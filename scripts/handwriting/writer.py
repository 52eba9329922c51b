"""A made-up person: habits, drawn at random."""

from dataclasses import dataclass

import numpy as np

GENERATOR_VERSION = 16
OTHER_PENS, FINEST, BROADEST = 0.4, 0.9, 5.5  # the share of writers who hold no pencil, and how wide their pens are, px
PRINTING = 0.5  # the share of writers who print; the others write ever more quickly
SOFTNESS = 0.85  # of the edge of a scanned stroke, px


@dataclass(frozen=True)
class Writer:
    """One person's habits; draw one with `new_writer`."""

    looseness: float
    slant: float  # x per y
    rise: float  # y per x: horizontal strokes that climb to the right
    width: float
    height: float
    kana_size: float
    centre: tuple[float, float]  # of the ink in the frame, px
    pen: float  # stroke width, px
    softness: float  # standard deviation of the blur of a stroke's edge, px; above 0
    pressure: float  # grey of a full stroke, of 15
    grain: float
    roundness: float  # 0 keeps corners, 1 rounds them off
    plainness: float  # 1 draws straight lines for curves, below 0 exaggerates the curves
    hooks: float  # how much of a flick is written
    speed: float  # from 0, careful print, to 1, semi-cursive
    haste: float  # how readily a stroke joins the next
    high_marks: float  # how often a voicing mark is set level with the top of the strokes instead of lower
    written_forms: float  # how often a kanji is written in its -Kaisho form
    bow: float
    folds: float  # how far the second legs of folded strokes stand off from the model, above 0 inwards
    habits: int  # what decides between the forms of characters and components


def new_writer(rng: np.random.Generator) -> Writer:
    """A writer; the spread of size, place and grey is that of the database's scans, that of pens wider."""
    normal, uniform = rng.standard_normal, rng.random
    size = 91.5 * np.exp(0.07 * normal())
    if uniform() < OTHER_PENS:  # from a hairline on a screen to a felt tip
        pen, softness = FINEST * (BROADEST / FINEST) ** uniform(), SOFTNESS * (0.1 + 0.9 * uniform())
    else:  # a pencil that was scanned
        pen, softness = np.clip(3.1 * np.exp(0.16 * normal()), 1.8, 5), SOFTNESS
    speed = max(0.0, (uniform() - PRINTING) / (1 - PRINTING))
    return Writer(
        looseness=float(np.exp(0.40 * normal())),
        slant=0.09 * normal(),
        rise=0.03 + 0.055 * normal(),
        width=size * 0.84 * np.exp(0.09 * normal()),
        height=size,
        kana_size=0.76 * np.exp(0.10 * normal()),
        centre=(60 + 1.5 * normal(), 66 + 2 * normal()),
        pen=float(pen),
        softness=softness,
        pressure=float(np.clip(8.8 + 1.4 * normal(), 5, 13)),
        grain=0.10 + 0.25 * uniform(),
        roundness=uniform() ** 1.5,
        plainness=1.15 * uniform() - 0.25 + 0.2 * speed,
        hooks=uniform() * (1 - 0.6 * speed),
        speed=speed,
        haste=0.05 * uniform() + 0.8 * speed**1.5,
        high_marks=uniform(),
        written_forms=0.35 + 0.6 * uniform(),
        bow=0.02 * normal(),
        folds=normal(),
        habits=int(rng.integers(2**31)),
    )
