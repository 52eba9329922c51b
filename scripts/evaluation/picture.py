"""One picture of an evaluation: its figures, robustness table, reliability, worst classes and confused pairs.

Characters are drawn from KanjiVG's strokes (CC BY-SA 3.0), so no Japanese font is needed.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from evaluation.recognition_picture import draw_character
from evaluation.report import plural
from images.normalization import CANVAS
from inference.confidence import BINS

MARGIN, GAP = 24, 6
MISREAD_SHOWN = 4  # of each confused pair
PAIR_WIDTH, PAIR_HEIGHT = (MISREAD_SHOWN + 3) * (CANVAS + GAP) + 62, CANVAS + 30
WIDTH = 2 * PAIR_WIDTH + 3 * MARGIN
DIAGRAM = 200  # side of a reliability diagram
BAR = (70, 110, 170)
GREY = (110, 110, 110)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _ascii(text: str) -> str:
    """What Pillow's own font can write: other characters as their code points."""
    return "".join(c if c.isascii() or c in "°±" else f"U+{ord(c):04X}" for c in text)


def _shortened(text: str, font, width: int) -> str:
    """The text, or its end where it is wider than this many pixels."""
    if font.getlength(text) <= width:
        return text
    while font.getlength("... " + text) > width:
        text = text[1:]
    return "... " + text


def _ink(image: np.ndarray) -> Image.Image:
    """uint8 (64, 64), 255 = ink, as dark ink on white with a frame."""
    picture = Image.fromarray(255 - image).convert("RGB")
    ImageDraw.Draw(picture).rectangle((0, 0, CANVAS - 1, CANVAS - 1), outline=(200, 200, 200))
    return picture


def _figures(pen: ImageDraw.ImageDraw, result: dict, lines: list[tuple[str, str]], top: int) -> None:
    """Title and the headline figures, at the left."""
    pen.text((MARGIN, top), f"top-1  {result['top1']:.2f} %", fill="black", font=_font(40))
    for i, (name, value) in enumerate(lines):
        pen.text((MARGIN, top + 58 + 22 * i), _ascii(name), fill=GREY, font=_font(16))
        pen.text((MARGIN + 190, top + 58 + 22 * i), _ascii(value).strip(), fill="black", font=_font(16))


def _robustness(pen: ImageDraw.ImageDraw, result: dict, left: int, top: int) -> None:
    """Bars of the top-1 under each distortion, from 0 to 100 %."""
    robustness, length = result["robustness"], 300
    samples = f"{robustness['samples']:,} {plural(robustness['samples'], 'sample', 'samples')}"
    pen.text((left, top), f"robustness: top-1 of {samples}", fill="black", font=_font(18))
    for i, (name, top1) in enumerate(robustness["top1"].items()):
        y, start = top + 30 + 24 * i, left + 120
        pen.text((left, y), _ascii(name), fill=GREY, font=_font(16))
        pen.rectangle((start, y + 2, start + length, y + 18), fill=(235, 235, 235))
        if top1 > 0:
            pen.rectangle((start, y + 2, start + round(length * top1 / 100), y + 18), fill=BAR)
        pen.text((start + length + 10, y), f"{top1:6.2f} %", fill="black", font=_font(16))


def _reliability(pen: ImageDraw.ImageDraw, bins: list[dict], told: str, left: int, top: int) -> None:
    """A diagram of the share of right answers over their probability; bars from the diagonal, where both are equal."""
    pen.text((left, top), told, fill=GREY, font=_font(16))
    top += 26
    bottom, right = top + DIAGRAM, left + DIAGRAM
    pen.rectangle((left, top, right, bottom), fill=(245, 245, 245))
    for row in bins:
        place = int(min(row["probability"], 0.999) * BINS)
        x, width = left + round(place * DIAGRAM / BINS), DIAGRAM // BINS
        pen.rectangle((x, bottom - round(DIAGRAM * row["right"]), x + width - 1, bottom), fill=BAR)
    pen.line((left, bottom, right, top), fill=(200, 60, 40), width=2)
    for share in (0, 0.5, 1):
        pen.text((left + share * DIAGRAM, bottom + 4), f"{100 * share:.0f}", fill=GREY, font=_font(12), anchor="ma")
        pen.text((left - 6, bottom - share * DIAGRAM), f"{100 * share:.0f}", fill=GREY, font=_font(12), anchor="rm")


