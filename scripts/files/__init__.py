"""Files and programs: whole-or-absent writes, output folders and their lock, JSON within bounds, how a script ends.

Imports the standard library alone, and filelock.
"""
