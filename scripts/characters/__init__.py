"""Characters as such: JIS codes, class lists, kinds, what looks alike, folder names. May import `files`."""
