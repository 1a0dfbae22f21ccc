"""How a device is told what to do, whatever it is told through; and one part's share of its commands."""

from collections.abc import Callable
from typing import Protocol

from ..devices.commands import CommandState, CommandStatus, Order
from ..devices.errors import CommandRefused, CommandUnsupported
from ..devices.profile.model import CommandName


class DeviceCommander(Protocol):
    """The protocol of `devices.commands.Commander`. All but `status` and `supported` raise DeviceError."""

    status: CommandStatus

    @property
    def supported(self) -> tuple[CommandName, ...]:
        """The commands that the device takes."""

    async def recover(self) -> bool:
        """Take back what an earlier run left in force; call it once, before anything else."""

    async def start(self, order: Order) -> None:
        """Put a command in force until its end, and keep it in force."""

    async def release(self, reason: str = "released") -> bool:
        """Take back the command in force; False: it could not be done yet and goes on being tried."""

    async def close(self) -> bool:
        """Release and stop; the last thing to call."""


class PartCommander:
    """The commands of one part of a device (its battery, its PV), which takes one command at a time."""

    def __init__(self, whole: DeviceCommander, name: str, commands: frozenset[CommandName]) -> None:
        """Pass on `commands` only; `name` is the part's, for messages."""
        self._whole = whole
        self._name = name
        self._commands = commands

    @property
    def supported(self) -> tuple[CommandName, ...]:
        """The commands that this part takes."""
        return tuple(name for name in self._whole.supported if name in self._commands)

    @property
    def status(self) -> CommandStatus:
        """Where this part's command stands; idle while another part of the device is commanded."""
        status = self._whole.status
        if status.order is None or status.order.name in self._commands:
            return status
        return CommandStatus(CommandState.IDLE, None, None)

    async def start(self, order: Order) -> None:
        """See `DeviceCommander.start`; refused while another part of the device is commanded."""
        if order.name not in self._commands:
            raise CommandUnsupported(self._name, order.name, [str(name) for name in self.supported])
        other = self._whole.status
        if other.order is not None and other.order.name not in self._commands:
            raise CommandRefused(
                f"{self._name}: the device is told to {other.order.name} for another of its parts, "
                "and takes one command at a time"
            )
        await self._whole.start(order)

    async def release(self, reason: str = "released") -> bool:
        """See `DeviceCommander.release`; another part's command stays in force."""
        order = self._whole.status.order
        if order is not None and order.name not in self._commands:
            return True
        return await self._whole.release(reason)


type StatusListener = Callable[[CommandStatus], None]
