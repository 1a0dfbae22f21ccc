"""Sun, clouds and habits of a simulated street, in whole per mille."""

from ledger_core.synthetic.chance import Chance

DAY = 86_400
_YEAR = 31_556_952
_MIDSUMMER = 171 * DAY
"""21 June of 1970."""

_LOAD_BY_HOUR = (
    350, 300, 280, 280, 300, 420, 700, 900, 800, 650, 600, 650,
    800, 750, 600, 600, 750, 1100, 1500, 1600, 1400, 1100, 800, 500,
)  # fmt: skip


class Weather:
    """The same sky over all homes of the street."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._day = -1
        self._clear = 0

    def sun(self, time: int) -> int:
        """Return the power of a solar generator under a clear sky, in per mille of its rating.

        A parabola over the hours of daylight: 16 h around midsummer, 8 h around midwinter, then lower.
        """
        since = (time - _MIDSUMMER) % _YEAR
        winter = min(since, _YEAR - since) * 2000 // _YEAR
        half = 8 * 3600 - 4 * 3600 * winter // 1000
        position = time % DAY - (DAY // 2 - half)
        if not 0 < position < 2 * half:
            return 0
        height = 4000 * position * (2 * half - position) // (2 * half) ** 2
        return height * (1000 - winter // 2) // 1000

    def clear(self, time: int) -> int:
        """Return what clouds leave of the sun on that day, in per mille."""
        day = time // DAY
        if day != self._day:
            self._day = day
            self._clear = self._chance.child(day).between(250, 1000)
        return self._clear

    def pv(self, time: int) -> int:
        """Return the expected power of a solar generator, in per mille of its rating."""
        return self.sun(time) * self.clear(time) // 1000


def habit(time: int) -> int:
    """Return the expected use of a home at an hour of the day, in per mille of its mean."""
    return _LOAD_BY_HOUR[time % DAY // 3600]
