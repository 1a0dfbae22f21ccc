"""Home Assistant's shared Modbus connection as a transport of our device layer.

Many inverters take one Modbus client. When another integration already talks to one, a connection of our
own would be refused or throw that integration out; Home Assistant's `modbus` integration lends units of one
connection to all of them. This adapter is the only module that knows both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from homeassistant.components.modbus.connection import async_get_temporary_unit, async_get_unit
from homeassistant.exceptions import HomeAssistantError
from modbus_connection import (
    ModbusConnectionError,
    ModbusError,
    ModbusExceptionError,
    ModbusProtocolError,
    ModbusSerialParams,
    ModbusTcpParams,
    ModbusUdpParams,
)
from modbus_connection import ModbusUnit as HomeAssistantUnit

from .devices.errors import (
    DEVICE_BUSY,
    GATEWAY_CODES,
    DeviceBusy,
    ExceptionReply,
    GatewayError,
    LinkClosed,
    LinkError,
    LinkTimeout,
    MalformedReply,
    SettingsError,
    WriteUnconfirmed,
)
from .devices.transport.base import LinkKind, LinkSettings, check_read, check_unit_id, check_write

if TYPE_CHECKING:
    from homeassistant.components.modbus.connection import ModbusParams
    from homeassistant.config_entries import ConfigEntry
    from homeassistant.core import HomeAssistant

# The line speed that Home Assistant itself gives an RTU link carried over a socket; both must agree.
_SOCKET_BAUDRATE = 115_200

# How long a request may wait for its turn and for a busy device, beyond twice its own timeout (seconds):
# the shared link would go on asking a busy device for a minute.
_TURN_S = 3.0


def modbus_params(settings: LinkSettings) -> ModbusParams:
    """Our link settings as Home Assistant's. Raises SettingsError for a link that it does not offer."""
    match settings.kind:
        case LinkKind.TCP:
            return ModbusTcpParams(host=settings.host, port=settings.port)
        case LinkKind.UDP:
            return ModbusUdpParams(host=settings.host, port=settings.port)
        case LinkKind.RTU_OVER_TCP:
            return ModbusSerialParams(device=f"socket://{settings.endpoint}", baudrate=_SOCKET_BAUDRATE)
        case LinkKind.SERIAL:
            return ModbusSerialParams(
                device=settings.device,
                baudrate=settings.baudrate,
                bytesize=7 if settings.bytesize == 7 else 8,
                parity="E" if settings.parity == "E" else "O" if settings.parity == "O" else "N",
                stopbits=2 if settings.stopbits == 2 else 1,
            )
        case LinkKind.RTU_OVER_UDP:
            raise SettingsError(
                "Home Assistant's shared Modbus connection does not carry RTU over UDP; "
                "use a connection of our own",
                "shared_rtu_over_udp",
            )


