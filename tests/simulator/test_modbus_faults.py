"""Every fault on demand, over sockets, with TCP and RTU framing: it does what it says, then it is over."""

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest

from simulator.config import HomeConfig, build_config
from simulator.home import SimulatedHome
from simulator.modbus.faults import Fault, FaultBoard, FaultKind, fault_from
from tests.simulator.support import NOON, ModbusExceptionError, RawClient, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOODWE = 247
SOC = 37_007
MODE = 47_511


@pytest.fixture(params=["tcp", "rtu_over_tcp"])
def rtu(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "rtu_over_tcp")


def _config(*, rtu: bool, **link: Any) -> HomeConfig:
    transport = "rtu_over_tcp" if rtu else "tcp"
    device = {"profile": "goodwe_et", "unit": GOODWE}
    links = [{"name": "bus", "transport": transport, "devices": [device], **link}]
    return build_config({"factor": 0, "pv": True, "battery": True, "links": links}, now_s=NOON)


@pytest.fixture
async def home(rtu: bool) -> AsyncIterator[SimulatedHome]:
    async with SimulatedHome(_config(rtu=rtu)) as simulated:
        simulated.advance(1)
        yield simulated


def _port(home: SimulatedHome) -> int:
    return home.link("bus").port


async def _works(home: SimulatedHome, *, rtu: bool) -> bool:
    async with RawClient(_port(home), rtu=rtu) as client:
        return await client.read(GOODWE, SOC, 1) == [50]


async def test_reads_and_writes_without_faults(home: SimulatedHome, rtu: bool) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        assert await client.read(GOODWE, SOC, 1) == [50]
        await client.write(GOODWE, MODE, [8, 0])
        await client.write_one(GOODWE, MODE, 1)
        assert await client.read(GOODWE, MODE, 2) == [1, 0]
        with pytest.raises(ModbusExceptionError, match="exception 2"):
            await client.read(GOODWE, 0, 1)
        with pytest.raises(ModbusExceptionError, match="exception 2"):
            await client.write_one(GOODWE, SOC, 1)
        with pytest.raises(ModbusExceptionError, match="exception 1"):
            await client.exchange(GOODWE, b"\x11")
    seen = list(home.log.writes())
    assert [(w.unit, w.function, w.address, w.values, w.exception) for w in seen] == [
        (GOODWE, 16, MODE, (8, 0), 0),
        (GOODWE, 6, MODE, (1,), 0),
        (GOODWE, 6, SOC, (1,), 2),
    ]
    assert [w.sequence for w in seen] == [1, 2, 3]
    assert all(w.link == "bus" and w.simulated_s == NOON + 1 for w in seen)
    assert list(home.log.writes(since=2)) == seen[2:]
    assert home.log.read_count["bus"] == 3


async def test_another_unit_is_silence(home: SimulatedHome, rtu: bool) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(client.frame(5, struct.pack(">BHH", 6, MODE, 1)))
        with pytest.raises(TimeoutError):
            await client.received(within_s=0.2)
    assert [seen.exception for seen in home.log.writes()] == [11]


async def test_late_reply_comes_late_and_holds_up_the_next(home: SimulatedHome, rtu: bool) -> None:
    home.inject("bus", Fault(FaultKind.LATE, count=1, delay_s=0.3))
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1)))
        with pytest.raises(TimeoutError):
            await client.received(within_s=0.1)
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 3, MODE, 1)))
        answers = b""
        while len(answers) < (14 if rtu else 22):
            answers += await client.received()
        size = len(answers) // 2
        place = 3 if rtu else 9
        values = [answers[start + place : start + place + 2] for start in (0, size)]
        assert values == [b"\x00\x32", b"\x00\x01"]


async def test_dropped_request_does_nothing_unless_applied(home: SimulatedHome, rtu: bool) -> None:
    home.inject("bus", Fault(FaultKind.DROP, count=1))
    async with RawClient(_port(home), rtu=rtu) as client:
        for applied in (False, True):
            if applied:
                home.inject("bus", Fault(FaultKind.DROP, count=1, applied=True))
            await client.send(client.frame(GOODWE, struct.pack(">BHH", 6, MODE, 8)))
            with pytest.raises(TimeoutError):
                await client.received(within_s=0.1)
            assert await client.read(GOODWE, MODE, 1) == [8 if applied else 1]
    assert [seen.exception for seen in home.log.writes()] == [11, 0]


