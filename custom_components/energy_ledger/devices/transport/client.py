"""One connection: the only module that knows pymodbus (3.13.1; its own retries and reconnects are off)."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusUdpClient
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

from ..errors import HostSilent, LinkClosed, LinkError, LinkTimeout, MalformedReply
from .base import LinkKind, LinkSettings
from .framing import Expected, Verdict, judge_rtu, judge_socket, skip_late_rtu

if TYPE_CHECKING:
    from pymodbus.client.base import ModbusBaseClient
    from pymodbus.pdu import ModbusPDU

# pymodbus has a timer of its own for each reply; ours ends first, so that it never fires.
_LATER: Final = 5.0


class Client:
    """A connection that is opened once, asked one thing at a time, and thrown away when it fails."""

    def __init__(self, settings: LinkSettings) -> None:
        """Prepare, without connecting."""
        self._settings = settings
        self._expected: Expected | None = None
        self._skip_late = False
        self.sent = False  # whether the last exchange's request left us
        self._client = self._make()

    def _make(self) -> ModbusBaseClient:
        settings = self._settings
        framer = FramerType.RTU if settings.rtu_framed else FramerType.SOCKET
        timeout = 60.0 + _LATER
        if settings.kind is LinkKind.SERIAL:
            return AsyncModbusSerialClient(
                settings.device,
                framer=framer,
                baudrate=settings.baudrate,
                bytesize=settings.bytesize,
                parity=settings.parity,
                stopbits=settings.stopbits,
                timeout=timeout,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._on_packet,
                trace_connect=self._on_connect,
            )
        make = (
            AsyncModbusUdpClient
            if settings.kind in (LinkKind.UDP, LinkKind.RTU_OVER_UDP)
            else AsyncModbusTcpClient
        )
        return make(
            settings.host,
            framer=framer,
            port=settings.port,
            name=settings.endpoint,
            timeout=timeout,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._on_packet,
            trace_connect=self._on_connect,
        )

    @property
    def connected(self) -> bool:
        """Whether the connection is open, as far as can be known without asking."""
        return self._client.connected

    async def connect(self) -> None:
        """Open the connection. Raises HostSilent or another LinkClosed, in words for the user."""
        endpoint = self._settings.endpoint
        # As pymodbus' own connect, which hides the reason and pauses afterwards.
        context = self._client.ctx
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                context.transport, _ = await context.call_create()
        except TimeoutError:
            raise HostSilent(
                f"{endpoint} did not answer within {self._settings.timeout_s:g} s: "
                "check the address, the power and the network",
                "host_silent",
                endpoint=endpoint,
                seconds=f"{self._settings.timeout_s:g}",
            ) from None
        except (OSError, ModbusException, RuntimeError, ValueError) as error:
            raise self._not_opened(error) from error

    def _not_opened(self, error: Exception) -> LinkClosed:
        """Why the link can't be opened, with what the user may check."""
        endpoint = self._settings.endpoint
        reason, key, detail = str(error), self._settings.no_connection_key, str(error)
        if self._settings.kind is LinkKind.SERIAL:
            reason = f"{error}; check that the serial device exists and that nothing else uses it"
        elif isinstance(error, ConnectionRefusedError):
            reason = "connection refused; check the port, and that Modbus is switched on in the device"
            key = "connection_refused"
        elif isinstance(error, socket.gaierror):
            reason = "no such host; check the name or use the address"
            key = "host_unknown"
        return LinkClosed(
            f"{endpoint} can't be opened: {reason}",
            key,
            endpoint=endpoint,
            host=self._settings.host,
            detail=detail,
        )

    def close(self) -> None:
        """Close the connection at once; what is under way fails."""
        self._fail(LinkClosed("connection closed", "link_closed", endpoint=self._settings.endpoint))
        self._client.close()

    async def exchange(
        self, expected: Expected, timeout_s: float, *, skip_late: bool = False
    ) -> list[int] | int:
        """Ask and wait for the answer: values, an empty list for a write, or an exception code.

        Raises LinkTimeout, LinkClosed or MalformedReply; the connection is of no use afterwards.
        """
        self._expected = expected
        self._skip_late = skip_late
        self.sent = False
        timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up, timeout_s)
        try:
            reply = await self._call(expected)
        except LinkError:
            raise
        except ModbusException as error:
            if isinstance(error.__cause__, asyncio.CancelledError):
                raise error.__cause__ from None  # pymodbus 3.13 hides that the caller went away
            endpoint = self._settings.endpoint
            raise LinkClosed(
                str(error), self._settings.no_connection_key, endpoint=endpoint, detail=str(error)
            ) from error
        finally:
            timer.cancel()
            self._expected = None
        if reply.isError():
            return int(reply.exception_code)
        if expected.values is not None:
            return []
        values: list[int] = reply.registers if expected.function in (3, 4) else _bits(reply, expected.count)
        if len(values) != expected.count:
            raise MalformedReply(f"asked for {expected.count} values, got {len(values)}")
        return values

    async def _call(self, expected: Expected) -> ModbusPDU:
        client, unit, address = self._client, expected.unit, expected.address
        match expected.function:
            case 3:
                return await client.read_holding_registers(address, count=expected.count, device_id=unit)
            case 4:
                return await client.read_input_registers(address, count=expected.count, device_id=unit)
            case 1:
                return await client.read_coils(address, count=expected.count, device_id=unit)
            case 2:
                return await client.read_discrete_inputs(address, count=expected.count, device_id=unit)
        values = expected.values or ()
        match expected.function:
            case 6:
                return await client.write_register(address, values[0], device_id=unit)
            case 16:
                return await client.write_registers(address, list(values), device_id=unit)
            case 5:
                return await client.write_coil(address, bool(values[0]), device_id=unit)
            case _:
                return await client.write_coils(address, [bool(v) for v in values], device_id=unit)

    def _give_up(self, timeout_s: float) -> None:
        self._fail(LinkTimeout(f"no answer within {timeout_s:g} s"))

    def _fail(self, error: LinkError) -> None:
        """End the exchange under way with `error`."""
        future = self._client.ctx.response_future
        if self._expected is not None and not future.done():
            future.set_exception(error)

    def _succeed(self, expected: Expected, content: bytes) -> None:
        """End the exchange under way with the registers that came (pymodbus unpacks them one by one)."""
        future = self._client.ctx.response_future
        if not future.done():
            registers = list(struct.unpack(f">{expected.count}H", content))
            future.set_result(ReadHoldingRegistersResponse(registers=registers, dev_id=expected.unit))

    def _on_connect(self, connected: bool) -> None:
        if not connected:
            self._fail(
                LinkClosed(
                    "the device closed the connection (it may take only one Modbus client at a time)",
                    "hung_up",
                    endpoint=self._settings.endpoint,
                )
            )

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        """Note what is sent; judge what is received before pymodbus decodes it."""
        expected = self._expected
        if sending:
            self.sent = True
            if expected is not None and not self._settings.rtu_framed:
                expected.transaction = int.from_bytes(data[:2], "big")
            return data
        if expected is None:
            return b""
        if self._settings.rtu_framed:
            if self._skip_late:
                data = skip_late_rtu(data, expected)
            verdict: Verdict | bytes = judge_rtu(data, expected)
        else:
            verdict = judge_socket(data, expected)
        if isinstance(verdict, bytes):
            self._succeed(expected, verdict)
            return b""
        if verdict is Verdict.WRONG:
            self._fail(MalformedReply("the answer does not fit the question (wrong length or function)"))
            return b""
        return data


def _bits(reply: ModbusPDU, count: int) -> list[int]:
    """The bits of a reply without its padding to whole bytes."""
    return [int(bit) for bit in reply.bits[:count]]
