"""Forms of kana that many people write and KanjiVG does not have. Strokes are counted from 0."""

RARELY, OFTEN = 0.25, 0.75
# Strokes that are written in one with the next, and how often at most.
JOINED_FORMS = {
    **dict.fromkeys("いうえかけげにはほらねれわ", ((0,), RARELY)),
    **dict.fromkeys("ゆり", ((0,), OFTEN)),
    **dict.fromkeys("や", ((1,), RARELY)),
    **dict.fromkeys("さざ", ((1,), OFTEN)),
    **dict.fromkeys("たな", ((2,), RARELY)),
    **dict.fromkeys("きぎ", ((2,), OFTEN)),
    **dict.fromkeys("ふぶぷ", ((0, 1), OFTEN)),
}
# The stroke that ends early, and the share of its length that may be missing.
SHORT_TAILS = {"も": (0, 0.35), "て": (0, 0.12), "で": (0, 0.12), "い": (1, 0.65)}
# The hump after a stroke's foot that is flat: the stroke, where its foot is, how much of the height may be lost.
LOW_HUMPS = {"え": (1, 0.56, 0.90), "ん": (0, 0.44, 0.60)}
# What lies right of the first stroke is wider, by up to this share.
WIDE_BOWS = dict.fromkeys("ねれわ", 0.45)
# The first stroke starts with a separate dot: where the dot ends and where the rest begins.
SEPARATE_FORMS = dict.fromkeys("そぞ", (0.07, 0.16))
