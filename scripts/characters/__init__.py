"""Characters as such: JIS codes and class lists, kinds of characters, what looks alike, folders named by a character.

May import `files`.
"""
