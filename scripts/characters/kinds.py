"""The kinds of characters, kana, kanji and Latin letters, and the characters of each kind."""

import unicodedata
from functools import lru_cache

from characters.jis import in_jis, jis_code, row_of_jis

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KATAKANA = "".join(chr(code) for code in range(0x30A2, 0x30F4) if chr(code) not in "ァィゥェォッャュョヮヰヱ")
_KINDS = {"HIRAGANA": "hiragana", "KATAKANA": "katakana", "KATAKANA-HIRAGANA": "katakana", "CJK": "kanji"}
SCRIPTS = ("hiragana", "katakana", "kana", "kanji", "latin")


def kind_of(char: str) -> str:
    """ "hiragana", "katakana", "kanji" or "other", by the first word of the character's name in Unicode."""
    return _KINDS.get(unicodedata.name(char, "").split(" ")[0], "other")


def is_kanji(char: str) -> bool:
    return kind_of(char) == "kanji"


def is_hiragana(char: str) -> bool:
    return kind_of(char) == "hiragana"


def level_2() -> str:
    """The kanji of JIS X 0208's level 2: rows 48 to 84."""
    return "".join(row_of_jis(row) for row in range(0x50, 0x75))


@lru_cache
def detailed_kind(char: str) -> str:
    """The same, with kanji by where JIS X 0208 has them, and Latin letters with digits apart from marks."""
    if is_kanji(char):
        row = jis_code(char) >> 8 if in_jis(char) else 0
        return "kanji" if 0x30 <= row < 0x50 else "kanji of level 2" if row >= 0x50 else "rarer kanji"
    kind = kind_of(char)
    return "Latin, digits" if char in LATIN else kind if kind != "other" else "marks"


def of_script(script: str, classes: str) -> str:
    """Those of the classes that are of one of SCRIPTS, or that the text `script` holds."""
    kinds = {"kana": ("hiragana", "katakana"), "latin": ("Latin, digits",)}.get(script, (script,))
    if script in SCRIPTS:
        return "".join(c for c in classes if kind_of(c) in kinds or detailed_kind(c) in kinds)
    return "".join(c for c in classes if c in script)
