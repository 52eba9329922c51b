"""What characters are built of: KanjiVG's files and trees, codes of them, lists of held-out classes.

May import `files` and `characters`.
"""
