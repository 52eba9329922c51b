"""A picture of what was read: each image and its five likeliest characters in KanjiVG's strokes (CC BY-SA 3.0)."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from files.atomic import atomic_write
from handwriting.strokes import read_model
from structure.kanjivg import has_strokes, model_files

CELL = 72
RIGHT, WRONG, UNKNOWN = (40, 140, 60), (200, 50, 40), (110, 110, 110)


def draw_character(char: str, side: int) -> Image.Image:
    """A character as a tidy glyph, RGB (side, side); an empty box for one that KanjiVG lacks."""
    canvas = np.full((2 * side, 2 * side), 255, np.uint8)
    for stroke in read_model(model_files(char)[0]).strokes if has_strokes(char) else ():
        points = ((stroke + 0.5) * 2 * side * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, 0, max(2, side // 18), cv2.LINE_AA, 4)
    return Image.fromarray(canvas).resize((side, side), Image.Resampling.LANCZOS).convert("RGB")


class RecognitionPicture:
    """Collects images with what was read, the first 100, and draws them in two columns."""

    def __init__(self) -> None:
        self.rows: list[tuple[str | None, np.ndarray, list[tuple[str, float]]]] = []

    def add(self, truth: str | None, image: np.ndarray, top: list[tuple[str, float]]) -> None:
        """An image, grey values 0 to 255 (H, W), its character if known, and the likeliest with their probabilities."""
        if len(self.rows) < 100:
            self.rows.append((truth, image.astype(np.uint8), top[:5]))

    def write(self, path: Path) -> None:
        """As a PNG file: framed green where the first character is right, red where it is wrong, grey if unknown."""
        height, width = CELL + 22, 7 * CELL
        lines = -(-len(self.rows) // 2)
        sheet = Image.new("RGB", (2 * width, lines * height + 8), "white")
        for i, row in enumerate(self.rows):
            _draw_row(sheet, i // lines * width, i % lines * height + 4, *row)
        with atomic_write(path) as temporary:
            sheet.save(temporary, format="PNG", optimize=True)


def _draw_row(sheet: Image.Image, x: int, y: int, truth: str | None, image: np.ndarray, top: list) -> None:
    draw = ImageDraw.Draw(sheet)
    picture = Image.fromarray(image).convert("RGB")
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    sheet.paste(picture, (x + 8, y + 4))
    is_right = bool(top) and top[0][0] == truth
    colour, verdict = (RIGHT, "right") if is_right else (WRONG, "wrong") if truth else (UNKNOWN, "")
    draw.rectangle((x + 6, y + 2, x + CELL + 10, y + CELL + 6), outline=colour, width=3)
    draw.text((x + 8, y + CELL + 7), verdict, fill=colour)
    if verdict == "wrong":
        sheet.paste(draw_character(truth, 14), (x + CELL - 6, y + CELL + 8))
    for k, (char, probability) in enumerate(top):
        left = x + CELL + 24 + k * (CELL + 4)
        sheet.paste(draw_character(char, CELL - 8), (left, y + 6))
        draw.text((left + 12, y + CELL + 7), f"{100 * probability:.1f} %", fill=RIGHT if char == truth else UNKNOWN)
        if char == truth:
            draw.rectangle((left - 2, y + 4, left + CELL - 6, y + CELL), outline=RIGHT)
