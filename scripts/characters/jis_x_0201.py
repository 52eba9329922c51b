"""JIS X 0201, the codes of one byte: ASCII with ¥ and ‾, and katakana, which some sets use for hiragana."""

import unicodedata

MARKS = {0x5C: "¥", 0x7E: "‾", 0xDE: "゛", 0xDF: "゜"}
SMALL = str.maketrans("ィェ", "ヰヱ")  # which the standard lacks: the ETL sets write ヰ and ヱ as small ィ and ェ
TO_HIRAGANA = ord("ア") - ord("あ")


def character(code: int, hiragana: bool = False) -> str | None:
    """The character that an ETL set means by a code, None for one that is not assigned."""
    if code in MARKS:
        return MARKS[code]
    if not (0x20 < code < 0x7F or 0xA0 < code < 0xE0):
        return None
    char = unicodedata.normalize("NFKC", bytes([code]).decode("shift_jis")).translate(SMALL)  # half-width to full
    return chr(ord(char) - TO_HIRAGANA) if hiragana and "ァ" <= char <= "ヶ" else char
