"""Look for files that a reader takes badly with a coverage-guided fuzzer, which keeps what reaches new code.

    pip install -r requirements-fuzzing.txt
    python tests/coverage_fuzzing.py mapping -runs=200000

READER is one of tests/readers.py; what follows goes to libFuzzer. Half of the inputs are recipes of damage, as in
tests/test_bad_input.py, half are the file itself, to begin with the whole one. It ends at the first input that is
neither read right nor refused in one line, takes more than ten seconds, or more than 1 GiB beyond what is loaded.
"""

import gc
import logging
import resource
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

# atheris never frees what a comparison of arrays gives, half a megabyte for a file of records.
SCRIPTS = [path.stem for path in (ROOT / "scripts").rglob("*.py") if path.stem != "normalization"]
MOST_MEGABYTES = 1024

with atheris.instrument_imports(include=SCRIPTS):
    from readers import READERS, Reader


def try_input(reader: Reader, data: bytes) -> None:
    """Damages the file by this recipe, or, where the first byte is odd, takes the rest as the file."""
    if data[:1] and data[0] % 2:
        reader.read_content(data[1:])
    else:
        reader.try_damaged(data[1:])


def main() -> None:
    name, *options = sys.argv[1:] or ["none"]
    if name not in READERS:
        sys.exit(f"error: READER is one of {', '.join(READERS)}")
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        reader = READERS[name](Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, whole in enumerate(reader.whole):
            (corpus / str(number)).write_bytes(b"\1" + whole)
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        limits = [
            "-timeout=10",
            f"-rss_limit_mb={now + MOST_MEGABYTES}",
            f"-max_len={max(map(len, reader.whole)) + 1000}",
        ]
        gc.freeze()
        atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], lambda data: try_input(reader, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
