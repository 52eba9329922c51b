"""JIS X 0208: the codes of characters, its rows, and the list of ETL9G's classes."""

from functools import lru_cache

import numpy as np

SMALL_HIRAGANA_AND_OBSOLETE = "ぁぃぅぇぉっゃゅょゎゐゑ"


def jis_code(char: str) -> int:
    """The JIS X 0208 code of a character; raises UnicodeEncodeError for one outside the standard."""
    high, low = char.encode("euc_jp")
    return (high & 0x7F) << 8 | low & 0x7F


def in_jis(char: str) -> bool:
    """Whether JIS X 0208 has the character; its Latin letters and digits are the wide ones, not these."""
    return len(char.encode("euc_jp", "ignore")) == 2


@lru_cache
def jis_codes(characters: str) -> np.ndarray:
    """The JIS X 0208 codes of these characters, uint16 (n,); raises as jis_code does."""
    return np.array([jis_code(char) for char in characters], np.uint16)


def character_of_code(code: int) -> str | None:
    """The character of a JIS X 0208 code, None for one that is not assigned."""
    high, low = divmod(code, 256)
    if not (0x21 <= high <= 0x7E and 0x21 <= low <= 0x7E):
        return None
    return bytes([high | 0x80, low | 0x80]).decode("euc_jp", "ignore") or None


def row_of_jis(row: int) -> str:
    """The characters of a row, named by the first byte of its codes, 0x21 to 0x7E."""
    cells = bytes(range(0xA1, 0xFF))
    return "".join(bytes([row | 0x80, cell]).decode("euc_jp", "ignore") for cell in cells)


@lru_cache
def etl9g_classes() -> str:
    """Every character of ETL9G in JIS order: 71 hiragana, then the level-1 kanji (rows 16 to 47)."""
    hiragana = "".join(c for c in row_of_jis(0x24) if c not in SMALL_HIRAGANA_AND_OBSOLETE)
    return hiragana + "".join(row_of_jis(row) for row in range(0x30, 0x50))
