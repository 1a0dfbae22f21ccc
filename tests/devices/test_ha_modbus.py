"""Home Assistant's shared Modbus unit behind our protocol: a real `hass`, a real Modbus server."""

import asyncio

import pytest
from homeassistant.components.modbus.connection import async_get_connection_info
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.devices.device import Availability, Device
from custom_components.energy_ledger.devices.errors import (
    ExceptionReply,
    GatewayError,
    LinkClosed,
    LinkError,
    LinkTimeout,
    SettingsError,
    WriteUnconfirmed,
)
from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.devices.transport.base import (
    LinkKind,
    LinkSettings,
    ModbusUnit,
    parse_link,
)
from custom_components.energy_ledger.ha_modbus import modbus_params, shared_unit, temporary_shared_unit
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import known_profiles, site
from tests.devices.wire import Memory, serving, settings_for

STREAMS = [LinkKind.TCP, LinkKind.RTU_OVER_TCP]


def memory() -> Memory:
    unit = Memory({address: (address,) for address in range(300)})
    unit.map(4, 0, range(1000, 1100))
    unit.map(1, 0, [1, 0, 1, 1])
    unit.map(2, 0, [0, 1, 1])
    return unit


@pytest.fixture
async def entry(hass: HomeAssistant) -> MockConfigEntry:
    """An entry of ours that holds units; unloading it lets them go."""
    assert await async_setup_component(hass, "modbus", {})
    made = MockConfigEntry(domain="energy_ledger", title="Community")
    made.add_to_hass(hass)
    made.mock_state(hass, ConfigEntryState.LOADED)
    return made


