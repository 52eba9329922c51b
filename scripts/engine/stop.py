"""Ctrl-C and SIGTERM, which end a training after the step in hand."""

import signal
import sys

from engine import processes


class Stop:
    """A context that notes Ctrl-C and SIGTERM, for the loop to look at after each step; a second one ends at once."""

    def __init__(self) -> None:
        self.signal = 0
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.signal:
            sys.exit(128 + number)
        self.signal = number
        if processes.is_main():
            print("\nstopping after this step …", file=sys.stderr, flush=True)
