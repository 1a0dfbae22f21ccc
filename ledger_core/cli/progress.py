"""How far long work has come, on standard error.

On a terminal one line is drawn again and again; into a file or a log goes a line now and then.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

from ledger_core.cli.quantities import show_span

_REDRAW_S: Final = 0.1
_LOG_S: Final = 10.0


class Progress:
    """Counts finished pieces of work; use it in a `with` statement.

    `what` is what is being done ("verifying blocks"), `total` the number of pieces where it is known.
    Work that ends within a tenth of a second (ten seconds where no terminal is) shows nothing.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = 0
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._on_terminal = self._stream.isatty()
        self._pause = _REDRAW_S if self._on_terminal else _LOG_S
        self._width = 0

    def __enter__(self) -> Self:
        self._started = self._clock()
        self._due = self._started + self._pause
        return self

    def advance(self, count: int = 1) -> None:
        """Count further finished pieces."""
        self.update(self.done + count)

    def update(self, done: int) -> None:
        """Say how many pieces are finished altogether."""
        self.done = done
        now = self._clock()
        if now >= self._due:
            self._due = now + self._pause
            self._write(self._line(now - self._started))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def _write(self, line: str) -> None:
        if self._on_terminal:
            padding = " " * (self._width - len(line))
            self._width = len(line)
            self._stream.write(f"\r{line}{padding}")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, elapsed: float) -> str:
        rate = self.done / elapsed
        parts = [self._what, f"{self.done}" if self._total is None else f"{self.done}/{self._total}"]
        if self._total:
            parts.append(f"{100 * self.done // self._total} %")
        parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if self._total is not None and self.done:
            parts.append(f"{show_span((self._total - self.done) / rate)} left")
        return "  ".join(parts)
