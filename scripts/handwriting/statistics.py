"""TODO doc: from synthesize_etl9g"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from characters.jis import etl9g_classes
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
    """The statistics of REAL_STATISTICS for frames uint8 (n, 127, 128)."""
    boxes, widths, greys = [], [], []
    for frame in frames:
        ys, xs = np.nonzero(frame[4:-4, 4:-4] > 2)  # inside the edges, where frame fragments are
        boxes.append((xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) if len(xs) else (0, 0, 0, 0))
        ink = (frame > 0).astype(np.uint8)
        outline = sum(cv2.arcLength(c, True) for c in cv2.findContours(ink, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0])
        widths.append(2 * float(ink.sum()) / max(outline, 1))  # a long stroke has an edge on both sides
        greys.append(frame[frame > 2])
    x0, x1, y0, y1 = np.array(boxes).T
    kanji = ~kana

    def spread(values):
        return f"{values.mean():.0f} ± {values.std():.0f}"

    return {
        "ink width, px": spread((x1 - x0)[kanji]),
        "ink height, px": spread((y1 - y0)[kanji]),
        "centre x, px": spread((x0 + x1)[kanji] / 2 + 4),
        "centre y, px": spread((y0 + y1)[kanji] / 2 + 4),
        "stroke width, px (5 50 95 %)": "  ".join(
            f"{v:.1f}" for v in np.percentile(np.array(widths)[kanji], [5, 50, 95])
        ),
        "ink grey, of 15 (25 50 75 %)": "  ".join(
            f"{v:.0f}" for v in np.percentile(np.concatenate(greys), [25, 50, 75])
        ),
        "paper, % of pixels": f"{100 * (frames == 0).mean():.0f}",
        "hiragana, longer side, px": f"{np.maximum(x1 - x0, y1 - y0)[kana].mean():.0f}" if kana.any() else "none",
    }


def preview(paths: list[Path], rows: int = 24, columns: int = 20) -> Image.Image:
    """A contact sheet: a character a row, a writer (another set) a column."""
    sets = [(path, s) for path in paths for s in range(SETS_PER_FILE)][:columns]
    characters, _, _ = set_layout()
    classes = etl9g_classes()
    shown = [classes[i] for i in np.linspace(0, 70, rows // 2).astype(int)]
    shown += [classes[i] for i in np.linspace(71, len(classes) - 1, rows - len(shown)).astype(int)]
    records = [read_records(path)[0] for path, _ in sets]
    frames = np.stack(
        [
            unpack_images(r[[s * records_per_set() + characters.index(c) for c in shown]])
            for r, (_, s) in zip(records, sets, strict=True)
        ]
    )  # (columns, rows, 127, 128)
    tiles = 255 - frames.transpose(1, 2, 0, 3).reshape(rows * frames.shape[2], -1) * (255 // DARKEST)
    return Image.fromarray(tiles.astype(np.uint8)).resize(
        (tiles.shape[1] // 2, tiles.shape[0] // 2), Image.Resampling.LANCZOS
    )
