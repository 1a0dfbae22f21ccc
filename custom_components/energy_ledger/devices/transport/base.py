"""The protocol that every transport offers, and the settings of our own links.

Addresses are 0-based, as sent on the wire; registers are integers 0..65535, bits are 0 or 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from ..errors import SettingsError

READ_COILS: Final = 1
READ_DISCRETE_INPUTS: Final = 2
READ_HOLDING_REGISTERS: Final = 3
READ_INPUT_REGISTERS: Final = 4
WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_COILS: Final = 15
WRITE_REGISTERS: Final = 16

READ_FUNCTIONS: Final = frozenset({1, 2, 3, 4})
WRITE_FUNCTIONS: Final = frozenset({5, 6, 15, 16})
# Largest request of each read function (Modbus Application Protocol V1.1b3, section 6).
MAX_READ: Final[dict[int, int]] = {1: 2000, 2: 2000, 3: 125, 4: 125}
MAX_WRITE: Final[dict[int, int]] = {5: 1, 6: 1, 15: 1968, 16: 123}


class ModbusUnit(Protocol):
    """One unit id on one link."""

    @property
    def unit_id(self) -> int:
        """The Modbus unit id, 0..255."""

    @property
    def name(self) -> str:
        """Where the unit is, for messages: ``192.0.2.7:502 unit 1``."""

    async def read(self, function: int, address: int, count: int) -> list[int]:
        """Read `count` registers (functions 3, 4) or bits (1, 2); exactly `count` values come back.

        Raises `LinkError` when no usable answer came, `ExceptionReply` when the device refused.
        """

    async def write(self, function: int, address: int, values: Sequence[int]) -> None:
        """Write values once (functions 5, 6, 15, 16), never a second time by itself.

        Raises `WriteUnconfirmed` when it was sent and no answer came, another `LinkError` when it
        was not sent, `ExceptionReply` when the device refused.
        """


class LinkKind(StrEnum):
    """What lies between us and the device."""

    TCP = "tcp"
    RTU_OVER_TCP = "rtu_over_tcp"
    UDP = "udp"
    RTU_OVER_UDP = "rtu_over_udp"
    SERIAL = "serial"


DEFAULT_PORT: Final = 502
_SCHEMES: Final[dict[str, LinkKind]] = {
    "tcp": LinkKind.TCP,
    "modbus": LinkKind.TCP,
    "rtu-over-tcp": LinkKind.RTU_OVER_TCP,
    "rtu_over_tcp": LinkKind.RTU_OVER_TCP,
    "rtu+tcp": LinkKind.RTU_OVER_TCP,
    "udp": LinkKind.UDP,
    "rtu-over-udp": LinkKind.RTU_OVER_UDP,
    "rtu_over_udp": LinkKind.RTU_OVER_UDP,
    "rtu+udp": LinkKind.RTU_OVER_UDP,
    "serial": LinkKind.SERIAL,
    "rtu": LinkKind.SERIAL,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkSettings:
    """Everything that is needed to open one physical link.

    Times are in seconds. `timeout_s` bounds a connection attempt as well as a reply.
    """

    kind: LinkKind = LinkKind.TCP
    host: str = ""
    port: int = DEFAULT_PORT
    device: str = ""
    baudrate: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: int = 1
    timeout_s: float = 3.0
    connect_delay_s: float = 0.0
    spacing_s: float = 0.0
    # Pause between attempts on a link that can't be opened: doubled from the first to the last.
    retry_first_s: float = 0.25
    retry_last_s: float = 5.0

    def __post_init__(self) -> None:
        """Check every figure; the message names the setting and what would be right."""
        if self.kind is LinkKind.SERIAL:
            if not self.device:
                raise SettingsError(
                    "a serial link needs a device, for instance /dev/ttyUSB0", "serial_device_missing"
                )
        elif not self.host:
            raise SettingsError("a network link needs a host name or address")
        _check("port", self.port, 1, 65535)
        _check("baudrate", self.baudrate, 300, 4_000_000)
        _check("bytesize", self.bytesize, 7, 8)
        _check("stopbits", self.stopbits, 1, 2)
        _check("timeout", self.timeout_s, 0.01, 60)
        _check("connect delay", self.connect_delay_s, 0, 60)
        _check("spacing", self.spacing_s, 0, 10)
        _check("first retry pause", self.retry_first_s, 0.01, 30)
        _check("last retry pause", self.retry_last_s, self.retry_first_s, 30)
        if self.parity not in ("N", "E", "O"):
            raise SettingsError(f"parity is {self.parity!r}; right would be N (none), E (even) or O (odd)")

    @property
    def endpoint(self) -> str:
        """The physical end that only one link of ours may hold."""
        if self.kind is LinkKind.SERIAL:
            return self.device
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def no_connection_key(self) -> str:
        """The key of the error that there is no connection, where nothing more is known."""
        return "serial_not_opened" if self.kind is LinkKind.SERIAL else "cannot_connect"

    @property
    def rtu_framed(self) -> bool:
        """True when replies carry no transaction id, so that a late one looks like any other."""
        return self.kind in (LinkKind.RTU_OVER_TCP, LinkKind.RTU_OVER_UDP, LinkKind.SERIAL)


def _check(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting outside low..high."""
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value:g}; allowed are {low:g} to {high:g}")


