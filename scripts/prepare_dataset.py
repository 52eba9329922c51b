"""Turn the raw files of ETL9G, or the stand-in, or your own pictures, into the dataset that training reads.

    python scripts/prepare_dataset.py --etl9g-dir ETL9G --output-dir dataset
    python scripts/prepare_dataset.py --images my_handwriting --output-dir dataset

Each raw file becomes one chunk of images in the input contract (images/normalization.py); then come
character_mapping.json and metadata.json. A chunk of the same raw file that is already there is kept, so a stopped run
goes on. A damaged file stops everything, one that is too short before anything is written.

A folder of pictures has a folder for each character, named by it or by its code point (U+6F22); or folders of writers
that hold such folders; or a labels.csv with the columns file,character,writer. Pictures are split by writer, or, where
no writer is named, by chance, copies of a picture together. What is prepared into a dataset that is already there
joins it, and takes the place of what came from the same folder before.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import argparse
import time

from characters.jis import etl9g_classes
from data.pictures import KIND, prepare_pictures
from data.preparing import prepare
from data.sources import entry_for, files_of_etl9g, other_sources, write_metadata
from files.command_line import at_least, parser, run
from files.folders import OutputFolders
from files.machine import MOST_PROCESSES, PROCESSES
from records.etl9g import find_raw


def prepare_all(given: argparse.Namespace) -> tuple[dict, list[str]]:
    """Prepares what is asked for; returns the metadata, and lines on the pictures."""
    folder, classes, lines = given.output_dir, etl9g_classes(), []
    processes = min(given.processes, MOST_PROCESSES)
    others = other_sources(folder)
    of_etl9g = prepare(given.raw, folder, given.skip_damaged, processes) if given.raw else files_of_etl9g(folder)
    for images in given.images:
        entry = entry_for(images, KIND, others)
        earlier = [folder / row["chunk"] for source in others if source["kind"] == KIND for row in source["files"]]
        source, notes = prepare_pictures(images, folder, entry, classes, [p for p in earlier if p.is_file()], processes)
        others = [other for other in others if other["id"] != entry["id"]] + [source | {"licence": given.licence}]
        counts = f"{source['samples']:,} images of {source['characters']:,} characters"
        lines += [f"{source['name']}: {counts}, split {source['split']}", *(f"  {note}" for note in notes)]
    return write_metadata(folder, classes, of_etl9g, others), lines


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--etl9g-dir", type=Path, metavar="DIR", help="of the raw files (default ETL9G)")
    options.add_argument("--images", type=Path, nargs="+", metavar="DIR", default=[], help="folders of pictures")
    options.add_argument("--licence", metavar="TEXT", help="of these pictures, to be kept in metadata.json")
    options.add_argument("--output-dir", type=Path, default=Path("dataset"), help="of the dataset (default dataset)")
    options.add_argument("--skip-damaged", action="store_true", help="leave damaged records out, and count them")
    options.add_argument("--processes", type=at_least(1), default=PROCESSES, help="default: one a core")
    given = options.parse_args()
    if given.licence and not given.images:
        options.error("--licence is that of --images")
    given.raw = find_raw(given.etl9g_dir or Path("ETL9G")) if given.etl9g_dir or not given.images else []
    begin = time.monotonic()
    with OutputFolders(given.output_dir):
        made, lines = prepare_all(given)
    images = f"{made['samples']:,} images of {made['classes']:,} classes"
    origin = f" from {len(given.raw)} files" if not made.get("sources") else ""
    print(f"{images}{origin} ({made['source']}) in {given.output_dir}: {time.monotonic() - begin:.1f} s")
    for line in lines:
        print(line)
    if made["damaged_records"]:
        print(f"{made['damaged_records']:,} damaged records left out")
    if stray := sum(facts.get("out_of_order", 0) for facts in made["files"]):
        print(f"note: {stray:,} records do not stand at their known place in the set (their JIS codes were used)")


if __name__ == "__main__":
    run(main)