@pytest.mark.parametrize("words", [-1, -5, 1])
async def test_wrong_length(home: SimulatedHome, rtu: bool, words: int) -> None:
    home.inject("bus", Fault(FaultKind.WRONG_LENGTH, count=1, words=words))
    async with RawClient(_port(home), rtu=rtu) as client:
        pdu = await client.exchange(GOODWE, struct.pack(">BHH", 3, 35_103, 10))
        assert pdu[1] == len(pdu) - 2 == 20 + 2 * words
        assert len(await client.read(GOODWE, 35_103, 10)) == 10


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.TRUNCATED,
        FaultKind.GARBAGE,
        FaultKind.WRONG_UNIT,
        FaultKind.BAD_CRC,
        FaultKind.WRONG_TRANSACTION,
    ],
)
async def test_spoiled_frames(home: SimulatedHome, rtu: bool, kind: FaultKind) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        request = client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1))
        await client.send(request)
        good = await client.received()
        home.inject("bus", Fault(kind, count=1))
        await client.send(request)
        spoiled = await client.received()
        await client.send(request)
        assert await client.received() == good
    if (kind is FaultKind.BAD_CRC and not rtu) or (kind is FaultKind.WRONG_TRANSACTION and rtu):
        assert spoiled == good  # these frames have no such part
    else:
        assert spoiled != good
    if kind is FaultKind.TRUNCATED:
        assert good.startswith(spoiled)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(FaultKind.EXCEPTION, code=4, count=1), 4),
        (Fault(FaultKind.BUSY, count=1), 6),
        (Fault(FaultKind.EXCEPTION, code=2, first=SOC, last=SOC, count=1), 2),
        (Fault(FaultKind.EXCEPTION, code=2, functions=(3,), count=1), 2),
    ],
)
async def test_exceptions(home: SimulatedHome, rtu: bool, fault: Fault, code: int) -> None:
    home.inject("bus", fault)
    async with RawClient(_port(home), rtu=rtu) as client:
        if fault.first == SOC:
            assert len(await client.read(GOODWE, SOC + 1, 1)) == 1
        with pytest.raises(ModbusExceptionError, match=f"exception {code}"):
            await client.read(GOODWE, SOC - 1, 3)
        assert await client.read(GOODWE, SOC, 1) == [50]


async def test_refused_write_changes_nothing(home: SimulatedHome, rtu: bool) -> None:
    number = home.inject("bus", Fault(FaultKind.EXCEPTION, functions=(6, 16)))
    async with RawClient(_port(home), rtu=rtu) as client:
        with pytest.raises(ModbusExceptionError, match="exception 4"):
            await client.write_one(GOODWE, MODE, 8)
        assert await client.read(GOODWE, MODE, 1) == [1]
        assert home.link("bus").clear(number)
        await client.write_one(GOODWE, MODE, 8)
    assert [seen.exception for seen in home.log.writes()] == [4, 0]


async def test_connection_closed_instead_of_a_reply(home: SimulatedHome, rtu: bool) -> None:
    home.inject("bus", Fault(FaultKind.CLOSE, count=1))
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1)))
        assert await client.ends()
    assert await _works(home, rtu=rtu)


async def test_connection_closed_after_a_write_took_effect(home: SimulatedHome, rtu: bool) -> None:
    home.inject("bus", Fault(FaultKind.CLOSE, count=1, applied=True))
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 6, MODE, 8)))
        assert await client.ends()
    async with RawClient(_port(home), rtu=rtu) as client:
        assert await client.read(GOODWE, MODE, 1) == [8]
    assert [seen.exception for seen in home.log.writes()] == [0]


async def test_a_second_fault_while_the_first_ends(home: SimulatedHome, rtu: bool) -> None:
    first = home.inject("bus", Fault(FaultKind.OFFLINE))
    home.link("bus").clear(first)
    second = home.inject("bus", Fault(FaultKind.OFFLINE))
    await home.link("bus").listening()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", _port(home))
    home.link("bus").clear(second)
    await home.link("bus").listening()
    assert await _works(home, rtu=rtu)


