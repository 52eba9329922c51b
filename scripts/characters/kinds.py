"""TODO doc: from strangers, evaluate"""

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KATAKANA = "".join(chr(code) for code in range(0x30A2, 0x30F4) if chr(code) not in "ァィゥェォッャュョヮヰヱ")


def level_2() -> str:
    """The kanji of JIS X 0208's level 2: rows 48 to 84."""
    codes = (bytes([row + 0xA0, cell + 0xA0]) for row in range(48, 85) for cell in range(1, 95))
    return "".join(code.decode("euc_jp", "ignore") for code in codes)


KINDS = {"HIRAGANA": "hiragana", "KATAKANA": "katakana", "CJK": "kanji"}  # first words of Unicode names
