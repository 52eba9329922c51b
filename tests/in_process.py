"""A script's main in the process of the test."""

from collections.abc import Callable

from files import command_line


def exit_code(main: Callable[[], None]) -> int:
    """Runs it with the arguments that stand in sys.argv."""
    try:
        command_line.run(main)
    except SystemExit as ended:
        return ended.code
    return 0