def _calibration(pen: ImageDraw.ImageDraw, calibration: dict, top: int) -> None:
    """The reliability without the file's temperature and, where it names one, with it."""
    told = "reliability: % right (bars) over the probability of the answer in %; on the line both are equal"
    pen.text((MARGIN, top), told, fill="black", font=_font(18))
    drawn = [("bins_without_temperature", "error_without_temperature", "softmax of the logits")]
    if calibration["temperature"] != 1:
        drawn.append(("bins", "error", f"with temperature {calibration['temperature']:.3f}"))
    for i, (bins, error, name) in enumerate(drawn):
        left = MARGIN + 30 + i * WIDTH // 2
        _reliability(pen, calibration[bins], f"{name}: error {100 * calibration[error]:.2f} %", left, top + 30)


def _worst_classes(sheet: Image.Image, pen: ImageDraw.ImageDraw, worst: list[dict], top: int) -> None:
    pen.text((MARGIN, top), "least well read classes: right of all", fill="black", font=_font(18))
    step = (WIDTH - 2 * MARGIN) // 20
    for i, row in enumerate(worst[:20]):
        x = MARGIN + step * i
        sheet.paste(draw_character(row["character"], 44), (x, top + 28))
        pen.text((x + 22, top + 74), f"{row['right']}/{row['samples']}", fill=GREY, font=_font(14), anchor="ma")


def _pair(sheet: Image.Image, pen: ImageDraw.ImageDraw, pair: dict, examples: dict, left: int, top: int) -> None:
    """True character, misread images, what they were read as, and an image of that which was read rightly."""
    told = f"{pair['count']} of {pair['of']} U+{ord(pair['true']):04X} read as U+{ord(pair['predicted']):04X}"
    pen.text((left, top), told, fill=GREY, font=_font(14))
    x, y, step = left, top + 20, CANVAS + GAP
    sheet.paste(draw_character(pair["true"], CANVAS), (x, y))
    for i, image in enumerate(examples["misread"][:MISREAD_SHOWN]):
        sheet.paste(_ink(image), (x + step * (i + 1) + 8, y))
    x += step * (MISREAD_SHOWN + 1) + 10
    middle = y + CANVAS // 2
    pen.line((x + 4, middle, x + 34, middle), fill=GREY, width=3)
    pen.polygon(((x + 34, middle - 7), (x + 46, middle), (x + 34, middle + 7)), fill=GREY)
    sheet.paste(draw_character(pair["predicted"], CANVAS), (x + 52, y))
    for image in examples["read"][:1]:
        sheet.paste(_ink(image), (x + 52 + step, y))


def evaluation_picture(result: dict, lines: list[tuple[str, str]], examples: list[dict]) -> Image.Image:
    """The picture, RGB, of what evaluate.py found.

    lines are its headline figures as (name, value); examples holds for each of the confused pairs "misread", the images
    taken for the other character, and "read", images of that other one that were read rightly: uint8 (n, 64, 64).
    """
    pairs, worst = result["confused"], result["worst_classes"]
    below_figures = 74 + max(58 + 22 * len(lines), 30 + 24 * len(result["robustness"]["top1"])) + 16
    below_reliability = below_figures + DIAGRAM + 90
    below_worst = below_reliability + (112 if worst else 0)
    height = below_worst + 40 + -(-len(pairs) // 2) * PAIR_HEIGHT + MARGIN
    sheet = Image.new("RGB", (WIDTH, height), "white")
    pen = ImageDraw.Draw(sheet)
    for y, name in ((16, "model"), (40, "data")):
        text = _ascii(result[name]["told"])
        pen.text((MARGIN, y), _shortened(text, _font(18), WIDTH - 2 * MARGIN), fill="black", font=_font(18))
    _figures(pen, result, lines, 74)
    _robustness(pen, result, WIDTH // 2, 74)
    _calibration(pen, result["calibration"], below_figures)
    if worst:
        _worst_classes(sheet, pen, worst, below_reliability)
    title = "most confused pairs: true character, images, read as, an example of that" if pairs else "nothing misread"
    pen.text((MARGIN, below_worst), title, fill="black", font=_font(18))
    for i, (pair, images) in enumerate(zip(pairs, examples, strict=True)):
        left, top = MARGIN + i % 2 * (PAIR_WIDTH + MARGIN), below_worst + 34 + i // 2 * PAIR_HEIGHT
        _pair(sheet, pen, pair, images, left, top)
    return sheet
