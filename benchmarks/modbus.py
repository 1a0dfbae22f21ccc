"""Modbus: reads over one link against bare pymodbus, ten slow devices polled at once, requests per poll."""

import asyncio
import functools
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from multiprocessing.connection import Connection

from pymodbus.client import AsyncModbusTcpClient

from benchmarks.harness import Figures, progress, run
from custom_components.energy_ledger.devices.device import Device
from custom_components.energy_ledger.devices.errors import DeviceError
from custom_components.energy_ledger.devices.mapping import Mapper
from custom_components.energy_ledger.devices.planner import Item, Limits, items_for, plan
from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import PollGroup, Profile, RegisterPoint
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.config import ConfigError, build_config
from simulator.home import SimulatedHome
from simulator.modbus.registers import Registers, Space
from simulator.modbus.server import Link as ServerLink
from simulator.modbus.server import LinkSettings as ServerSettings
from simulator.modbus.wire_log import WireLog

_READ_REGISTERS = 100
_READS_PER_SLICE = 250
_SLICES = 24
_DEVICES = 10
_LATENCY_S = 0.02
_POLLS = 8
_PROFILE = "goodwe_et"


class _Plain:
    """A unit of plain registers."""

    def __init__(self) -> None:
        self._registers = Registers()
        self._registers.map(0, range(200))

    def read(self, space: Space, address: int, count: int) -> bytes:
        if space is not Space.HOLDING:
            raise ValueError(f"only holding registers are read here, not {space}")
        return self._registers.read_bytes(address, count)

    def write(self, space: Space, address: int, values: Sequence[int], function: int) -> None:
        raise ValueError(f"nothing is written here (function {function}, {space} {address}: {list(values)})")

    def silent(self) -> bool:
        return False

    def reboot(self) -> None:
        return None


def _serve_plain(pipe: Connection) -> None:
    """Server process: one link of plain registers; tells its port, ends when the pipe closes."""

    async def serve() -> None:
        link = ServerLink(ServerSettings("plain"), {1: _Plain()}, WireLog(lambda: 0))
        await link.start()
        pipe.send([link.port])
        await _until_closed(pipe)
        await link.stop()

    asyncio.run(serve())


def _serve_homes(pipe: Connection) -> None:
    """Server process: ten devices, each on a link of its own with the latency of real ones."""
    device = {"profile": _PROFILE}
    link = {"latency_ms": _LATENCY_S * 1000, "devices": [device]}
    links = [{**link, "name": f"link{number}"} for number in range(_DEVICES)]
    config = build_config({"factor": 0, "pv": True, "battery": True, "links": links}, now_s=1_780_000_000)

    async def serve() -> None:
        async with SimulatedHome(config) as home:
            pipe.send([server.port for server in home.links.values()])
            await _until_closed(pipe)

    asyncio.run(serve())


async def _until_closed(pipe: Connection) -> None:
    def wait() -> None:
        try:
            pipe.recv()
        except EOFError:
            return

    await asyncio.get_running_loop().run_in_executor(None, wait)


