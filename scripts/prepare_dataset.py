"""Turn the raw files of ETL9G, or the stand-in, other ETL sets or your own pictures into what training reads.

    python scripts/prepare_dataset.py --etl9g-dir ETL9G --output-dir dataset
    python scripts/prepare_dataset.py --images my_handwriting --output-dir dataset

Each raw file becomes one chunk of images in the input contract (images/normalization.py); then come
character_mapping.json and metadata.json. A chunk of the same raw file that is already there is kept, so a stopped run
continues. A damaged file stops everything; one that is too short, before anything is written. A folder of raw files is
of ETL9G or, by their names, of ETL1 to ETL7, ETL8B2, ETL8G or ETL9B.

A folder of pictures has a folder for each character, named by it or by its code point (U+6F22); or folders of writers
that hold such folders; or pictures whose names begin with it (漢_1.png, U+6F22_1.png), as the page in web/ saves them;
or a labels.csv with the columns file,character,writer. Pictures are split by writer, or, where
no writer is named, by chance, copies of a picture together. What is prepared into a dataset that is already there
joins it, and replaces what came from the same folder, or the same ETL set, before.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse
import time

from characters.class_lists import LISTS, class_list
from characters.jis import etl9g_classes
from data.drawn import entry_for_drawn, prepare_drawn
from data.etl_files import prepare_files
from data.labelled import labelled_pictures
from data.pictures import KIND, prepare_pictures
from data.preparing import prepare
from data.sources import classes_of, entry_for, files_of_etl9g, other_sources, write_metadata
from files.command_line import InputError, at_least, parser, run
from files.folders import OutputFolders
from files.machine import MOST_PROCESSES, PROCESSES
from handwriting.fonts import find_fonts
from records.etl9g import find_raw
from records.etl_sets import find_set


def prepare_all(given: argparse.Namespace) -> tuple[dict, list[str]]:
    """Prepares what is asked for; returns the metadata, and lines on the sources."""
    folder, processes = given.output_dir, min(given.processes, MOST_PROCESSES)
    others, classes = other_sources(folder), classes_of(folder, given.classes)
    of_etl9g = [] if given.etl9g else files_of_etl9g(folder)
    if (given.etl9g or of_etl9g) and not classes.startswith(etl9g_classes()):
        raise InputError("ETL9G's records need a class list that begins with ETL9G's: its first line must be + etl9g")
    made = []
    for place in given.images if given.synthetic else ():
        labelled_pictures(place)  # which says what is wrong with a folder before the drawing, not after it
    if given.synthetic:
        entry = entry_for_drawn(others, given.seed)
        made.append(prepare_drawn(given.synthetic, given.seed, given.fonts, folder, entry, classes, processes))
    for place, kind, paths in [*given.sets, *((images, KIND, []) for images in given.images)]:
        known = [*others, *(source for source, _ in made)]
        entry = entry_for(place, kind, paths, known) | ({"licence": given.licence} if given.licence else {})
        if kind == KIND:
            earlier = [folder / row["chunk"] for source in known if source["kind"] == KIND for row in source["files"]]
            made.append(prepare_pictures(place, folder, entry, classes, earlier, processes))
        else:
            made.append(prepare_files(kind, paths, folder, entry, classes, given.skip_damaged, processes))
    by_id = {source["id"]: source for source in [*others, *(source for source, _ in made)]}
    if given.etl9g:  # last, as it takes away the metadata of what it replaces
        of_etl9g = prepare(given.etl9g, folder, given.skip_damaged, processes)
    return write_metadata(folder, classes, of_etl9g, [by_id[i] for i in sorted(by_id)]), described(made)


def described(made: list[tuple[dict, list[str]]]) -> list[str]:
    """Lines on the sources that were prepared, and what was left out of them."""
    lines = []
    for source, notes in made:
        counts = f"{source['samples']:,} images of {source['characters']:,} characters"
        lines += [f"{source['name']}: {counts}, split {source['split']}", *(f"  {note}" for note in notes)]
    return lines


def find_all(given: argparse.Namespace) -> None:
    """Sets `etl9g` to the raw files of ETL9G, and `sets` to the other folders of raw files with what they hold."""
    given.etl9g, given.sets = [], []
    for folder in given.etl9g_dir or ([] if given.images or given.synthetic else [Path("ETL9G")]):
        if found := find_set(folder):
            given.sets.append((folder, *found))
        elif given.etl9g:
            raise InputError(f"{given.etl9g[0].parent} and {folder} are both of ETL9G: give one of them")
        else:
            given.etl9g = find_raw(folder)


def main() -> None:
    options = parser(__doc__)
    raw = "folders of raw files, each of one ETL set (default ETL9G)"
    options.add_argument("--etl9g-dir", "--raw", type=Path, nargs="+", metavar="DIR", help=raw)
    options.add_argument("--images", type=Path, nargs="+", metavar="DIR", default=[], help="folders of pictures")
    options.add_argument("--synthetic", type=at_least(1), metavar="SETS", help="sets to draw, each by other writers")
    options.add_argument("--characters", metavar="LIST", help=f"the classes: {', '.join(LISTS)}, or a text file")
    options.add_argument("--seed", type=at_least(0), default=0, help="of what is drawn (default 0)")
    options.add_argument("--font", type=Path, action="append", default=[], help="fonts that some of its writers copy")
    options.add_argument("--licence", metavar="TEXT", help="of these pictures, to be kept in metadata.json")
    options.add_argument("--output-dir", type=Path, default=Path("dataset"), help="of the dataset (default dataset)")
    options.add_argument("--skip-damaged", action="store_true", help="leave damaged records out, and count them")
    options.add_argument("--processes", type=at_least(1), default=PROCESSES, help="default: one a core")
    given = options.parse_args()
    given.classes = class_list(given.characters) if given.characters else None
    find_all(given)
    given.fonts = find_fonts(given.font)
    if given.licence and not (given.images or given.sets):
        options.error("--licence is that of pictures, or of another set than ETL9G")
    begin = time.monotonic()
    with OutputFolders(given.output_dir):
        made, lines = prepare_all(given)
    images = f"{made['samples']:,} images of {made['classes']:,} classes"
    origin = f" from {len(given.etl9g)} files" if not made.get("sources") else ""
    print(f"{images}{origin} ({made['source']}) in {given.output_dir}: {time.monotonic() - begin:.1f} s")
    for line in lines:
        print(line)
    if made["damaged_records"]:
        print(f"{made['damaged_records']:,} damaged records left out")
    if stray := sum(facts.get("out_of_order", 0) for facts in made["files"]):
        print(f"note: {stray:,} records do not stand at their known place in the set (their JIS codes were used)")


if __name__ == "__main__":
    run(main)
