"""fetch_fonts.py with apt-get, dpkg-deb and npm that a test makes: what it fetches, what it says where it cannot."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from data.samples import font_samples
from files.command_line import InputError
from handwriting import font_sources
from handwriting.fonts import Fonts, Hands, find_fonts
from script_runs import run_script

TABLE = """# name client package file licence use
neat apt fonts-neat neat.ttf OFL-1.1 trained
fast npm @fonts/fast Fast.ttf OFL-1.1 trained
other npm @fonts/other Other.ttf OFL-1.1 held_out
"""
# Each writes a package that a test made, or fails as the real one does; dpkg-deb prints what a .deb holds.
CLIENTS = {
    "apt-get": 'cp "$PACKAGES/$2.tar" "$2.deb" 2>/dev/null || { echo W >&2; echo "E: no package $2" >&2; exit 100; }',
    "npm": 'cp "$PACKAGES/$(basename "$2").tar" font.tgz 2>/dev/null || { echo "npm error code E404" >&2; exit 1; }',
    "dpkg-deb": 'cat "$2"',
}


@pytest.fixture
def clients(tmp_path, square_font, monkeypatch) -> Path:
    """Puts the clients on the path, and a package of each font of the table; returns the folder of packages."""
    packages, programs = tmp_path / "packages", tmp_path / "programs"
    for folder in (packages, programs):
        folder.mkdir()
    for name, script in CLIENTS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "licence").write_text("as you like")
    for package, font, licence in (
        ("fonts-neat", "usr/share/fonts/neat.ttf", "usr/share/doc/fonts-neat/copyright"),
        ("fast", "package/400Regular/Fast.ttf", "package/LICENSE_FONT"),
        ("other", "package/Other.ttf", "package/LICENSE"),
    ):
        with tarfile.open(packages / f"{package}.tar", "w") as archive:
            archive.add(square_font, font)
            archive.add(tmp_path / "licence", licence)
    (tmp_path / "fonts.txt").write_text(TABLE)
    monkeypatch.setattr(font_sources, "TABLE", tmp_path / "fonts.txt")
    monkeypatch.setenv("PACKAGES", str(packages))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return packages


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fonts_come_with_their_licences_and_only_once(clients, tmp_path, square_font):
    folder = tmp_path / "fonts"
    assert list(font_sources.fetch(folder)) == []
    names = ["fast", "held_out/other", "neat"]
    assert made(folder) == sorted(f"{name}{end}" for name in names for end in (".licence.txt", ".ttf"))
    assert (folder / "neat.ttf").read_bytes() == square_font.read_bytes()
    assert (folder / "held_out/other.licence.txt").read_text() == "as you like"
    for package in clients.iterdir():
        package.unlink()
    assert list(font_sources.fetch(folder)) == []  # nothing is fetched again
    assert find_fonts([folder]).paths == (folder / "fast.ttf", folder / "neat.ttf")  # none that is held out


def test_each_failure_is_a_line_and_leaves_nothing(clients, tmp_path):
    (clients / "fonts-neat.tar").unlink()
    (clients / "fast.tar").unlink()
    (clients / "other.tar").write_bytes(b"no archive")
    neat, fast, other = font_sources.fetch(tmp_path / "fonts")
    assert neat.endswith("cannot be fetched: apt-get download fonts-neat failed: E: no package fonts-neat")
    assert fast.endswith("cannot be fetched: npm pack @fonts/fast failed: npm error code E404")
    assert other.startswith("other: @fonts/other cannot be fetched: ")
    assert made(tmp_path / "fonts") == []


def test_the_door_says_what_failed_and_how_many_characters_a_font_has(tmp_path):
    """With no client at all: all that is not there fails, one line each."""
    done = run_script("fetch_fonts", "--out", tmp_path, within=_no_path)
    sources = font_sources.font_sources()
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == len({source.package for source in sources})
    assert all(" is not installed" in line for line in done.stderr.splitlines())
    assert made(tmp_path) == []
    assert {source.use for source in sources} == {"trained", "held_out"}
    assert {s.name for s in sources if s.use == "held_out"} == {"yusei-magic", "yuji-mai", "klee-one"}


class _no_path:
    def __enter__(self) -> None:
        os.environ["PATH"] = ""

    def __exit__(self, *_) -> None: ...


def test_each_font_is_the_hand_of_its_share(square_font):
    hands = Hands(Fonts((square_font,) * 3, 0.2))
    drawn = [hands.glyphs((number + 0.5) / 1000) for number in range(1000)]
    assert [sum(glyphs is own for glyphs in drawn) for own in hands._glyphs] == [200] * 3
    assert drawn.count(None) == 400
    assert Fonts((square_font,)).hash() != Fonts((square_font,), 0.2).hash()


def test_a_font_is_measured_on_what_it_has(square_font, tmp_path):
    samples = font_samples(square_font, "あい亜")
    assert samples.characters.tolist() == ["あ", "亜"]
    assert samples.images(np.arange(2)).shape == (2, 1, 64, 64)
    assert [(picture.min(), picture[100:200, 100:200].max()) for picture in samples.pictures([0, 1])] == [(0, 0)] * 2
    with pytest.raises(InputError, match="has none of the model's characters"):
        font_samples(square_font, "い")
