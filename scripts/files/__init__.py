"""Files and programs: whole-or-absent writes, output folders and their lock, JSON within bounds, how a script ends,
what is installed and what the machine has.

Imports the standard library alone, and filelock.
"""
