"""How a made-up person writes: stroke models, writers, the page, glyphs of fonts, samples of what is no class.

May import `files`, `characters`, `structure`, `records` and `images`.
"""
