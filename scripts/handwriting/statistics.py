"""What a stand-in looks like: its measures beside those of real scans, and a contact sheet."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from characters.jis import character, etl9g_classes
from characters.kinds import is_hiragana
from records.etl9g import DARKEST, SETS_PER_FILE, read_records, records_per_set, set_layout, unpack_images

# What real scans of this family measure (960 ETL8G frames, same scanner and form), for comparison.
REAL_STATISTICS = {
    "ink width, px": "65 ± 9",
    "ink height, px": "79 ± 8",
    "centre x, px": "60 ± 4",
    "centre y, px": "66 ± 5",
    "stroke width, px (5 50 95 %)": "4.6  5.7  7.0",
    "ink grey, of 15 (25 50 75 %)": "5  7  8",
    "paper, % of pixels": "91",
    "hiragana, longer side, px": "54",
}


def measure(frames: np.ndarray, kana: np.ndarray) -> dict[str, str]:
    """The statistics of REAL_STATISTICS for frames uint8 (n, 127, 128), of which those of `kana` (n,) are hiragana."""
    boxes, widths, greys = [], [], []
    for frame in frames:
        ys, xs = np.nonzero(frame[4:-4, 4:-4] > 2)  # inside the edges, where frame fragments are
        boxes.append((xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) if len(xs) else (0, 0, 0, 0))
        ink = (frame > 0).astype(np.uint8)
        outline = sum(cv2.arcLength(c, True) for c in cv2.findContours(ink, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0])
        widths.append(2 * float(ink.sum()) / max(outline, 1))  # a long stroke has an edge on both sides
        greys.append(frame[frame > 2])
    x0, x1, y0, y1 = np.array(boxes).T
    of_kanji = [values[~kana] for values in (x1 - x0, y1 - y0, (x0 + x1) / 2 + 4, (y0 + y1) / 2 + 4)]
    stroke_widths = np.percentile(np.array(widths)[~kana], [5, 50, 95])
    values = [
        *(f"{values.mean():.0f} ± {values.std():.0f}" for values in of_kanji),
        "  ".join(f"{width:.1f}" for width in stroke_widths),
        "  ".join(f"{grey:.0f}" for grey in np.percentile(np.concatenate(greys), [25, 50, 75])),
        f"{100 * (frames == 0).mean():.0f}",
        f"{np.maximum(x1 - x0, y1 - y0)[kana].mean():.0f}" if kana.any() else "none",
    ]
    return dict(zip(REAL_STATISTICS, values, strict=True))


def measure_file(path: Path) -> dict[str, str]:
    """The statistics of every third character of a file's first set."""
    records = read_records(path)[0][: records_per_set() : 3]
    return measure(unpack_images(records), np.array([is_hiragana(character(code)) for code in records["jis"].tolist()]))


def preview(paths: list[Path], rows: int = 24, columns: int = 20) -> Image.Image:
    """A contact sheet of whole files at half size: a character a row, a writer (another set) a column."""
    classes, order = etl9g_classes(), set_layout()[0]
    kana = sum(map(is_hiragana, classes))
    shown = [*np.linspace(0, kana - 1, rows // 2), *np.linspace(kana, len(classes) - 1, rows - rows // 2)]
    places = np.array([order.index(classes[int(i)]) for i in shown])
    sets = [(path, s * records_per_set()) for path in paths for s in range(SETS_PER_FILE)][:columns]
    frames = np.stack([unpack_images(read_records(path)[0][begin + places]) for path, begin in sets], axis=2)
    tiles = 255 - frames.reshape(rows * frames.shape[1], -1) * (255 // DARKEST)  # frames (rows, 127, columns, 128)
    return Image.fromarray(tiles).resize((tiles.shape[1] // 2, tiles.shape[0] // 2), Image.Resampling.LANCZOS)
