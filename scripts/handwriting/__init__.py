"""Characters drawn by made-up writers, from KanjiVG or a font. May import the rooms above it: `files` to `images`."""
