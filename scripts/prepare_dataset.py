"""Turn the raw files of ETL9G, or the stand-in, into the dataset that training reads.

    python scripts/prepare_dataset.py --etl9g-dir ETL9G --output-dir dataset

Each raw file becomes one chunk of images in the input contract (images/normalization.py); then come
character_mapping.json and metadata.json. A chunk of the same raw file that is already there is kept, so a stopped run
goes on. A damaged file stops everything, one that is too short before anything is written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also under PYTHONSAFEPATH
import files.start

import time

from data.preparing import prepare
from files.command_line import at_least, parser, run
from files.folders import OutputFolders
from files.machine import MOST_PROCESSES, PROCESSES
from records.etl9g import find_raw


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--etl9g-dir", type=Path, default=Path("ETL9G"), help="of the raw files (default ETL9G)")
    options.add_argument("--output-dir", type=Path, default=Path("dataset"), help="of the dataset (default dataset)")
    options.add_argument("--skip-damaged", action="store_true", help="leave damaged records out, and count them")
    options.add_argument("--processes", type=at_least(1), default=PROCESSES, help="default: one a core")
    given = options.parse_args()
    paths, folder = find_raw(given.etl9g_dir), given.output_dir
    begin = time.monotonic()
    with OutputFolders(folder):
        made = prepare(paths, folder, given.skip_damaged, min(given.processes, MOST_PROCESSES))
    images = f"{made['samples']:,} images of {made['classes']:,} classes"
    print(f"{images} from {len(paths)} files ({made['source']}) in {folder}: {time.monotonic() - begin:.1f} s")
    if made["damaged_records"]:
        print(f"{made['damaged_records']:,} damaged records left out")
    if stray := sum(facts["out_of_order"] for facts in made["files"]):
        print(f"note: {stray:,} records do not stand at their known place in the set (their JIS codes were used)")


if __name__ == "__main__":
    run(main)
