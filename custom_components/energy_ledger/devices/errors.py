"""What can go wrong between us and a device, each with a message in plain words.

The family is small on purpose: callers decide by class what to do (try again, set a block aside,
tell the user), and show ``str(error)`` as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

# Modbus Application Protocol Specification V1.1b3, section 7.
EXCEPTION_NAMES: Final[dict[int, str]] = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge (still working on it)",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
DEVICE_BUSY: Final = 6
GATEWAY_CODES: Final = frozenset({10, 11})
# The codes by which a device says "these registers can't be read (written) like this".
REFUSAL_CODES: Final = frozenset({1, 2, 3, 4, 7, 8})


class DeviceError(Exception):
    """Base of everything that the device layer raises on purpose.

    What a user meets while a device is set up has a `key` besides, by which a text in the user's language is
    found; it shows the `figures`.
    """

    def __init__(self, message: str, key: str = "", **figures: object) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.key = key
        self.figures = figures

    def retold(self, message: str) -> Self:
        """The same error, told with more of what surrounds it."""
        told = type(self)(message)
        told.key, told.figures = self.key, self.figures
        return told


class SettingsError(DeviceError):
    """A link, unit or device setting can't be right; the message says which and what would be."""


class LinkError(DeviceError):
    """No usable answer came over the link."""


class LinkClosed(LinkError):
    """The link could not be opened, or was closed while a request was under way."""


class HostSilent(LinkClosed):
    """Nothing answered the attempt to connect."""


class LinkTimeout(LinkError):
    """Nothing came back in time."""


class MalformedReply(LinkError):
    """An answer came, but not to the question that was asked (length, function, address)."""


class ExceptionReply(DeviceError):
    """The device answered with a Modbus exception.

    ``code`` is the Modbus exception code, ``function`` the function code of the request.
    """

    def __init__(self, where: str, function: int, address: int, count: int, code: int) -> None:
        """Name the request and the meaning of the code."""
        self.code = code
        self.function = function
        self.address = address
        self.count = count
        meaning = EXCEPTION_NAMES.get(code, "unknown exception")
        span = f"{address}" if count == 1 else f"{address}..{address + count - 1}"
        super().__init__(f"{where} refused function {function} at {span}: {meaning} (exception {code})")

    @property
    def refused(self) -> bool:
        """True when the device refuses these registers, rather than being unable to answer now."""
        return self.code in REFUSAL_CODES


class DeviceBusy(ExceptionReply):
    """Exception 6: the device asks to be left alone for a moment."""


class GatewayError(ExceptionReply):
    """Exceptions 10 and 11: the gateway answers, the device behind it does not."""


class WriteUnconfirmed(LinkError):
    """A write was sent and no answer came: it may or may not have taken effect.

    It is never sent again blindly; whoever wrote must read back first.
    """


class IdentityMismatch(DeviceError):
    """Another device (or another register layout) answers than the one that was set up."""


class NotDetected(DeviceError):
    """Nothing that answers on the link is a device that we know."""


class UnknownDevice(NotDetected):
    """Something answers, but it is none of the known devices."""


class ProfileError(DeviceError):
    """A device profile is wrong; the message names file, line and key."""


class CommandError(DeviceError):
    """A command was not carried out."""


class CommandUnsupported(CommandError):
    """The device's profile has no such command."""

    def __init__(self, device: str, command: str, supported: Sequence[str]) -> None:
        """Say what the device can do instead."""
        can = ", ".join(sorted(supported)) if supported else "none, it can only be read"
        super().__init__(f"{device} does not take the command {command}; its commands: {can}")


class ValueOutOfRange(CommandError):
    """A command's value lies outside what the device allows; nothing was sent."""

    def __init__(self, what: str, value: float, low: float, high: float, unit: str) -> None:
        """Name the value and the range that would be right."""
        self.value = value
        self.low = low
        self.high = high
        super().__init__(f"{what} is {value:g} {unit}, allowed are {low:g} to {high:g} {unit}")


class CommandRefused(CommandError):
    """The device refused a register of the command, or did not take the value over."""


class ReserveReached(CommandError):
    """The storage is at its reserve: the command is not started, or was released."""
