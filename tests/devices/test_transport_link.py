"""The link against real servers on loopback: right answers, and nothing wrong after a fault."""

import asyncio

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from custom_components.energy_ledger.devices.errors import (
    DeviceBusy,
    ExceptionReply,
    GatewayError,
    HostSilent,
    LinkClosed,
    LinkError,
    LinkTimeout,
    MalformedReply,
    WriteUnconfirmed,
)
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.wire import Gateway, Memory, no_answer, registers_equal_addresses, serving, settings_for

NETWORK = [LinkKind.TCP, LinkKind.RTU_OVER_TCP, LinkKind.UDP, LinkKind.RTU_OVER_UDP]
STREAMS = [LinkKind.TCP, LinkKind.RTU_OVER_TCP]


def memory() -> Memory:
    unit = Memory({address: (address,) for address in range(300)})
    unit.map(4, 0, range(1000, 1200))
    unit.map(1, 0, [1, 0, 1, 1, 0, 0, 0, 0, 1, 0])
    unit.map(2, 0, [0, 1, 1])
    return unit


@pytest.mark.parametrize("kind", NETWORK)
async def test_every_function_over_every_network_link(kind: LinkKind) -> None:
    unit = memory()
    async with serving({7: unit}, kind) as server:
        link = Link(settings_for(server))
        client = link.unit(7)
        assert await client.read(3, 100, 3) == [100, 101, 102]
        assert await client.read(4, 0, 2) == [1000, 1001]
        assert await client.read(1, 0, 10) == [1, 0, 1, 1, 0, 0, 0, 0, 1, 0]
        assert await client.read(2, 0, 3) == [0, 1, 1]
        await client.write(6, 10, [4711])
        await client.write(16, 20, [1, 2, 65535])
        await client.write(5, 1, [1])
        await client.write(15, 2, [0, 0])
        assert await client.read(3, 10, 1) == [4711]
        assert await client.read(3, 20, 3) == [1, 2, 65535]
        assert await client.read(1, 0, 4) == [1, 1, 0, 0]
        assert client.unit_id == 7
        assert client.name == f"127.0.0.1:{server.port} unit 7"
        assert link.connected
        await link.close()
        with pytest.raises(LinkClosed, match="no longer in use"):
            await client.read(3, 0, 1)


