"""A raw Modbus client for the tests, apart from every library, and homes to talk to."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any

from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import Profile
from simulator.config import HomeConfig, build_config
from simulator.home import SimulatedHome

NOON = 1_782_039_600  # 2026-06-21 11:00 UTC, high sun in Berlin
PATIENCE_S = 5.0


class ModbusExceptionError(Exception):
    """An exception reply."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def slow_crc(data: bytes) -> bytes:
    """The CRC of MODBUS over Serial Line V1.02, bit by bit as its appendix describes it."""
    register = 0xFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            carry = register & 1
            register >>= 1
            if carry:
                register ^= 0xA001
    return struct.pack("<H", register)


class RawClient:
    """One connection. `rtu` chooses RTU frames; everything waits at most `PATIENCE_S`."""

    def __init__(self, port: int, *, rtu: bool = False) -> None:
        self._port = port
        self._rtu = rtu
        self._transaction = 0
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> RawClient:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def frame(self, unit: int, pdu: bytes) -> bytes:
        """A request's frame; with MBAP, a new transaction."""
        if self._rtu:
            body = bytes((unit,)) + pdu
            return body + slow_crc(body)
        self._transaction += 1
        return struct.pack(">HHHB", self._transaction, 0, len(pdu) + 1, unit) + pdu

    async def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def received(self, count: int = 4096, within_s: float = PATIENCE_S) -> bytes:
        """Whatever comes next, empty when the connection ends; TimeoutError if nothing does."""
        assert self._reader is not None
        return await asyncio.wait_for(self._reader.read(count), within_s)

    async def ends(self) -> bool:
        """Whether the other side ends the connection, whichever way, and sends nothing more."""
        try:
            return await self.received() == b""
        except ConnectionResetError:
            return True

    async def exchange(self, unit: int, pdu: bytes) -> bytes:
        """Send a request and return its reply's PDU, its frame checked; raises ModbusExceptionError."""
        await self.send(self.frame(unit, pdu))
        return await self.reply(unit, pdu[0])

    async def reply(self, unit: int, function: int) -> bytes:
        data = await self.received()
        if self._rtu:
            assert data[-2:] == slow_crc(data[:-2]), f"wrong CRC in {data.hex()}"
            answered, pdu = data[0], data[1:-2]
        else:
            transaction, protocol, length, answered = struct.unpack(">HHHB", data[:7])
            assert (transaction, protocol, length) == (self._transaction, 0, len(data) - 6)
            pdu = data[7:]
        assert answered == unit
        if pdu[0] & 0x80:
            raise ModbusExceptionError(pdu[1])
        assert pdu[0] == function
        return pdu

    async def read(self, unit: int, address: int, count: int, function: int = 3) -> list[int]:
        pdu = await self.exchange(unit, struct.pack(">BHH", function, address, count))
        assert pdu[1] == 2 * count == len(pdu) - 2
        return list(struct.unpack(f">{count}H", pdu[2:]))

    async def write(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write registers with function 16."""
        count = len(values)
        request = struct.pack(f">BHHB{count}H", 16, address, count, 2 * count, *values)
        pdu = await self.exchange(unit, request)
        assert pdu == request[:5]

    async def write_one(self, unit: int, address: int, value: int) -> None:
        """Write one register with function 6."""
        request = struct.pack(">BHH", 6, address, value)
        assert await self.exchange(unit, request) == request


def config(*devices: dict[str, Any] | str, **home: Any) -> HomeConfig:
    """A home at noon whose clock stands still; each device on a TCP link of its own, named d0, d1 ..."""
    links = [
        {
            "name": f"d{number}",
            "transport": "tcp",
            "devices": [{"profile": device} if isinstance(device, str) else device],
        }
        for number, device in enumerate(devices)
    ]
    values: dict[str, Any] = {"factor": 0, "pv": True, "battery": True, "fuel_cell": True, "links": links}
    return build_config(values | home, now_s=NOON)


@asynccontextmanager
async def running(*devices: dict[str, Any] | str, **home: Any) -> AsyncIterator[SimulatedHome]:
    """A started home (see `config`), one simulated second old."""
    async with SimulatedHome(config(*devices, **home)) as simulated:
        simulated.advance(1)
        yield simulated


def port_of(home: SimulatedHome, link: str = "d0") -> int:
    return home.link(link).port


@cache
def profiles() -> Mapping[str, Profile]:
    """Our profiles, read once."""
    return load_profiles()


def every_profile() -> list[tuple[str, str]]:
    """Every profile with each of its variants, "" where it has none."""
    return [
        (profile.id, variant)
        for profile in profiles().values()
        for variant in (list(profile.variants) or [""])
    ]


def device_of(profile_id: str, variant: str, **more: Any) -> dict[str, Any]:
    """A device's description for `config`."""
    return {"profile": profile_id, **({"variant": variant} if variant else {}), **more}


def f32(value: float, *, little: bool = False) -> list[int]:
    """A float's two words."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [low, high] if little else [high, low]


def i32(value: int, *, little: bool = False) -> list[int]:
    """A signed or unsigned number's two words."""
    high, low = struct.unpack(">HH", struct.pack(">I", value & 0xFFFF_FFFF))
    return [low, high] if little else [high, low]
