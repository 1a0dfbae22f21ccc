"""Faults on demand: what goes wrong, for which requests, how often and for how long."""

import random
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FaultKind(StrEnum):
    """What goes wrong. The first group meets single requests, then come link and device."""

    LATE = "late"  # the reply comes `delay_s` late, and what follows waits behind it
    DROP = "drop"  # no reply; with `applied` a write takes effect all the same
    WRONG_LENGTH = "wrong_length"  # a whole frame with `words` registers too many or (negative) too few
    TRUNCATED = "truncated"  # the frame ends in the middle
    GARBAGE = "garbage"  # bytes that are no frame
    WRONG_UNIT = "wrong_unit"  # the reply names another unit id
    WRONG_TRANSACTION = "wrong_transaction"  # the reply names another transaction (MBAP only)
    BAD_CRC = "bad_crc"  # the reply's CRC is wrong (RTU only)
    EXCEPTION = "exception"  # exception reply with `code`
    BUSY = "busy"  # exception reply 6, "server device busy"
    CLOSE = "close"  # the connection is closed instead of a reply; `applied` as with a dropped one
    SECOND_CLIENT = "second_client"  # more than `clients` connections are closed at once
    SLEEP = "sleep"  # connections are accepted, nothing is answered
    OFFLINE = "offline"  # connections are refused
    REBOOT = "reboot"  # connections drop and are refused for `seconds`; volatile settings are lost
    NOT_A_NUMBER = "not_a_number"  # measured values read as "not implemented"
    COUNTER_RESET = "counter_reset"  # energy counters start again at 0
    COUNTER_ROLLOVER = "counter_rollover"  # energy counters stand `margin_wh` before their highest value
    LAYOUT_SHIFT = "layout_shift"  # SunSpec: float models for integer ones; else addresses move by `words`
    IDENTITY = "identity"  # another device answers: its serial number is `serial`


