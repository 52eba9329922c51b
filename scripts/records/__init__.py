"""Raw formats, one file each. May import `files` and `characters`."""