async def test_second_client_is_refused(home: SimulatedHome, rtu: bool) -> None:
    home.inject("bus", Fault(FaultKind.SECOND_CLIENT))
    async with RawClient(_port(home), rtu=rtu) as first:
        assert await first.read(GOODWE, SOC, 1) == [50]
        async with RawClient(_port(home), rtu=rtu) as second:
            assert await second.ends()
        assert await first.read(GOODWE, SOC, 1) == [50]
        assert home.link("bus").clients == 1
    home.link("bus").clear()
    async with RawClient(_port(home), rtu=rtu) as first, RawClient(_port(home), rtu=rtu) as second:
        assert await first.read(GOODWE, SOC, 1) == await second.read(GOODWE, SOC, 1)


async def test_sleep_accepts_and_says_nothing(home: SimulatedHome, rtu: bool) -> None:
    number = home.inject("bus", Fault(FaultKind.SLEEP))
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1)))
        with pytest.raises(TimeoutError):
            await client.received(within_s=0.2)
        home.link("bus").clear(number)
        assert await client.read(GOODWE, SOC, 1) == [50]


async def test_reboot_drops_refuses_returns_and_forgets(home: SimulatedHome, rtu: bool) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.read(GOODWE, SOC, 1)
        home.inject("bus", Fault(FaultKind.REBOOT, seconds=0.3))
        assert await client.ends()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", _port(home))
    async with asyncio.timeout(5):
        while home.link("bus").faults.active():
            await asyncio.sleep(0.02)
        await home.link("bus").listening()
    assert await _works(home, rtu=rtu)


async def test_offline_until_cleared(home: SimulatedHome, rtu: bool) -> None:
    number = home.inject("bus", Fault(FaultKind.OFFLINE))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", _port(home))
    home.link("bus").clear(number)
    await home.link("bus").listening()
    assert await _works(home, rtu=rtu)


async def test_bytes_that_are_no_frame(home: SimulatedHome, rtu: bool) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n" if not rtu else b"\x01\x03\x00\x00\x00\x01\x00\x00")
        if rtu:
            # A serial device ignores a frame with a wrong CRC and goes on.
            with pytest.raises(TimeoutError):
                await client.received(within_s=0.2)
            assert await client.read(GOODWE, SOC, 1) == [50]
        else:
            assert await client.ends()
    assert await _works(home, rtu=rtu)


async def test_several_requests_in_one_piece(home: SimulatedHome, rtu: bool) -> None:
    async with RawClient(_port(home), rtu=rtu) as client:
        frames = b"".join(client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1)) for _ in range(3))
        await client.send(frames)
        answers = b""
        while len(answers) < 3 * (7 if rtu else 11):
            answers += await client.received()
        assert answers.count(b"\x03\x02\x00\x32") == 3


async def test_latency_and_client_limit_of_a_link() -> None:
    async with SimulatedHome(_config(rtu=False, latency_ms=60, max_clients=1)) as home:
        home.advance(1)
        async with RawClient(_port(home)) as client:
            await client.send(client.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1)))
            with pytest.raises(TimeoutError):
                await client.received(within_s=0.02)
            assert (await client.received())[-2:] == b"\x00\x32"
            async with RawClient(_port(home)) as second:
                assert await second.ends()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.replies.put_nowait(data)


@pytest.mark.parametrize("transport", ["udp", "rtu_over_udp"])
async def test_datagrams(transport: str) -> None:
    links = [{"name": "bus", "transport": transport, "devices": [{"profile": "goodwe_et"}]}]
    values = {"factor": 0, "battery": True, "links": links}
    async with SimulatedHome(build_config(values, now_s=NOON)) as home:
        home.advance(1)
        loop = asyncio.get_running_loop()
        sender, protocol = await loop.create_datagram_endpoint(
            _Datagrams, remote_addr=("127.0.0.1", _port(home))
        )
        raw = RawClient(0, rtu=transport == "rtu_over_udp")
        request = raw.frame(GOODWE, struct.pack(">BHH", 3, SOC, 1))
        for fault in (None, Fault(FaultKind.LATE, delay_s=0.05, count=1)):
            if fault is not None:
                home.inject("bus", fault)
            sender.sendto(request)
            reply = await asyncio.wait_for(protocol.replies.get(), 5)
            assert b"\x03\x02\x00\x32" in reply
        home.inject("bus", Fault(FaultKind.DROP, count=1))
        for datagram in (request, b"\x01", b"not a frame at all, just words"):
            sender.sendto(datagram)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(protocol.replies.get(), 0.2)
        number = home.inject("bus", Fault(FaultKind.OFFLINE))
        home.link("bus").clear(number)
        await home.link("bus").listening()
        sender.sendto(request)
        assert b"\x03\x02\x00\x32" in await asyncio.wait_for(protocol.replies.get(), 5)
        sender.close()