def check_unit_id(unit_id: int) -> int:
    """Return a valid unit id (0..255), or raise `SettingsError`."""
    if not 0 <= unit_id <= 255:
        raise SettingsError(f"unit id is {unit_id}; allowed are 0 to 255 (247 on a serial line)")
    return unit_id


def check_read(function: int, address: int, count: int) -> None:
    """Raise `SettingsError` for a read that no device could answer."""
    if function not in READ_FUNCTIONS:
        raise SettingsError(f"function {function} does not read; right would be 1, 2, 3 or 4")
    _check("register count", count, 1, MAX_READ[function])
    _check("register address", address, 0, 65536 - count)


def check_write(function: int, address: int, values: Sequence[int]) -> None:
    """Raise `SettingsError` for a write that no device could take."""
    if function not in WRITE_FUNCTIONS:
        raise SettingsError(f"function {function} does not write; right would be 5, 6, 15 or 16")
    _check("number of values", len(values), 1, MAX_WRITE[function])
    _check("register address", address, 0, 65536 - len(values))
    high = 1 if function in (WRITE_COIL, WRITE_COILS) else 0xFFFF
    for value in values:
        _check("value to write", value, 0, high)


def parse_link(text: str, *, kind: LinkKind | None = None, default_port: int | None = None) -> LinkSettings:
    """Read a link from text.

    `host`, `host:port`, `[v6 address]:port`, a scheme before them (`tcp://`, `rtu-over-tcp://`,
    `udp://`, `rtu-over-udp://`) or a serial device (`/dev/ttyUSB0?baudrate=9600&parity=E`, `COM3`).
    `kind` is what the text means when it names no scheme itself. Raises `SettingsError`.
    """
    text = text.strip()
    if not text:
        raise SettingsError("no host given; right would be HOST, HOST:PORT or a serial device")
    scheme, separator, rest = text.partition("://")
    if separator:
        named = _SCHEMES.get(scheme.lower())
        if named is None:
            raise SettingsError(f"unknown kind of link {scheme!r}; known are {', '.join(sorted(_SCHEMES))}")
        if kind is not None and named is not kind:
            raise SettingsError(f"the address says {named}, the option says {kind}; give one of them")
        kind = named
    else:
        rest = text
    if kind is None and (
        rest.startswith("/dev/") or (rest.upper().startswith("COM") and rest[3:4].isdigit())
    ):
        kind = LinkKind.SERIAL
    if kind is LinkKind.SERIAL:
        return _parse_serial(rest)
    return _parse_network(rest, kind or LinkKind.TCP, default_port or DEFAULT_PORT)


def _parse_serial(text: str) -> LinkSettings:
    """Read `device?baudrate=9600&parity=E&stopbits=1&bytesize=8`."""
    device, _, query = text.partition("?")
    numbers: dict[str, int] = {}
    parity = "N"
    for key, values in parse_qs(query, keep_blank_values=True).items():
        value = values[-1]
        if key == "parity":
            parity = value.upper()
        elif key in ("baudrate", "bytesize", "stopbits"):
            if not value.isdecimal():
                raise SettingsError(f"{key} is {value!r}; right would be a whole number")
            numbers[key] = int(value)
        else:
            raise SettingsError(
                f"unknown serial setting {key!r}; known are baudrate, bytesize, parity and stopbits"
            )
    return LinkSettings(
        kind=LinkKind.SERIAL,
        device=device,
        baudrate=numbers.get("baudrate", 9600),
        bytesize=numbers.get("bytesize", 8),
        stopbits=numbers.get("stopbits", 1),
        parity=parity,
    )


def _parse_network(text: str, kind: LinkKind, default_port: int) -> LinkSettings:
    """Read `host`, `host:port` or `[v6]:port`."""
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{text!r} is no address: {error}; right would be HOST or HOST:PORT") from error
    trailing = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None
    if not host or trailing or any(char.isspace() for char in host) or text.endswith(":"):
        raise SettingsError(f"{text!r} is no address; right would be HOST or HOST:PORT")
    return LinkSettings(kind=kind, host=host, port=default_port if port is None else port)
