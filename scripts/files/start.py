"""What every script imports first: it says in one line what is too old or missing, before other imports fail on that.

Imported by a script, not by rooms. Python 3.8 and newer can read it.
"""

import os
import sys

OLDEST_PYTHON = (3, 11)

for name in ("stdout", "stderr"):  # None where they are closed (`>&-`), and for pythonw
    if getattr(sys, name) is None:
        setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))

if sys.version_info < OLDEST_PYTHON:
    needs = "error: this is Python {}.{}.{}; the scripts need Python {}.{} or newer: install it and start them with it"
    print(needs.format(*sys.version_info[:3], *OLDEST_PYTHON), file=sys.stderr)
    sys.exit(2)


def explain(kind, error, traceback) -> None:
    """The `sys.excepthook` of a script: one line where a package is missing, or too old for what was tried."""
    from files.command_line import first_line
    from files.packages import missing, outdated

    old = outdated() if issubclass(kind, Exception) else []
    if issubclass(kind, ModuleNotFoundError):
        print(f"error: {missing(error)}", file=sys.stderr)
    elif old:
        print(f"error: {'; '.join(old)} (what failed: {first_line(error)})", file=sys.stderr)
    elif not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = explain
