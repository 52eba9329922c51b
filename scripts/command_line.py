"""How every script ends: quietly, or with one line that says what is wrong and what to do."""

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor


class InputError(ValueError):
    """A wrong call or bad input; the message says what is wrong and what to do. Ends a script with exit code 2."""


def run(main: Callable[[], None]) -> None:
    """Calls `main`; what a user can cause becomes one line on stderr and exit code 2 (wrong call, bad input) or 1."""
    try:
        try:
            main()
            sys.stdout.flush()  # now rather than at exit, where a reader that went away could not be answered
        except BrokenExecutor:
            time.sleep(0.5)  # Ctrl-C ends the worker processes too, and that may be seen first: let it arrive
            raise
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away (`… | head`)
        sys.stderr.close()
        sys.exit(1)
    except (InputError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        sys.exit(_say(error, 2))
    except (OSError, MemoryError, FloatingPointError, BrokenExecutor) as error:
        sys.exit(_say(error, 1))


def end_quietly_on_interrupt() -> None:
    """The `initializer` of a pool of processes: Ctrl-C, which reaches them all, ends each without a traceback."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))


def _say(error: BaseException, code: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:  # raised by the system: "[Errno 2] No such file …"
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({text})" if text else "not enough memory"
    print(f"error: {text}", file=sys.stderr)
    return code
