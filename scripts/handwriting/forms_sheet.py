"""The table of forms as a picture: beside each other a character as KanjiVG has it and in a form, undistorted."""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from characters.class_lists import class_list
from handwriting.forms import MARKS, Form, forms_of_table
from handwriting.reshaping import reshaped
from handwriting.strokes import StrokeModel, stroke_models
from handwriting.variation import traces

CELL, LABEL, COLUMNS = 88, 12, 8
COMMON = "日一人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外"


def examples(forms: list[Form], most: int = 2, characters: str = "") -> list[list[tuple[str, tuple[int, ...]]]]:
    """For each form up to so many of these characters (default: all, common ones first) that have it, each with the
    strokes of the component; of kana every one."""
    found: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in forms]
    for char in characters or dict.fromkeys([*COMMON, *class_list("all")]):
        for name, position, strokes in stroke_models(char)[0].components:
            for form, own in zip(forms, found, strict=True):
                if name in form.chars and len(strokes) == form.count and form.fits(position):
                    limit = len(form.chars) if position == "whole" and name not in MARKS else most
                    if len(own) < limit:
                        own.append((char, strokes))
    return found


def draw_model(model: StrokeModel, size: int = CELL) -> np.ndarray:
    """A model as it stands, uint8 (size, size), 0 = ink."""
    joins = traces(model.strokes, np.flatnonzero(model.joined[:-1]))
    picture = np.full((size, size), 255, np.uint8)
    lines = [((line + 0.5) * (size - 1) * 16).astype(np.int32) for line in [*model.strokes, *joins]]
    cv2.polylines(picture, lines, False, 0, max(1, size // 40), cv2.LINE_AA, 4)
    return picture


def forms_sheet(forms: list[Form] | None = None) -> Image.Image:
    """The sheet, each pair under the line of the table and the shares of writers."""
    forms = list(forms_of_table()) if forms is None else forms
    pairs = [(form, example) for form, own in zip(forms, examples(forms), strict=True) for example in own]
    rows = -(-len(pairs) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (2 * CELL + 8), rows * (CELL + LABEL)), 255)
    for place, (form, (char, strokes)) in enumerate(pairs):
        row, column = divmod(place, COLUMNS)
        x, y = column * (2 * CELL + 8), row * (CELL + LABEL)
        plain = stroke_models(char)[0]
        both = np.hstack([draw_model(plain), draw_model(reshaped(plain, [(form, strokes)]))])
        sheet.paste(Image.fromarray(both), (x, y + LABEL))
        low, high = form.shares
        ImageDraw.Draw(sheet).text((x + 2, y), f"{form.line}: {low:g}" + f" to {high:g}" * (low != high), fill=90)
    return sheet
