"""JSON from files that others wrote: read within bounds, or refused in one line."""

import json
from pathlib import Path

from files.command_line import InputError, first_line

LARGEST = 16_000_000  # bytes; a mapping of 100,000 classes has 9 million


def parse_json(text: str | bytes, name: str, remedy: str, kind: type = dict):
    """The JSON value of a text, an object unless another `kind` is allowed. Raises InputError, which calls the text
    `name` and ends with `remedy`, if it is anything else, too large or damaged."""
    try:
        if len(text) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        content = json.loads(text)
        if not isinstance(content, kind):
            raise ValueError(f"it is a {type(content).__name__}")
    except (ValueError, RecursionError) as error:  # ValueError: also what is no JSON, and what is no UTF-8
        raise InputError(f"{name} is damaged ({first_line(error)}): {remedy}") from None
    return content


def read_json(path: Path, remedy: str) -> dict:
    """The JSON object of a file. Raises FileNotFoundError, or InputError as `parse_json`."""
    with path.open("rb") as file:
        return parse_json(file.read(LARGEST + 1), str(path), remedy)
