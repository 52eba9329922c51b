"""Damaged files: every reader reads what is there, or says in one line what is wrong. Nothing else comes out of it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from files.command_line import InputError
from readers import READERS

EXAMPLES = 300  # damaged files for each reader and kind of damage
PLACE = st.floats(0, 1, exclude_max=True)  # in a file, from its beginning to its end
ODD_VALUES = [None, True, -1, 0, 1e308, float("nan"), 2**70, "", "腕", [], {}, [[1]], {"train": 1}]
AS_JSON = ("mapping", "metadata", "confusable")
AS_CHECKPOINT = ("checkpoint", "INT8 checkpoint")

given_often = settings(  # the same ones each time: CI must not fail by chance
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def reader(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path, read = READERS[request.param](tmp_path)
    read()
    return path, read


def read_or_refused(path: Path, content: bytes, read) -> None:
    path.write_bytes(content)
    try:
        read()
    except (InputError, FileNotFoundError) as error:
        assert len(str(error).splitlines()) == 1, error


@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_bytes_that_changed(reader):
    """A part of the file is written over, and the file may be cut off."""
    path, read = reader
    whole = path.read_bytes()

    @given_often
    @given(st.lists(st.tuples(PLACE, st.binary(min_size=1, max_size=9)), max_size=3), PLACE | st.just(1.0))
    def damage(changes: list[tuple[float, bytes]], end: float) -> None:
        content = bytearray(whole)
        for place, new in changes:
            at = int(place * len(whole))
            content[at : at + len(new)] = new
        read_or_refused(path, bytes(content[: int(end * len(whole))]), read)

    damage()


def entries(tree) -> Iterator[tuple]:
    """Every place in a tree of dicts and lists, as its container and the key there."""
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from entries(tree[key])


def with_entry(content: bytes, place: float, value, as_json: bool) -> bytes:
    """JSON, or a checkpoint, with another value somewhere in it."""
    tree = json.loads(content) if as_json else torch.load(io.BytesIO(content), weights_only=True)
    places = list(entries(tree))
    container, key = places[int(place * len(places))]
    container[key] = value
    if as_json:
        return json.dumps(tree).encode()
    torch.save(tree, written := io.BytesIO())
    return written.getvalue()


@pytest.mark.parametrize("reader", [*AS_JSON, *AS_CHECKPOINT], indirect=True)
def test_values_of_another_kind(reader):
    path, read = reader
    whole = path.read_bytes()

    @given_often
    @given(PLACE, st.sampled_from(ODD_VALUES))
    def damage(place: float, value) -> None:
        read_or_refused(path, with_entry(whole, place, value, path.suffix == ".json"), read)

    damage()


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"structure cache"}), indirect=True)
@pytest.mark.parametrize("content", [b"", b"\0", b"text", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"{}", b"\x80\x02."])
def test_a_file_of_another_kind_is_refused(reader, content):
    path, read = reader
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        read()