async def test_reads_a_server_of_another_make() -> None:
    device = SimDevice(3, [SimData(0, count=20, values=77, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert server.transport is not None
    port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    link = Link(LinkSettings(host="127.0.0.1", port=port, timeout_s=1))
    try:
        assert await link.unit(3).read(3, 0, 20) == [77] * 20
        with pytest.raises(ExceptionReply, match="illegal data address"):
            await link.unit(3).read(3, 500, 1)
        await link.unit(3).write(16, 2, [5, 6])
        assert await link.unit(3).read(3, 1, 3) == [77, 5, 6]
    finally:
        await link.close()
        await server.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", STREAMS)
async def test_units_share_one_connection_and_take_turns(kind: LinkKind) -> None:
    units = {number: memory() for number in (1, 2, 3)}
    async with serving(units, kind, latency_s=0.01) as server:
        link = Link(settings_for(server))
        replies = await asyncio.gather(*(link.unit(1 + n % 3).read(3, n, 2) for n in range(12)))
        assert replies == [[n, n + 1] for n in range(12)]
        assert server.clients == 1
        assert link.statistics.connections == 1
        await link.close()


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("fault", [FaultKind.LATE, FaultKind.DROP, FaultKind.TRUNCATED])
async def test_an_unanswered_read_times_out_and_never_answers_the_next(
    kind: LinkKind, fault: FaultKind
) -> None:
    async with serving({1: memory()}, kind) as server:
        link = Link(settings_for(server, timeout_s=0.15))
        unit = link.unit(1)
        assert await unit.read(3, 5, 2) == [5, 6]
        server.inject(Fault(fault, count=1, delay_s=0.25))
        with pytest.raises(LinkTimeout, match=r"unit 1: function 3 at 100\.\.101: no answer within 0.15 s"):
            await unit.read(3, 100, 2)
        for address in range(200, 210):
            assert await unit.read(3, address, 2) == [address, address + 1]
        assert link.statistics.timeouts == 1
        assert link.statistics.connections == 2
        await link.close()


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("words", [-1, 1, 40])
async def test_a_reply_of_the_wrong_length_is_refused_at_once(kind: LinkKind, words: int) -> None:
    async with serving({1: memory()}, kind) as server:
        link = Link(settings_for(server, timeout_s=5))
        server.inject(Fault(FaultKind.WRONG_LENGTH, words=words, count=1))
        with pytest.raises(MalformedReply, match="does not fit the question"):
            await link.unit(1).read(3, 100, 4)
        assert await link.unit(1).read(3, 100, 4) == [100, 101, 102, 103]
        assert link.statistics.malformed == 1
        await link.close()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (LinkKind.TCP, FaultKind.GARBAGE),
        (LinkKind.TCP, FaultKind.WRONG_UNIT),
        (LinkKind.TCP, FaultKind.WRONG_TRANSACTION),
        (LinkKind.RTU_OVER_TCP, FaultKind.GARBAGE),
        (LinkKind.RTU_OVER_TCP, FaultKind.WRONG_UNIT),
        (LinkKind.RTU_OVER_TCP, FaultKind.BAD_CRC),
        (LinkKind.UDP, FaultKind.DROP),
        (LinkKind.RTU_OVER_UDP, FaultKind.LATE),
    ],
)
async def test_spoiled_frames_are_never_taken_for_an_answer(kind: LinkKind, fault: FaultKind) -> None:
    async with serving({1: memory()}, kind) as server:
        link = Link(settings_for(server, timeout_s=0.15))
        server.inject(Fault(fault, count=1, delay_s=0.25))
        with pytest.raises(LinkError):
            await link.unit(1).read(3, 100, 4)
        assert await link.unit(1).read(3, 50, 3) == [50, 51, 52]
        await asyncio.sleep(0.15 if fault is FaultKind.LATE else 0)  # until the late datagram has come, too
        assert await link.unit(1).read(3, 60, 3) == [60, 61, 62]
        await link.close()


async def test_exception_replies_by_code() -> None:
    async with serving({1: memory()}) as server:
        link = Link(settings_for(server))
        unit = link.unit(1)
        for code, kind, refused in (
            (2, ExceptionReply, True),
            (4, ExceptionReply, True),
            (6, DeviceBusy, False),
            (11, GatewayError, False),
            (99, ExceptionReply, False),
        ):
            server.inject(Fault(FaultKind.EXCEPTION, code=code, count=1))
            with pytest.raises(kind, match=f"exception {code}") as caught:
                await unit.read(3, 0, 1)
            assert caught.value.code == code
            assert caught.value.refused is refused
        assert await unit.read(3, 0, 1) == [0]
        assert link.statistics.connections == 1
        assert link.statistics.exceptions == 5
        await link.close()


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_write_is_sent_once_and_reported_as_unconfirmed(kind: LinkKind) -> None:
    unit = memory()
    async with serving({1: unit}, kind) as server:
        link = Link(settings_for(server, timeout_s=0.1))
        server.inject(Fault(FaultKind.DROP, applied=True, count=1))
        with pytest.raises(WriteUnconfirmed, match="was written but not confirmed"):
            await link.unit(1).write(6, 30, [99])
        assert [write[1:] for write in unit.writes] == [(30, (99,))]
        assert await link.unit(1).read(3, 30, 1) == [99]
        server.inject(Fault(FaultKind.CLOSE, applied=True, count=1))
        with pytest.raises(WriteUnconfirmed, match="closed the connection"):
            await link.unit(1).write(16, 30, [1, 2])
        assert len(unit.writes) == 2
        await link.close()


async def test_a_closed_connection_is_noticed_and_a_read_is_asked_again() -> None:
    async with serving({1: memory()}) as server:
        link = Link(settings_for(server, timeout_s=5))
        assert await link.unit(1).read(3, 0, 1) == [0]
        server.inject(Fault(FaultKind.CLOSE, count=1))
        assert await link.unit(1).read(3, 8, 1) == [8]
        server.inject(Fault(FaultKind.CLOSE, count=2))
        with pytest.raises(LinkClosed, match="may take only one Modbus client"):
            await link.unit(1).read(3, 8, 1)
        await link.close()


async def test_a_write_over_a_closed_connection_is_not_repeated() -> None:
    unit = memory()
    async with serving({1: unit}) as server:
        link = Link(settings_for(server, timeout_s=5))
        await link.unit(1).read(3, 0, 1)
        server.inject(Fault(FaultKind.CLOSE, applied=True, count=1))
        with pytest.raises(WriteUnconfirmed):
            await link.unit(1).write(6, 8, [1])
        assert len(unit.writes) == 1
        await link.close()


async def test_second_client_is_refused_in_plain_words_and_gets_in_later() -> None:
    async with serving({1: memory()}, max_clients=1) as server:
        first = Link(settings_for(server))
        second = Link(settings_for(server, timeout_s=5))
        await first.unit(1).read(3, 0, 1)
        with pytest.raises(LinkClosed, match="only one Modbus client"):
            await second.unit(1).read(3, 0, 1)
        await first.close()
        assert await second.unit(1).read(3, 3, 1) == [3]
        await second.close()


async def test_everyone_who_waits_shares_one_failed_attempt_and_recovery_is_quick() -> None:
    async with serving({1: memory(), 2: memory()}) as server:
        link = Link(settings_for(server))
        number = server.inject(Fault(FaultKind.OFFLINE))
        results = await asyncio.gather(
            *(link.unit(unit).read(3, 0, 1) for unit in (1, 2, 1, 2)), return_exceptions=True
        )
        assert all(isinstance(result, LinkClosed) for result in results)
        assert "connection refused" in str(results[0])
        assert link.statistics.connections == 1
        for _ in range(3):
            with pytest.raises(LinkClosed):
                await link.unit(1).read(3, 0, 1)
        server.clear(number)
        await server.listening()
        assert await link.unit(1).read(3, 0, 1) == [0]
        await link.close()


async def test_a_host_without_a_name_is_named() -> None:
    link = Link(LinkSettings(host="no-such-host.invalid", timeout_s=5))
    with pytest.raises(LinkError, match=r"no-such-host\.invalid:502"):
        await link.unit(1).read(3, 0, 1)
    await link.close()


async def test_a_host_that_does_not_answer_the_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    no_answer(monkeypatch)
    link = Link(LinkSettings(host="127.0.0.1", port=4711, timeout_s=0.1))
    with pytest.raises(HostSilent, match=r"1:4711 did not answer within 0.1 s: check the address"):
        await link.unit(1).read(3, 0, 1)
    await link.close()


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_cancelled_caller_leaves_nothing_behind(kind: LinkKind) -> None:
    async with serving({1: memory()}, kind) as server:
        link = Link(settings_for(server, timeout_s=5))
        server.inject(Fault(FaultKind.LATE, count=1, delay_s=0.1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await link.unit(1).read(3, 100, 2)
        for address in (200, 210, 220):
            assert await link.unit(1).read(3, address, 2) == [address, address + 1]
        await link.close()


async def test_a_cancelled_caller_that_still_waits_sends_nothing() -> None:
    unit = memory()
    async with serving({1: unit}, latency_s=0.05) as server:
        link = Link(settings_for(server, timeout_s=5))
        first = asyncio.create_task(link.unit(1).read(3, 0, 1))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(link.unit(1).write(6, 1, [5]))
        await asyncio.sleep(0.01)
        second.cancel()
        assert await first == [0]
        await asyncio.gather(second, return_exceptions=True)
        assert unit.writes == []
        assert await link.unit(1).read(3, 1, 1) == [1]
        assert link.statistics.connections == 1
        await link.close()


async def test_closing_the_link_ends_the_exchange_under_way() -> None:
    async with serving({1: memory()}) as server:
        link = Link(settings_for(server, timeout_s=5))
        server.inject(Fault(FaultKind.DROP))
        reading = asyncio.create_task(link.unit(1).read(3, 0, 1))
        waiting = asyncio.create_task(link.unit(1).read(3, 0, 1))
        await asyncio.sleep(0.05)
        await link.close()
        for result in await asyncio.gather(reading, waiting, return_exceptions=True):
            assert isinstance(result, LinkClosed)


async def test_requests_keep_their_distance() -> None:
    async with serving({1: memory()}) as server:
        link = Link(settings_for(server, spacing_s=0.05))
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(4):
            await link.unit(1).read(3, 0, 1)
        assert loop.time() - started >= 0.15  # a lower bound: the link must have waited
        link.require(spacing_s=0.2, connect_delay_s=0.1)
        assert (link.settings.spacing_s, link.settings.connect_delay_s) == (0.2, 0.1)
        link.require(spacing_s=0.0, connect_delay_s=0.0)
        assert (link.settings.spacing_s, link.settings.connect_delay_s) == (0.2, 0.1)
        await link.close()


# --- a gateway that delivers late replies to the next connection ---------------------------------------


def gateway_link(gateway: Gateway) -> Link:
    return Link(
        LinkSettings(
            kind=LinkKind.RTU_OVER_TCP, host="127.0.0.1", port=gateway.port, timeout_s=0.1, retry_first_s=0.02
        )
    )


@pytest.mark.parametrize("lateness", [0.12, 0.18])
async def test_a_late_reply_through_a_gateway_never_answers_the_next_question(lateness: float) -> None:
    async with Gateway(registers_equal_addresses) as gateway:
        link = gateway_link(gateway)
        unit = link.unit(1)
        assert await unit.read(3, 10, 2) == [10, 11]
        late = [True]

        def delay(_unit: int, _function: int, _address: int, _count: int) -> float:
            return lateness if late and late.pop() else 0.0

        gateway.delay = delay
        with pytest.raises(LinkTimeout):
            await unit.read(3, 100, 2)
        for address in range(200, 206):
            assert await unit.read(3, address, 2) == [address, address + 1]
        await link.close()


async def test_other_units_are_not_asked_twice_after_a_late_reply() -> None:
    async with Gateway(registers_equal_addresses) as gateway:
        link = gateway_link(gateway)
        gateway.delay = lambda unit, *_: None if unit == 1 else 0.0
        with pytest.raises(LinkTimeout):
            await link.unit(1).read(3, 100, 2)
        asked = len(gateway.asked)
        assert await link.unit(2).read(3, 20, 2) == [20, 21]
        assert len(gateway.asked) == asked + 1
        await link.close()


async def test_a_block_that_stays_silent_does_not_harm_the_others() -> None:
    async with Gateway(registers_equal_addresses) as gateway:
        link = gateway_link(gateway)
        gateway.delay = lambda _unit, _function, address, _count: None if address == 100 else 0.0
        for _ in range(3):
            with pytest.raises(LinkTimeout):
                await link.unit(1).read(3, 100, 8)
            assert await link.unit(1).read(3, 50, 8) == list(range(50, 58))
            assert await link.unit(1).read(3, 70, 1) == [70]
        await link.close()


async def test_a_device_that_ignores_the_resynchronising_question_is_still_read() -> None:
    async with Gateway(registers_equal_addresses) as gateway:
        link = gateway_link(gateway)
        gateway.delay = lambda *_: None
        with pytest.raises(LinkTimeout):
            await link.unit(1).read(4, 100, 8)
        gateway.delay = lambda _unit, _function, _address, count: 0.0 if count == 8 else None
        with pytest.raises(LinkTimeout):
            await link.unit(1).read(4, 100, 8)
        assert await link.unit(1).read(4, 100, 8) == list(range(100, 108))
        await link.close()


async def test_an_unconfirmed_write_through_a_gateway_is_resynchronised_too() -> None:
    def answer(unit: int, function: int, address: int, count: int) -> bytes:
        if function == 6:
            return bytes((6,)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")
        return registers_equal_addresses(unit, function, address, count)

    async with Gateway(answer) as gateway:
        link = gateway_link(gateway)
        gateway.delay = lambda _unit, function, *_: 0.15 if function == 6 else 0.0
        with pytest.raises(WriteUnconfirmed):
            await link.unit(1).write(6, 7, [3])
        assert await link.unit(1).read(3, 40, 2) == [40, 41]
        assert sum(1 for question in gateway.asked if question[1] == 6) == 1
        await link.close()