async def test_night_sleep_by_the_sun() -> None:
    device = {"profile": "goodwe_et", "sleeps_at_night": True}
    async with running(device) as home, RawClient(home.link("d0").port) as client:
        assert await client.read(GOODWE, SOC, 1) == [50]
        home.set_environment(pv_w=0)
        home.advance(1)
        home.inject("d0", Fault(FaultKind.LATE, delay_s=0))
        await client.send(client.frame(GOODWE, struct.pack(">BHH", 6, MODE, 8)))
        with pytest.raises(TimeoutError):
            await client.received(within_s=0.1)
        assert [seen.exception for seen in home.log.writes()] == [11]
        home.set_environment(pv_w=3)
        home.advance(1)
        assert await client.read(GOODWE, SOC, 1) == [50]


# --- the board ----------------------------------------------------------------------------------------------


def test_chances_are_drawn_from_the_seed() -> None:
    def hits(seed: int) -> list[int]:
        board = FaultBoard(seed, lambda: None)
        board.add(Fault(FaultKind.DROP, chance_permille=300))
        return [len(board.hit(1, 3, 0, 0)) for _ in range(1000)]

    assert hits(1) == hits(1) != hits(2)
    assert 240 < sum(hits(1)) < 360


def test_board_narrows_counts_and_clears() -> None:
    changes: list[int] = []
    board = FaultBoard(1, lambda: changes.append(1))
    number = board.add(Fault(FaultKind.DROP, unit=2, functions=(3, 4), first=10, last=20, count=2))
    for request in ((1, 3, 10, 10), (2, 6, 10, 10), (2, 3, 0, 9), (2, 3, 21, 30)):
        assert board.hit(*request) == ()
    assert len(board.hit(2, 3, 0, 10)) == len(board.hit(2, 4, 20, 30)) == 1
    assert len(board) == 0
    assert not board.clear(number)
    assert not board.clear()
    board.add(Fault(FaultKind.IDENTITY, unit=2))
    assert board.find(FaultKind.IDENTITY, 1) is None
    assert board.find(FaultKind.IDENTITY, 2) is not None
    assert board.hit(2, 3, 0, 0) == ()
    assert board.clear()
    assert len(changes) == board.revision == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "kind must be one of late, drop"),
        ({"kind": "smoke"}, "not 'smoke'"),
        ({"kind": "late", "delay": 1}, "a fault has no 'delay'; known: kind, unit"),
        ({"kind": "late", "delay_s": "long"}, "delay_s must be a number, not 'long'"),
        ({"kind": "late", "delay_s": -1}, "must be positive"),
        ({"kind": "late", "count": 0}, "count must be 1 or more"),
        ({"kind": "late", "count": 1.5}, "count must be a whole number, not 1.5"),
        ({"kind": "drop", "applied": 3}, "applied must be true or false, not 3"),
        ({"kind": "reboot"}, "needs `seconds`"),
        ({"kind": "exception", "code": 0}, "code must be"),
        ({"kind": "drop", "first": 9, "last": 3}, "addresses 9 to 3"),
        ({"kind": "drop", "chance_permille": 1001}, "chance_permille must be"),
        ({"kind": "drop", "functions": 3}, "functions must be a list of whole numbers, not 3"),
        ({"kind": "wrong_length", "words": 0}, "words not 0"),
        ({"kind": "identity", "serial": 5}, "serial must be a text, not 5"),
    ],
)
def test_faults_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fault_from(values)


def test_fault_from_json() -> None:
    fault = fault_from({"kind": "exception", "functions": [3, 4], "seconds": 2, "unit": None, "code": 2})
    assert fault == Fault(FaultKind.EXCEPTION, functions=(3, 4), seconds=2, code=2)