class SharedUnit:
    """One unit of a connection that Home Assistant shares; a `devices.transport.base.ModbusUnit`."""

    def __init__(self, unit: HomeAssistantUnit, unit_id: int, settings: LinkSettings) -> None:
        """Ask the shared link for what this device needs: spacing, connect delay, timeout."""
        self._unit = unit
        self._unit_id = unit_id
        self._endpoint = settings.endpoint
        self._no_connection_key = settings.no_connection_key
        self._longest_s = 2 * settings.timeout_s + _TURN_S
        unit.set_message_spacing(settings.spacing_s)
        unit.require_timeout(settings.timeout_s)
        unit.require_connect_delay(settings.connect_delay_s or None)

    @property
    def unit_id(self) -> int:
        """The Modbus unit id."""
        return self._unit_id

    @property
    def name(self) -> str:
        """Endpoint and unit, for messages."""
        return f"{self._endpoint} unit {self._unit_id}"

    async def read(self, function: int, address: int, count: int) -> list[int]:
        """See `ModbusUnit.read`."""
        check_read(function, address, count)
        what = (function, address, count)
        values = [int(value) for value in await self._exchange(self._read(*what), what)]
        if len(values) != count:
            await self._disconnect()
            raise MalformedReply(f"{self.name}: asked for {count} values at {address}, got {len(values)}")
        return values

    def _read(self, function: int, address: int, count: int) -> Awaitable[Sequence[int]]:
        match function:
            case 1:
                return self._unit.read_coils(address, count)
            case 2:
                return self._unit.read_discrete_inputs(address, count)
            case 3:
                return self._unit.read_holding_registers(address, count)
            case _:
                return self._unit.read_input_registers(address, count)

    async def write(self, function: int, address: int, values: Sequence[int]) -> None:
        """See `ModbusUnit.write`."""
        check_write(function, address, values)
        what = (function, address, len(values))
        try:
            await self._exchange(self._write(function, address, list(values)), what)
        except LinkError as error:
            # Whether it was sent can't be known here, so it must not be taken as not sent.
            raise WriteUnconfirmed(
                f"{self.name}: function {function} at {address} was not confirmed ({error})"
            ) from error

    def _write(self, function: int, address: int, values: list[int]) -> Awaitable[None]:
        match function:
            case 5:
                return self._unit.write_coil(address, bool(values[0]))
            case 6:
                return self._unit.write_register(address, values[0])
            case 15:
                return self._unit.write_coils(address, [bool(value) for value in values])
            case _:
                return self._unit.write_registers(address, values)

    async def _exchange[Answer](self, request: Awaitable[Answer], what: tuple[int, int, int]) -> Answer:
        """Wait for an exchange; translate its errors, and drop the link after one without a clean answer.

        A late reply would otherwise answer the next question: RTU frames carry no transaction id.
        """
        try:
            async with asyncio.timeout(self._longest_s):
                return await request
        except ModbusExceptionError as error:
            raise _exception_reply(self.name, what, error) from error
        except ModbusProtocolError as error:
            await self._disconnect()
            raise MalformedReply(f"{self.name}: {error}") from error
        except TimeoutError as error:  # ModbusTimeoutError is one, too
            await self._disconnect()
            reason = str(error) or f"no answer within {self._longest_s:g} s"
            raise LinkTimeout(f"{self.name}: {reason}") from error
        except (ModbusConnectionError, ModbusError) as error:
            raise LinkClosed(
                f"{self.name}: {error}", self._no_connection_key, endpoint=self._endpoint, detail=error
            ) from error
        except asyncio.CancelledError:
            await asyncio.shield(self._disconnect())
            raise

    async def _disconnect(self) -> None:
        with contextlib.suppress(ModbusError):
            await self._unit.disconnect()


def _exception_reply(name: str, what: tuple[int, int, int], error: ModbusExceptionError) -> ExceptionReply:
    """Our error for a Modbus exception."""
    code = int(error.exception_code or 0)
    kind: type[ExceptionReply] = ExceptionReply
    if code == DEVICE_BUSY:
        kind = DeviceBusy
    elif code in GATEWAY_CODES:
        kind = GatewayError
    return kind(name, *what, code)


def _in_use(settings: LinkSettings, error: HomeAssistantError) -> SettingsError:
    """Our error for a shared connection that is open with other settings."""
    endpoint = settings.endpoint
    return SettingsError(f"{endpoint}: {error}", "shared_in_use", endpoint=endpoint)


def shared_unit(hass: HomeAssistant, entry: ConfigEntry, settings: LinkSettings, unit_id: int) -> SharedUnit:
    """A unit of the shared connection, held until `entry` unloads.

    Raises SettingsError when the device is already in use over other link settings.
    """
    check_unit_id(unit_id)
    try:
        unit = async_get_unit(hass, entry, modbus_params(settings), unit_id)
    except HomeAssistantError as error:
        raise _in_use(settings, error) from error
    return SharedUnit(unit, unit_id, settings)


@asynccontextmanager
async def temporary_shared_unit(
    hass: HomeAssistant, settings: LinkSettings, unit_id: int
) -> AsyncIterator[SharedUnit]:
    """A unit of the shared connection for the length of a set-up form's step.

    Raises SettingsError when the device is already in use over other link settings.
    """
    check_unit_id(unit_id)
    async with AsyncExitStack() as stack:
        holder = async_get_temporary_unit(hass, modbus_params(settings), unit_id)
        try:
            unit = await stack.enter_async_context(holder)
        except HomeAssistantError as error:
            raise _in_use(settings, error) from error
        yield SharedUnit(unit, unit_id, settings)
