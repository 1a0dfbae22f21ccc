"""What a device profile says, as immutable data: link, points, detection, settings and commands.

A profile is written in YAML (`profiles/*.yaml`), read by `profile.load` into these classes, and used by the
read planner, the codec, the device and the simulator. Nothing here does I/O. All addresses are 0-based, as
they go over the wire (PDU addresses). All factors are exact (`Fraction`): no float enters a reading.

A point is one of three kinds:

* `RegisterPoint`: at a fixed address;
* `SunSpecPoint`: named by SunSpec model and point; `sunspec.bind` turns it into register points (and, when it
  names several modules, a derived sum) once the device's map is known;
* `DerivedPoint`: computed from other points of the same profile (sum, product, sign from another point).

Value of a register point: `raw * scale * 10**scale_register + offset`, in `unit`, with the sign as the device
gives it. `positive` then says in which direction that raw sign counts, and the readings layer files the value
under the field named by its direction (`charge_w` or `discharge_w`, `import_w` or `export_w`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from .actions import (
    DURATION_S,
    HOLD_S,
    PLACEHOLDERS,
    POWER_W,
    SAVED,
    Amount,
    BlockField,
    BlockStep,
    Command,
    CommandName,
    MissingValueError,
    Rounding,
    SettingStep,
    Step,
    amounts,
)
from .points import (
    Check,
    Condition,
    DerivedPoint,
    Missing,
    Operand,
    Operation,
    Point,
    Range,
    RegisterPoint,
    SunSpecPoint,
    SunSpecReference,
    Test,
    Value,
    WriteAccess,
)
from .units import Unit
from .vocabulary import (
    COUNTER_ROLES,
    REGISTERS,
    ROLE_UNITS,
    SIGNED_ROLES,
    Direction,
    Function,
    Meaning,
    PollGroup,
    Role,
    Transport,
    ValueType,
    WordOrder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "COUNTER_ROLES",
    "DURATION_S",
    "HOLD_S",
    "PLACEHOLDERS",
    "POWER_W",
    "REGISTERS",
    "ROLE_UNITS",
    "SAVED",
    "SIGNED_ROLES",
    "Amount",
    "BlockField",
    "BlockStep",
    "Check",
    "Command",
    "CommandName",
    "Condition",
    "DerivedPoint",
    "Direction",
    "Evidence",
    "Function",
    "Hole",
    "LinkDefaults",
    "Meaning",
    "Missing",
    "MissingValueError",
    "Operand",
    "Operation",
    "Point",
    "PollGroup",
    "Profile",
    "Range",
    "RegisterPoint",
    "Role",
    "Rounding",
    "SerialSettings",
    "SettingStep",
    "Step",
    "SunSpecMap",
    "SunSpecPoint",
    "SunSpecReference",
    "Test",
    "Transport",
    "TransportDefaults",
    "Unit",
    "Value",
    "ValueType",
    "Variant",
    "WordOrder",
    "WriteAccess",
    "amounts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """Settings of a serial line: bits per second, data bits, parity ("N", "E" or "O") and stop bits."""

    baudrate: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportDefaults:
    """One way to reach the device: the transport and the ports (network) or line settings (serial) to try."""

    transport: Transport
    ports: tuple[int, ...] = ()
    serial: SerialSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDefaults:
    """How to talk to the device unless the user says otherwise. Times in seconds."""

    transports: tuple[TransportDefaults, ...]
    units: tuple[int, ...] = (1,)  # unit ids to try, in this order
    companions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    # other unit ids behind the same link, by name, for points with `companion`
    word_order: WordOrder = WordOrder.BIG
    read_function: Function = Function.READ_HOLDING
    write_function: Function = Function.WRITE_MULTIPLE
    max_registers: int = 125  # longest block the device answers
    max_gap: int = 8  # registers that may be read for nothing to join two blocks
    spacing: float = 0.0  # least time between two requests
    connect_delay: float = 0.0  # wait after connecting, before the first request
    timeout: float = 3.0
    max_clients: int | None = None  # connections that the device accepts at once; None if not known
    sleeps_at_night: bool = False  # silence in the dark is normal, not a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Addresses `first` to `last` (both included) that no block may cover, for one read function."""

    function: Function
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SunSpecMap:
    """Where to look for a SunSpec map, and the models without which the profile does not fit."""

    bases: tuple[int, ...] = (40000, 50000, 0)
    function: Function = Function.READ_HOLDING
    required: tuple[tuple[int, ...], ...] = ()  # of each inner tuple, one model must be there


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A register dump that proves part of the profile, and what it proves."""

    dump: str
    points: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A kind of the device that differs from the base: chosen when all of `when` hold, or by the user.

    `profile` is the base with the variant's changes merged in; it has no variants of its own.
    """

    name: str
    title: str
    when: tuple[Check, ...]
    profile: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Everything known about one family of devices.

    `detect`: checks that all hold on such a device; among several fitting profiles the higher `priority`
    wins. `identity`: checks repeated in every poll, so that a changed map or a swapped device is noticed
    before a wrong value is believed. `points`, `settings` and `derived` share one name space. `kinds` are the
    asset kinds it stands for ("pv", "battery", "fuel_cell", "generator", "meter").
    """

    id: str
    title: str
    manufacturer: str
    kinds: tuple[str, ...]
    link: LinkDefaults
    models: tuple[str, ...] = ()
    priority: int = 50
    detect: tuple[Check, ...] = ()
    identity: tuple[Check, ...] = ()
    sunspec: SunSpecMap | None = None
    holes: tuple[Hole, ...] = ()
    points: Mapping[str, RegisterPoint | SunSpecPoint] = field(default_factory=lambda: MappingProxyType({}))
    derived: Mapping[str, DerivedPoint] = field(default_factory=lambda: MappingProxyType({}))
    settings: Mapping[str, RegisterPoint | SunSpecPoint] = field(default_factory=lambda: MappingProxyType({}))
    commands: Mapping[CommandName, Command] = field(default_factory=lambda: MappingProxyType({}))
    variant: str | None = None  # the variant that this is, once one has been chosen
    variants: Mapping[str, Variant] = field(default_factory=lambda: MappingProxyType({}))
    sources: tuple[str, ...] = ()
    proven: tuple[Evidence, ...] = ()
    unproven: tuple[str, ...] = ()
    path: Path | None = None  # the file it was read from

    def choose(self, variant: str) -> Profile:
        """The profile of that variant. Raises LookupError naming the known ones."""
        try:
            return self.variants[variant].profile
        except KeyError:
            known = ", ".join(self.variants) or "none"
            raise LookupError(f'{self.id} has no variant "{variant}"; known: {known}') from None

    def point(self, name: str) -> RegisterPoint | SunSpecPoint | DerivedPoint:
        """A point, setting or derived point by name. Raises LookupError."""
        for table in (self.points, self.settings, self.derived):
            if name in table:
                return table[name]
        raise LookupError(f'{self.id} has no point "{name}"')

    def by_role(self, role: Role) -> tuple[RegisterPoint | SunSpecPoint | DerivedPoint, ...]:
        """Every point that feeds `role`, in the order of preference (the order of the file)."""
        everything = (*self.points.values(), *self.derived.values())
        return tuple(point for point in everything if point.role is role)
