"""Files and programs: whole-or-absent writes, output folders, JSON within bounds, how a script ends, what the machine
has. Imports the standard library alone, and filelock."""
