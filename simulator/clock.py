"""The home's clock: simulated seconds that run faster than real ones, or stand still until they are moved."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SimulatedClock:
    """Simulated UTC seconds. `factor` simulated seconds pass in a real one; 0 stands still."""

    def __init__(
        self, start_s: int, factor: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Start now; raises ValueError for a negative factor."""
        self._monotonic = monotonic
        self._base_s = float(start_s)
        self._since = monotonic()
        self._factor = 0.0
        self.factor = factor

    @property
    def factor(self) -> float:
        """Simulated seconds per real second."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        if not 0 <= factor <= 1e6:
            raise ValueError(
                f"the time factor must be 0 to 1000000 simulated seconds a second, not {factor:g}"
            )
        self._base_s = self.now()
        self._since = self._monotonic()
        self._factor = float(factor)

    def now(self) -> float:
        """Return the simulated UTC time in seconds."""
        return self._base_s + (self._monotonic() - self._since) * self._factor

    def advance(self, seconds: float) -> None:
        """Move the clock ahead; raises ValueError for a negative number of seconds."""
        if seconds < 0:
            raise ValueError(f"time can't go back by {-seconds:g} s")
        self._base_s += seconds
