"""One picture of an evaluation: how far its probabilities can be trusted, and the characters that it confuses.

Characters are drawn from KanjiVG's strokes (CC BY-SA 3.0), so no Japanese font is needed.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from evaluation.recognition_picture import draw_character
from images.normalization import CANVAS
from inference.confidence import BINS

MARGIN, GAP = 24, 6
MISREAD_SHOWN = 4  # of each confused pair
PAIR_WIDTH, PAIR_HEIGHT = (MISREAD_SHOWN + 3) * (CANVAS + GAP) + 62, CANVAS + 30
WIDTH = 2 * PAIR_WIDTH + 3 * MARGIN
DIAGRAM = 200  # side of a reliability diagram
LONGEST = 125  # characters of a line
BLUE, GREY, PALE = (70, 110, 170), (110, 110, 110), (240, 240, 240)


class Pen:
    """Writes and draws on one sheet; Pillow's own font writes other than Latin characters as their escapes."""

    def __init__(self, height: int):
        self.sheet = Image.new("RGB", (WIDTH, height), "white")
        self.draw = ImageDraw.Draw(self.sheet)

    def text(self, x: float, y: float, text: str, size: int = 16, fill=GREY, anchor: str = "la") -> None:
        text = text.encode("latin-1", "backslashreplace").decode("latin-1")
        text = text if len(text) <= LONGEST else f"... {text[-LONGEST:]}"
        self.draw.text((x, y), text, fill=fill, font=ImageFont.load_default(size), anchor=anchor)

    def title(self, x: float, y: float, text: str) -> None:
        self.text(x, y, text, 18, "black")

    def images(self, x: int, y: int, images: np.ndarray) -> None:
        """Images uint8 (n, 64, 64), 255 = ink, beside one another as dark ink on white with a frame."""
        for i, image in enumerate(images):
            framed = ImageOps.expand(Image.fromarray(255 - image[1:-1, 1:-1]), 1, 200)
            self.sheet.paste(framed, (x + i * (CANVAS + GAP), y))


def _reliability(pen: Pen, bins: list[dict], name: str, left: int, top: int) -> None:
    """A diagram of the share of right answers over their probability; bars from the diagonal, where both are equal."""
    pen.text(left, top, name)
    top += 26
    bottom, width = top + DIAGRAM, DIAGRAM // BINS
    pen.draw.rectangle((left, top, left + DIAGRAM, bottom), fill=PALE)
    for row in bins:
        x = left + round(int(min(row["probability"], 0.999) * BINS) * DIAGRAM / BINS)
        pen.draw.rectangle((x, bottom - round(DIAGRAM * row["right"]), x + width - 1, bottom), fill=BLUE)
    pen.draw.line((left, bottom, left + DIAGRAM, top), fill=(200, 60, 40), width=2)
    for share in (0, 50, 100):
        pen.text(left + share * DIAGRAM / 100, bottom + 4, str(share), 12, anchor="ma")
        pen.text(left - 6, bottom - share * DIAGRAM / 100, str(share), 12, anchor="rm")


def _calibration(pen: Pen, calibration: dict, top: int) -> None:
    """The reliability without the file's temperature and, where it names one, with it."""
    pen.title(MARGIN, top, "reliability: % right (bars) by the probability of the answer in %; on the line they agree")
    diagrams = [("_without_temperature", "softmax of the logits")]
    if calibration["temperature"] != 1:
        diagrams.append(("", f"with temperature {calibration['temperature']:.3f}"))
    for i, (which, name) in enumerate(diagrams):
        name += f": error {100 * calibration['error' + which]:.2f} %"
        _reliability(pen, calibration["bins" + which], name, MARGIN + 30 + i * WIDTH // 2, top + 30)


def _pair(pen: Pen, pair: dict, examples: dict, left: int, top: int) -> None:
    """True character, misread images, what they were read as, and an image of that which was read rightly."""
    names = f"U+{ord(pair['true']):04X} read as U+{ord(pair['predicted']):04X}"
    pen.text(left, top, f"{pair['count']} of {pair['of']} {names}", 14)
    y, step = top + 20, CANVAS + GAP
    pen.sheet.paste(draw_character(pair["true"], CANVAS), (left, y))
    pen.images(left + step + 8, y, examples["misread"][:MISREAD_SHOWN])
    x, middle = left + step * (MISREAD_SHOWN + 1) + 10, y + CANVAS // 2
    pen.draw.line((x + 4, middle, x + 34, middle), fill=GREY, width=3)
    pen.draw.polygon(((x + 34, middle - 7), (x + 46, middle), (x + 34, middle + 7)), fill=GREY)
    pen.sheet.paste(draw_character(pair["predicted"], CANVAS), (x + 52, y))
    pen.images(x + 52 + step, y, examples["read"][:1])


def evaluation_picture(result: dict, examples: list[dict]) -> Image.Image:
    """The picture, RGB, of an evaluation's result.

    examples holds for each of the confused pairs "misread", the images taken for the other character, and "read",
    images of that other one that were read rightly: uint8 (n, 64, 64).
    """
    pairs, below = result["confused"], 90 + DIAGRAM + 90
    pen = Pen(below + 40 + -(-len(pairs) // 2) * PAIR_HEIGHT + MARGIN)
    top1 = f"top-1 {result['top1']:.2f} % ± {result['top1_standard_error']:.2f} of {result['samples']:,} samples"
    pen.title(MARGIN, 16, f"{top1}: {result['model']['description']}")
    pen.title(MARGIN, 40, f"on {result['data']['description']}")
    _calibration(pen, result["calibration"], 90)
    title = "most confused pairs: true character, images, read as, an example of that" if pairs else "nothing misread"
    pen.title(MARGIN, below, title)
    for i, (pair, images) in enumerate(zip(pairs, examples, strict=True)):
        _pair(pen, pair, images, MARGIN + i % 2 * (PAIR_WIDTH + MARGIN), below + 34 + i // 2 * PAIR_HEIGHT)
    return pen.sheet
