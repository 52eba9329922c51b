"""The kinds of characters, kana, kanji and Latin letters, and the characters of each kind."""

import unicodedata

from characters.jis import row_of_jis

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KATAKANA = "".join(chr(code) for code in range(0x30A2, 0x30F4) if chr(code) not in "ァィゥェォッャュョヮヰヱ")
_KINDS = {"HIRAGANA": "hiragana", "KATAKANA": "katakana", "CJK": "kanji"}  # by the first word of a Unicode name


def kind_of(char: str) -> str:
    """ "hiragana", "katakana", "kanji" or "other", by the character's name in Unicode."""
    return _KINDS.get(unicodedata.name(char, "").split(" ")[0], "other")


def is_hiragana(char: str) -> bool:
    return kind_of(char) == "hiragana"


def level_2() -> str:
    """The kanji of JIS X 0208's level 2: rows 48 to 84."""
    return "".join(row_of_jis(row) for row in range(0x50, 0x75))
