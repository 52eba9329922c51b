"""Fetch fonts that look handwritten, for the stand-in, from Debian (apt-get) and npm.

    python scripts/fetch_fonts.py --out fonts
    python scripts/synthesize_etl9g.py --sets 20 --out ETL9G/standin --font fonts

Needs apt-get, dpkg-deb and npm, but no administrator. handwriting/fonts.txt lists the fonts and their packages. The
licence is written beside each font. The fonts in OUT/held_out are for measuring a model (evaluate.py --font), not for
training. A font that is already there is not fetched again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

from characters.jis import etl9g_classes
from files.command_line import parser, run
from files.folders import OutputFolders
from handwriting.font_sources import fetch, font_sources
from handwriting.fonts import Glyphs


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=Path("fonts"), help="the folder for the fonts (default fonts)")
    given = options.parse_args()
    with OutputFolders(given.out):
        failures = list(fetch(given.out))
    for source in font_sources():
        if (path := source.path(given.out)).is_file():
            covered = sum(map(Glyphs(path).has, etl9g_classes()))
            print(f"{path}: {covered:,} of {len(etl9g_classes()):,} characters, {source.licence}, {source.use}")
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    run(main)