class _Server:
    """A server in a process of its own, so that it does not share our interpreter."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.ports: list[int] = self._pipe.recv()

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


async def _rate(read: Callable[[], Awaitable[object]], reads: int) -> float:
    """Reads per second."""
    start = time.perf_counter()
    for _ in range(reads):
        await read()
    return reads / (time.perf_counter() - start)


async def _measure_reads(port: int) -> tuple[float, float, float]:
    """Reads per second of bare pymodbus and of our link, turn about in short slices, and their ratio.

    The ratio is the median of the ratios of neighbouring slices: what slows the machine for a moment
    slows both.
    """
    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
    await client.connect()
    link = Link(LinkSettings(host="127.0.0.1", port=port))
    unit = link.unit(1)

    async def bare() -> object:
        return await client.read_holding_registers(0, count=_READ_REGISTERS, device_id=1)

    async def ours() -> object:
        return await unit.read(3, 0, _READ_REGISTERS)

    for read in (bare, ours):
        await _rate(read, _READS_PER_SLICE)
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(_SLICES):
        order = [("bare", bare), ("ours", ours)]
        for name, read in order if number % 2 else order[::-1]:
            rates[name].append(await _rate(read, _READS_PER_SLICE))
    client.close()
    await link.close()
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True))
    return statistics.median(rates["bare"]), statistics.median(rates["ours"]), ratio


async def _seconds(polls: Iterable[Awaitable[object]]) -> float:
    start = time.perf_counter()
    await asyncio.gather(*polls)
    return time.perf_counter() - start


async def _measure_polls(ports: Sequence[int]) -> tuple[float, float, float]:
    """Seconds to poll the slowest of ten devices alone, all ten at once, and the ratio."""
    profile = load_profiles()[_PROFILE]
    links = [Link(LinkSettings(host="127.0.0.1", port=port)) for port in ports]
    devices = [Device(profile, {"": link.unit(profile.link.units[0])}) for link in links]
    for device in devices:
        await device.poll()
        await device.poll()
        if device.error is not None:
            raise device.error
    alone: list[float] = []
    together: list[float] = []
    for _ in range(_POLLS):
        alone.append(max([await _seconds([device.poll()]) for device in devices]))
        together.append(await _seconds(device.poll() for device in devices))
    for link in links:
        await link.close()
    slowest = statistics.median(alone)
    return slowest, statistics.median(together), statistics.median(together) / slowest


def _fewest(items: Sequence[Item], limits: Limits) -> int:
    """The least number of blocks for these items, by trying every division (not how the planner works)."""
    ordered = sorted(items)

    def one_block(group: Sequence[Item]) -> bool:
        start, end = group[0], group[0].last
        for item in group[1:]:
            gap = range(end + 1, item.first)
            blocked = any(
                hole.function == item.function and hole.first <= address <= hole.last
                for hole in limits.holes
                for address in gap
            )
            if (item.companion, item.function) != (start.companion, start.function) or blocked:
                return False
            if len(gap) > limits.max_gap:
                return False
            end = max(end, item.last)
        return end - start.first < limits.max_registers

    @functools.cache
    def best(count: int) -> int:
        if count == 0:
            return 0
        firsts = (first for first in range(count) if one_block(ordered[first:count]))
        return min(1 + best(first) for first in firsts)

    return best(len(ordered))


async def _requests(profile: Profile) -> tuple[int, int, int] | str:
    """Requests of one poll in steady state as sent, as planned, and the least that the limits allow."""
    first = profile.link.transports[0].transport.value
    link_config = {
        "transport": "rtu_over_tcp" if first == "serial" else first,
        "devices": [{"profile": profile.id}],
    }
    try:
        config = build_config(
            {"factor": 0, "pv": True, "battery": True, "fuel_cell": True, "links": [link_config]},
            now_s=1_780_000_000,
        )
    except ConfigError as error:
        return str(error)
    async with SimulatedHome(config) as home:
        (server,) = home.links.values()
        kind = LinkKind(server.settings.transport.value)
        link = Link(LinkSettings(kind=kind, host="127.0.0.1", port=server.port, timeout_s=1.0))
        units = {"": link.unit(profile.link.units[0])}
        units |= {name: link.unit(unit) for name, unit in profile.link.companions.items()}
        chosen = next((variant.profile for variant in profile.variants.values()), profile)
        device = Device(chosen, units)
        try:
            for _ in range(2):
                await device.poll()
            bound = await Mapper(chosen, units).bind()
        except DeviceError as error:
            return str(error)
        finally:
            await link.close()
        if device.error is not None:
            return str(device.error)
        points: list[RegisterPoint] = [point for point in bound.points if point.poll is PollGroup.FAST]
        points += [identity.point for identity in bound.identity]
        limits = Limits(profile.link.max_registers, profile.link.max_gap, profile.holes)
        items = items_for(points, limits)
        return device.requests_last_poll, len(plan(items, limits)), _fewest(items, limits)


async def _measure_requests(figures: Figures) -> None:
    rows: list[Sequence[float | str]] = []
    excess = 0
    for profile in load_profiles().values():
        counted = await _requests(profile)
        if isinstance(counted, str):
            rows.append((profile.id, "-", "-", "-", counted))
            continue
        sent, planned, least = counted
        excess += sent - least
        figures.add(f"requests_{profile.id}", sent)
        link = profile.link
        rows.append((profile.id, sent, planned, least, f"{link.max_registers} / {link.max_gap}"))
    figures.add("requests_beyond_minimum", excess, most=0)
    figures.add_table(
        "Requests per poll in steady state (fast points and identity)",
        ("profile", "sent", "planned", "least possible", "longest block / gap"),
        rows,
    )


def main(figures: Figures) -> None:
    """Measure reads, polls and requests."""
    progress("reads over one link")
    with _Server(_serve_plain) as server:
        bare, ours, ratio = asyncio.run(_measure_reads(server.ports[0]))
    figures.add("read_ratio", ratio, least=0.8)
    figures.add("reads_per_second", ours, "1/s")
    figures.add("reads_per_second_bare_pymodbus", bare, "1/s")
    progress(f"{_DEVICES} devices of {_LATENCY_S * 1000:g} ms latency")
    with _Server(_serve_homes) as server:
        slowest, together, poll_ratio = asyncio.run(_measure_polls(server.ports))
    figures.add("poll_ratio", poll_ratio, most=1.2)
    figures.add("poll_all_seconds", together, "s")
    figures.add("poll_slowest_alone_seconds", slowest, "s")
    progress("requests per poll of every profile")
    asyncio.run(_measure_requests(figures))


if __name__ == "__main__":
    run("modbus", main)