async def let_go(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await entry._async_process_on_unload(hass)
    await hass.async_block_till_done()


@pytest.mark.parametrize("kind", STREAMS)
async def test_every_function(hass: HomeAssistant, entry: MockConfigEntry, kind: LinkKind) -> None:
    unit = memory()
    async with serving({7: unit}, kind) as server:
        client: ModbusUnit = shared_unit(hass, entry, settings_for(server, timeout_s=2), 7)
        assert await client.read(3, 100, 3) == [100, 101, 102]
        assert await client.read(4, 0, 2) == [1000, 1001]
        assert await client.read(1, 0, 4) == [1, 0, 1, 1]
        assert await client.read(2, 0, 3) == [0, 1, 1]
        await client.write(6, 10, [4711])
        await client.write(16, 20, [1, 65535])
        await client.write(5, 1, [1])
        await client.write(15, 2, [0, 0])
        assert await client.read(3, 10, 1) == [4711]
        assert await client.read(3, 20, 2) == [1, 65535]
        assert await client.read(1, 0, 4) == [1, 1, 0, 0]
        assert (client.unit_id, client.name) == (7, f"127.0.0.1:{server.port} unit 7")
        with pytest.raises(SettingsError, match="register count is 126"):
            await client.read(3, 0, 126)
        await let_go(hass, entry)
        assert async_get_connection_info(hass) == []


async def test_the_connection_is_shared_with_other_integrations(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    other = MockConfigEntry(domain="other")
    other.add_to_hass(hass)
    other.mock_state(hass, ConfigEntryState.LOADED)
    async with serving({1: memory(), 2: memory()}, max_clients=1) as server:
        settings = settings_for(server, timeout_s=2)
        ours, theirs = shared_unit(hass, entry, settings, 1), shared_unit(hass, other, settings, 2)
        replies = await asyncio.gather(*(unit.read(3, 5, 2) for unit in (ours, theirs) * 4))
        assert replies == [[5, 6]] * 8
        async with temporary_shared_unit(hass, settings, 1) as form:
            assert await form.read(3, 9, 1) == [9]
        assert server.clients == 1
        (info,) = async_get_connection_info(hass)
        assert info.units == {entry.entry_id: [1], other.entry_id: [2]}
        await let_go(hass, other)
        assert await ours.read(3, 5, 1) == [5]
        await let_go(hass, entry)


async def test_exceptions_by_code(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    async with serving({1: memory()}) as server:
        client = shared_unit(hass, entry, settings_for(server), 1)
        for code, kind in ((2, ExceptionReply), (11, GatewayError), (99, ExceptionReply)):
            server.inject(Fault(FaultKind.EXCEPTION, code=code, count=1))
            with pytest.raises(kind, match=f"function 3 at 5: .*exception {code}"):
                await client.read(3, 5, 1)
        number = server.inject(Fault(FaultKind.BUSY))
        with pytest.raises(LinkTimeout, match="no answer within"):  # the shared link itself asks again
            await client.read(3, 5, 1)
        server.clear(number)
        server.inject(Fault(FaultKind.EXCEPTION, code=3, count=1))
        with pytest.raises(ExceptionReply, match="illegal data value"):
            await client.write(6, 5, [1])
        await let_go(hass, entry)


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_late_reply_never_answers_the_next_question(
    hass: HomeAssistant, entry: MockConfigEntry, kind: LinkKind
) -> None:
    async with serving({1: memory()}, kind) as server:
        client = shared_unit(hass, entry, settings_for(server, timeout_s=0.2), 1)
        assert await client.read(3, 5, 2) == [5, 6]
        server.inject(Fault(FaultKind.LATE, count=1, delay_s=0.35))
        with pytest.raises(LinkTimeout):
            await client.read(3, 100, 2)
        for address in range(200, 206):
            assert await client.read(3, address, 2) == [address, address + 1]
        await let_go(hass, entry)


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_cancelled_caller_leaves_nothing_behind(
    hass: HomeAssistant, entry: MockConfigEntry, kind: LinkKind
) -> None:
    async with serving({1: memory()}, kind) as server:
        client = shared_unit(hass, entry, settings_for(server, timeout_s=2), 1)
        await client.read(3, 5, 2)
        server.inject(Fault(FaultKind.LATE, count=1, delay_s=0.15))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.read(3, 100, 2)
        for address in range(200, 204):
            assert await client.read(3, address, 2) == [address, address + 1]
        await let_go(hass, entry)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("words", [-1, 2])
async def test_a_reply_of_the_wrong_length_is_an_error(
    hass: HomeAssistant, entry: MockConfigEntry, kind: LinkKind, words: int
) -> None:
    async with serving({1: memory()}, kind) as server:
        client = shared_unit(hass, entry, settings_for(server, timeout_s=0.3), 1)
        server.inject(Fault(FaultKind.WRONG_LENGTH, words=words, count=1))
        with pytest.raises(LinkError):
            await client.read(3, 100, 4)
        assert await client.read(3, 50, 3) == [50, 51, 52]
        await let_go(hass, entry)


async def test_a_write_without_an_answer_is_unconfirmed(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    unit = memory()
    async with serving({1: unit}) as server:
        client = shared_unit(hass, entry, settings_for(server, timeout_s=0.2), 1)
        server.inject(Fault(FaultKind.DROP, applied=True, count=1))
        with pytest.raises(WriteUnconfirmed, match="was not confirmed"):
            await client.write(6, 30, [99])
        assert [write[1:] for write in unit.writes] == [(30, (99,))]
        server.inject(Fault(FaultKind.OFFLINE))
        with pytest.raises(LinkClosed):
            await client.read(3, 1, 1)
        await let_go(hass, entry)


async def test_link_settings_that_contradict_or_are_not_offered(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    first = parse_link("/dev/ttyS9?baudrate=9600&parity=E&stopbits=2&bytesize=7")
    shared_unit(hass, entry, first, 1)
    with pytest.raises(SettingsError, match="/dev/ttyS9"):
        shared_unit(hass, entry, parse_link("/dev/ttyS9?baudrate=19200"), 2)
    with pytest.raises(SettingsError, match="/dev/ttyS9") as caught:
        async with temporary_shared_unit(hass, parse_link("/dev/ttyS9?baudrate=19200"), 2):
            raise AssertionError("a contradicting link was opened")
    assert (caught.value.key, caught.value.figures) == ("shared_in_use", {"endpoint": "/dev/ttyS9"})
    with pytest.raises(SettingsError, match="does not carry RTU over UDP"):
        modbus_params(LinkSettings(kind=LinkKind.RTU_OVER_UDP, host="192.0.2.7"))
    with pytest.raises(SettingsError, match="unit id is 300"):
        shared_unit(hass, entry, parse_link("192.0.2.7"), 300)
    assert modbus_params(parse_link("udp://192.0.2.7")).endpoint == ("udp", "192.0.2.7", 502)
    await let_go(hass, entry)


async def test_a_device_over_the_shared_connection(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    async with site("huawei_sun2000") as place:
        settings = LinkSettings(host="127.0.0.1", port=place.server.port, timeout_s=0.3)
        device = Device(known_profiles()["huawei_sun2000"], {"": shared_unit(hass, entry, settings, 1)})
        assert place.check(await device.poll()) >= 9
        number = place.home.inject("link", Fault(FaultKind.SLEEP))
        assert place.check(await device.poll()) == 0
        assert device.availability in (Availability.OFFLINE, Availability.ASLEEP)
        place.server.clear(number)
        assert place.check(await device.poll()) >= 9
        assert device.readings.number(Field.RATED_W) == 10_000
        await let_go(hass, entry)
