"""Where handwriting fonts come from: the table fonts.txt, and the packages of Debian and npm that hold them."""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from files.atomic import atomic_write, scratch_folder

TABLE = Path(__file__).with_name("fonts.txt")
HELD_OUT = "held_out"  # the folder of those that measure
FETCH = {"apt": ["apt-get", "download"], "npm": ["npm", "pack"]}
LICENCE = {"apt": ["copyright"], "npm": ["LICENSE_FONT", "LICENSE"]}  # the first of these files that a package has
PATIENCE = 600  # seconds, for a package


@dataclass(frozen=True)
class FontSource:
    """A line of the table."""

    name: str
    client: str
    package: str
    file: str
    licence: str
    use: str

    def path(self, folder: Path) -> Path:
        """Where the font lies in a folder of fonts; its licence lies beside it."""
        return (folder / HELD_OUT if self.use == HELD_OUT else folder) / f"{self.name}.ttf"


def font_sources() -> list[FontSource]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [FontSource(*line.split()) for line in lines if not line.startswith("#")]


def _called(command: list[str], folder: Path) -> bytes:
    """What a command prints in a folder. Raises OSError where it is not installed, fails or takes too long."""
    if not shutil.which(command[0]):
        raise OSError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} did not end within {PATIENCE} seconds") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reasons = [line for line in lines if re.match(r"E:|npm (error|ERR!)", line)] or lines or ["no reason given"]
        raise OSError(f"{' '.join(command)} failed: {reasons[0]}")
    return done.stdout


def _files_of(client: str, package: str, folder: Path) -> dict[str, bytes]:
    """The files of a package that is fetched into an empty folder, by their names without folders."""
    _called([*FETCH[client], package], folder)
    fetched = [path for path in folder.iterdir() if path.suffix in {".deb", ".tgz"}]
    if len(fetched) != 1:
        raise OSError(f"{FETCH[client][0]} left no package")
    is_deb = fetched[0].suffix == ".deb"
    content = _called(["dpkg-deb", "--fsys-tarfile", str(fetched[0])], folder) if is_deb else fetched[0].read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [member for member in archive if member.isfile()]
        return {Path(member.name).name: archive.extractfile(member).read() for member in members}


def fetch(folder: Path) -> Iterator[str]:
    """Fetches the fonts that a folder lacks, each with its licence beside it; yields a line for each that cannot be."""
    lacking = [source for source in font_sources() if not source.path(folder).is_file()]
    for (client, package), group in groupby(lacking, lambda source: (source.client, source.package)):
        sources = list(group)
        try:
            with scratch_folder(folder / "package") as scratch:
                files = _files_of(client, package, scratch)
            for source in sources:
                licence = source.path(folder).with_suffix(".licence.txt")
                text = next(filter(files.__contains__, LICENCE[client]), LICENCE[client][0])
                for path, name in ((licence, text), (source.path(folder), source.file)):
                    if name not in files:
                        raise OSError(f"{name} is not in it")
                    with atomic_write(path) as temporary:
                        temporary.write_bytes(files[name])
        except (OSError, tarfile.TarError) as error:
            yield f"{', '.join(source.name for source in sources)}: {package} cannot be fetched: {error}"
