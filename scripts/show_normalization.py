"""Draw pictures beside what the models see of them: the character alone, 64 x 64.

    python scripts/show_normalization.py photo.png drawings/ --output normalised.png
    python scripts/show_normalization.py --output normalised.png

Without pictures it draws a hundred made-up ones: characters in frames, on ruled paper, shaded, noisy, beside another
character. No model can read a picture whose character is lost or cut off here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import numpy as np
from PIL import Image

from characters.jis import etl9g_classes
from export.varied_pictures import borderline_pictures, grey_of, varied_pictures
from files.atomic import atomic_write
from files.command_line import parser, run
from images.finding import find_images
from images.normalization import CANVAS, normalize
from images.reading import read_grey

MADE_UP = 100
CELL, GAP, COLUMNS = 96, 6, 10


def cell(grey: np.ndarray) -> Image.Image:
    """A picture, grey values 0 to 255 (H, W), on the left, and on the right what becomes of it."""
    both = Image.new("L", (2 * CELL + 2 * GAP, CELL + GAP), 200)
    before = Image.fromarray(grey.astype(np.uint8))
    before.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    both.paste(before, ((CELL - before.width) // 2, (CELL - before.height) // 2))
    after = Image.fromarray((255 - 255 * normalize(grey)[0]).astype(np.uint8))
    both.paste(after, (CELL, (CELL - CANVAS) // 2))
    return both


def sheet(pictures: list[np.ndarray]) -> Image.Image:
    """All of the pictures, grey (H, W), ten in a row."""
    cells = [cell(grey) for grey in pictures]
    columns, (width, height) = min(COLUMNS, len(cells)), cells[0].size
    whole = Image.new("L", (columns * width, -(-len(cells) // columns) * height), 200)
    for number, drawn in enumerate(cells):
        whole.paste(drawn, (number % columns * width, number // columns * height))
    return whole


def made_up() -> list[np.ndarray]:
    borderline = len(borderline_pictures())
    return list(map(grey_of, varied_pictures(etl9g_classes(), borderline + MADE_UP)))[borderline:]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("images", nargs="*", metavar="IMAGE", type=Path, help="pictures or folders of them")
    options.add_argument("--output", type=Path, required=True, metavar="PNG", help="the PNG file to write")
    given = options.parse_args()
    paths = list(find_images(given.images, lambda line: print(f"note: {line}", file=sys.stderr)))
    pictures = list(map(read_grey, paths)) if given.images else made_up()
    with atomic_write(given.output) as temporary:
        sheet(pictures).save(temporary, format="PNG")
    print(f"{len(pictures)} pictures: {given.output}")


if __name__ == "__main__":
    run(main)
