"""What has been written to a device: words by address, and when."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.layout.words import decode_number, encode_number, word_count
from simulator.modbus.registers import ExceptionCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Ratings:
    """What a device's commands are measured against, and what its own rules look at.

    Powers in W, voltages in mV, state of charge in per mille; `local_s` is the second of the device's day.
    """

    rated_w: int
    max_charge_w: int = 0
    max_discharge_w: int = 0
    battery_mv: int = 52_000
    soc_permille: int = 0
    bus_mv: int = 52_000
    fuel_cell_running: bool = False
    fuel_cell_rated_w: int = 0
    local_s: int = 0


class Settings:
    """The writable words of a device. Times are in seconds of the clock that its timers follow."""

    def __init__(self, defaults: Mapping[int, Sequence[int]], now: Callable[[], float]) -> None:
        """Start with the words that the device has from the factory, by first address."""
        self._defaults = {
            address + place: word for address, words in defaults.items() for place, word in enumerate(words)
        }
        self._words = dict(self._defaults)
        self._written: dict[int, float] = {}
        self._now = now
        self.revision = 0

    def __contains__(self, address: int) -> bool:
        """Whether an address can be written."""
        return address in self._words

    @property
    def touched(self) -> bool:
        """Whether anything has been written since the start or the last reset of everything."""
        return bool(self._written)

    def write(self, address: int, values: Sequence[int]) -> None:
        """Take words from the wire; raises RefusedError (illegal address) if one can't be written."""
        if not all(address + place in self._words for place in range(len(values))):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        now = self._now()
        for place, value in enumerate(values):
            self._words[address + place] = value
            self._written[address + place] = now
        self.revision += 1

    def put(self, address: int, *words: int) -> None:
        """Change words by the device itself, as an expiring timer does."""
        for place, word in enumerate(words):
            if self._words[address + place] != word:
                self._words[address + place] = word
                self.revision += 1

    def reset(self, addresses: frozenset[int]) -> None:
        """Lose what was written to these addresses, as a reboot does."""
        for address in addresses:
            self._words[address] = self._defaults[address]
            self._written.pop(address, None)
        self.revision += 1

    def words(self) -> Mapping[int, int]:
        """Return every word by address."""
        return self._words

    def age(self, *addresses: int) -> float:
        """Return the seconds since the latest write to any of these addresses, infinite if there was none."""
        times = [self._written[address] for address in addresses if address in self._written]
        return self._now() - max(times) if times else NEVER

    def number(self, kind: str, address: int, *, little: bool = False) -> int | float:
        """Return the number of a type ("u16", "s32", "f32" …) at an address."""
        words = tuple(self._words[address + place] for place in range(word_count(kind)))
        return decode_number(kind, words, little=little)

    def u16(self, address: int) -> int:
        """Return the unsigned word at an address."""
        return self._words[address]

    def s16(self, address: int) -> int:
        """Return the signed word at an address."""
        return int(self.number("s16", address))

    def watts(self, kind: str, address: int, *, little: bool = False) -> int:
        """Return a power rounded to whole watts; a float that is no number counts as 0."""
        value = self.number(kind, address, little=little)
        return 0 if value != value else round(max(-1e9, min(1e9, value)))  # noqa: PLR0124 NaN differs from itself


def words_of(kind: str, value: float, *, little: bool = False) -> tuple[int, ...]:
    """Return a factory setting's words."""
    return encode_number(kind, value, little=little)
