"""Files and programs: writes, folders, JSON, scripts, the machine. Imports the standard library alone, and filelock."""