REQUEST_KINDS = frozenset(
    {
        FaultKind.LATE,
        FaultKind.DROP,
        FaultKind.WRONG_LENGTH,
        FaultKind.TRUNCATED,
        FaultKind.GARBAGE,
        FaultKind.WRONG_UNIT,
        FaultKind.WRONG_TRANSACTION,
        FaultKind.BAD_CRC,
        FaultKind.EXCEPTION,
        FaultKind.BUSY,
        FaultKind.CLOSE,
        FaultKind.SLEEP,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the requests it meets: all of the link's, unless narrowed by unit, functions, addresses.

    It ends after `count` requests, after `seconds` (real time), or when it is cleared. Of the requests that
    fit, `chance_permille` in a thousand are hit, drawn from the link's seed.
    """

    kind: FaultKind
    unit: int | None = None
    functions: tuple[int, ...] = ()
    first: int = 0
    last: int = 65_535
    count: int | None = None
    seconds: float | None = None
    chance_permille: int = 1000
    delay_s: float = 1.0
    code: int = 4
    words: int = -1
    clients: int = 1
    applied: bool = False
    margin_wh: int = 1000
    serial: str = "OTHER-DEVICE"

    def __post_init__(self) -> None:
        """Refuse values that make no sense, naming them."""
        if self.kind is FaultKind.REBOOT and self.seconds is None:
            raise ValueError("a reboot needs `seconds`: how long the device stays away")
        if not 0 <= self.first <= self.last <= 65_535:
            raise ValueError(f"addresses {self.first} to {self.last} must be 0 to 65535, in this order")
        if not 0 <= self.chance_permille <= 1000:
            raise ValueError(f"chance_permille must be 0 to 1000, not {self.chance_permille}")
        if not 1 <= self.code <= 255:
            raise ValueError(f"code must be an exception code 1 to 255, not {self.code}")
        if self.delay_s < 0 or (self.seconds is not None and self.seconds <= 0):
            raise ValueError("delay_s and seconds must be positive")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be 1 or more, not {self.count}")
        if self.clients < 0 or self.margin_wh < 0 or self.words == 0:
            raise ValueError("clients and margin_wh must not be negative, and words not 0")

    def meets(self, unit: int, function: int, first: int, last: int) -> bool:
        """Whether a request falls under this fault (its chance not yet drawn)."""
        return (
            self.unit in (None, unit)
            and (not self.functions or function in self.functions)
            and first <= self.last
            and last >= self.first
        )


_WHOLE, _NUMBER, _SWITCH, _TEXT, _LIST = (
    "a whole number",
    "a number",
    "true or false",
    "a text",
    "a list of whole numbers",
)
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    _WHOLE: (int,),
    _NUMBER: (int, float),
    _SWITCH: (bool,),
    _TEXT: (str,),
    _LIST: (list, tuple),
}
_TYPES = {item.name: _WHOLE for item in fields(Fault)} | {
    "functions": _LIST,
    "seconds": _NUMBER,
    "delay_s": _NUMBER,
    "applied": _SWITCH,
    "serial": _TEXT,
}


def fault_from(values: Mapping[str, Any]) -> Fault:
    """Return the fault that a JSON object describes; raises ValueError naming what is wrong with it."""
    known = {item.name: item for item in fields(Fault)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"a fault has no {unknown[0]!r}; known: {', '.join(known)}")
    try:
        kind = FaultKind(values.get("kind", ""))
    except ValueError:
        kinds = ", ".join(FaultKind)
        raise ValueError(f"kind must be one of {kinds}, not {values.get('kind')!r}") from None
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key != "kind":
            expected, right = _TYPES[key], isinstance(value, _PYTHON_TYPES[_TYPES[key]])
            if (isinstance(value, bool) and expected != "true or false") or not (
                right or (value is None and known[key].default is None)
            ):
                raise ValueError(f"{key} must be {expected}, not {value!r}")
            arguments[key] = tuple(value) if key == "functions" else value
    return Fault(kind, **arguments)


class FaultBoard:
    """The faults of one link. `revision` changes whenever the set does."""

    def __init__(self, seed: int, on_change: Callable[[], None]) -> None:
        """Draw chances from a seed; call `on_change` after every change."""
        self._random = random.Random(seed)
        self._on_change = on_change
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}
        self._next_id = 1
        self.revision = 0
        self._request_faults: tuple[tuple[int, Fault], ...] = ()

    def __len__(self) -> int:
        """How many faults are on."""
        return len(self._faults)

    def add(self, fault: Fault) -> int:
        """Switch a fault on; return its number."""
        number = self._next_id
        self._next_id += 1
        self._faults[number] = fault
        if fault.count is not None:
            self._left[number] = fault.count
        self._changed()
        return number

    def clear(self, number: int | None = None) -> bool:
        """Switch one fault off, or all; return whether there was one."""
        if number is None:
            found = bool(self._faults)
            self._faults.clear()
            self._left.clear()
        else:
            found = self._faults.pop(number, None) is not None
            self._left.pop(number, None)
        if found:
            self._changed()
        return found

    def active(self) -> dict[int, Fault]:
        """Return the faults that are on, by number."""
        return dict(self._faults)

    def find(self, kind: FaultKind, unit: int | None = None) -> Fault | None:
        """Return the latest fault of a kind that is on, for the link or for a unit."""
        for fault in reversed(self._faults.values()):
            if fault.kind is kind and fault.unit in (None, unit):
                return fault
        return None

    def hit(self, unit: int, function: int, first: int, last: int) -> tuple[Fault, ...]:
        """Return the faults that a request meets, counting them down."""
        if not self._request_faults:
            return ()
        hits = []
        for number, fault in self._request_faults:
            if not fault.meets(unit, function, first, last):
                continue
            if fault.chance_permille < 1000 and self._random.randrange(1000) >= fault.chance_permille:
                continue
            hits.append(fault)
            self._count_down(number)
        return tuple(hits)

    def _count_down(self, number: int) -> None:
        if number in self._left:
            self._left[number] -= 1
            if self._left[number] == 0:
                self.clear(number)

    def _changed(self) -> None:
        self.revision += 1
        self._request_faults = tuple(
            (number, fault) for number, fault in self._faults.items() if fault.kind in REQUEST_KINDS
        )
        self._on_change()
