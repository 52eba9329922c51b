"""Make a stand-in for ETL9G: raw files in its exact format, drawn from KanjiVG strokes by made-up writers.

    python scripts/synthesize_etl9g.py --sets 20 --out ETL9G/standin --seed 0 --preview standin.png

A set is 3,036 characters on 20 sheets, each sheet by a writer of its own; a file ETL9G_NN holds 4 sets. Every record
depends on (seed, set, record) alone, however many processes draw. A file that is already there is not made again.

    python scripts/synthesize_etl9g.py --forms forms.png

draws the table of the forms that people write, scripts/handwriting/forms.txt: each beside KanjiVG's.
Strokes: KanjiVG, CC BY-SA 3.0; what is made from them carries that licence.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import time

from PIL import Image

from files.atomic import atomic_write
from files.command_line import at_least, parser, run
from files.folders import OutputFolders
from files.machine import MOST_PROCESSES, PROCESSES
from handwriting.fonts import FONT_SHARE, find_fonts
from handwriting.forms_sheet import forms_sheet
from handwriting.standin import contact_sheet, synthesize
from records.etl9g import FILES, SETS_PER_FILE, records_per_file


def _write_png(picture: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
    print(f"contact sheet: {path}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sets", type=int, default=20, help="of one sample a class, a multiple of 4 (default 20)")
    options.add_argument("--out", type=Path, default=Path("ETL9G/standin"), help="their folder (default ETL9G/standin)")
    options.add_argument("--seed", type=int, default=0, help="another seed is other people (default 0)")
    options.add_argument("--font", type=Path, action="append", default=[], help="a handwriting font, or a folder")
    options.add_argument("--font-share", type=float, default=FONT_SHARE, help=f"of the sheets, a font ({FONT_SHARE})")
    options.add_argument("--preview", type=Path, help="also write a contact sheet to this PNG")
    options.add_argument("--processes", type=at_least(1), default=PROCESSES, help="default: one a core")
    options.add_argument("--forms", type=Path, help="only draw the table of forms as a contact sheet to this PNG")
    given = options.parse_args()
    if given.sets not in range(SETS_PER_FILE, FILES * SETS_PER_FILE + 1, SETS_PER_FILE):
        options.error(f"--sets must be a multiple of {SETS_PER_FILE}, up to {FILES * SETS_PER_FILE}")
    if not 0 <= given.seed < 10**8:  # it has to fit into a record's undefined bytes
        options.error("--seed must lie between 0 and 99,999,999")
    if given.forms:
        _write_png(forms_sheet(), given.forms)
        return
    if not 0 < given.font_share <= 1:
        options.error("--font-share must lie in (0, 1]")
    fonts = find_fonts(given.font, given.font_share)  # before anything is drawn
    begin = time.monotonic()
    with OutputFolders(given.out):
        processes = min(given.processes, MOST_PROCESSES)
        paths, mark, drawn = synthesize(given.out, given.sets, given.seed, fonts, processes)
    seconds = time.monotonic() - begin
    print(f"{len(paths)} files, {given.sets} sets, {len(paths) * records_per_file():,} records in {given.out} ({mark})")
    if drawn:
        print(f"{drawn:,} drawn in {seconds:.1f} s, {drawn / seconds:,.0f} a second")
    if given.preview:
        _write_png(contact_sheet(paths), given.preview)


if __name__ == "__main__":
    run(main)
