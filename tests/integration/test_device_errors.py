"""Why no device was found, in the user's language: no English of the device layer is left in a text."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_get_translations
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.devices.errors import LinkClosed, LinkTimeout
from custom_components.energy_ledger.devices.transport.link import Link
from custom_components.energy_ledger.flows import device_asking
from custom_components.energy_ledger.flows.device_checks import of_probe
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.wire import Memory, serving, settings_for

from .test_device_flow import MORE, Flow

LINE = {"bytesize": "8", "stopbits": "1", "shared": False}


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_asking, "_TIMEOUT_S", 0.2)


async def shown(flow: Flow, language: str) -> str:
    """The error as the form shows it: every place in it must be filled."""
    texts = await async_get_translations(flow.hass, language, "config_subentries", [DOMAIN])
    key = flow.result["errors"]["base"]
    text = texts[f"component.{DOMAIN}.config_subentries.device.error.{key}"]
    return text.format_map(flow.result["description_placeholders"])


async def has(flow: Flow, key: str, english: str, german: str) -> None:
    """The form names an error, in both languages."""
    assert flow.result["errors"] == {"base": key}
    assert re.fullmatch(english, await shown(flow, "en")), await shown(flow, "en")
    assert re.fullmatch(german, await shown(flow, "de")), await shown(flow, "de")


async def asked(hass: HomeAssistant, entry: MockConfigEntry, step: str, **typed: Any) -> Flow:
    flow = await (await Flow.add(hass, entry)).go(step)
    return await flow.type(**{"more": MORE, **typed})


def fails(monkeypatch: pytest.MonkeyPatch, wanted: str, error: OSError | None) -> None:
    """Let connections to one host fail, or never come about (None); Home Assistant's own go on."""
    real = asyncio.BaseEventLoop.create_connection

    async def connect(loop: Any, factory: Any, host: Any = None, *rest: Any, **named: Any) -> Any:
        if host == wanted and error is None:
            await asyncio.sleep(60)
        if host == wanted and error is not None:
            raise error
        return await real(loop, factory, host, *rest, **named)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", connect)


async def test_a_port_that_is_closed(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    flow = await asked(hass, entry, "network", host="127.0.0.1", port=1)
    await has(
        flow,
        "connection_refused",
        r"127\.0\.0\.1:1 refuses the connection\. Check the port, and that Modbus is .*",
        r"127\.0\.0\.1:1 lehnt die Verbindung ab\. Prüfe den Port, und ob Modbus im Gerät .*",
    )


async def test_a_name_that_nobody_has(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "inverter.invalid", socket.gaierror(-2, "Name or service not known"))
    flow = await asked(hass, entry, "network", host="inverter.invalid", port=502)
    await has(
        flow,
        "host_unknown",
        r"Nothing is found by the name “inverter\.invalid”\. .* \(\[Errno -2\] .*\)",
        r"Unter dem Namen „inverter\.invalid“ ist nichts zu finden\. .* \(\[Errno -2\] .*\)",
    )


async def test_another_trouble_of_the_network(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "192.0.2.7", OSError(113, "No route to host"))
    flow = await asked(hass, entry, "network", host="192.0.2.7", port=502)
    await has(
        flow,
        "cannot_connect",
        r"There is no connection to 192\.0\.2\.7:502\. .* \(\[Errno 113\] No route to host\)",
        r"Es gibt keine Verbindung zu 192\.0\.2\.7:502\. .* \(\[Errno 113\] No route to host\)",
    )


async def test_a_host_that_is_switched_off(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "192.0.2.7", None)
    flow = await asked(hass, entry, "network", host="192.0.2.7", port=4711, unit=1)
    await has(
        flow,
        "host_silent",
        r"192\.0\.2\.7:4711 did not answer within 0\.2 s\. .*",
        r"192\.0\.2\.7:4711 hat in 0\.2 s nicht geantwortet\. .*",
    )


async def test_a_serial_line_that_is_not_there(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    typed = {"device": "/dev/no-such-tty", "baudrate": 9600, "parity": "none", "unit": 1}
    flow = await asked(hass, entry, "serial", **typed, more=LINE)
    await has(
        flow,
        "serial_not_opened",
        r"/dev/no-such-tty can't be opened\. .* \(.*No such file.*\)",
        r"/dev/no-such-tty kann nicht geöffnet werden\. .* \(.*No such file.*\)",
    )


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    async with serving({1: Memory()}) as server:
        server.inject(Fault(FaultKind.DROP))
        yield server.port


@asynccontextmanager
async def strange() -> AsyncIterator[int]:
    async with serving({1: Memory({0: [7] * 10})}) as server:
        yield server.port


@asynccontextmanager
async def hanging_up() -> AsyncIterator[int]:
    async with serving({1: Memory()}) as server:
        server.inject(Fault(FaultKind.CLOSE))
        yield server.port


@pytest.mark.parametrize(
    ("there", "key", "english", "german"),
    [
        (
            silent,
            "no_device",
            r"127\.0\.0\.1:\d+ can be connected to, .* \(unit ids tried: 1\)\. .*",
            r"Die Verbindung zu 127\.0\.0\.1:\d+ steht, .* \(versuchte Geräte-IDs: 1\)\. .*",
        ),
        (
            strange,
            "unknown_device",
            r"Something answers at 127\.0\.0\.1:\d+ \(unit id 1\), but none .*",
            r"Unter 127\.0\.0\.1:\d+ antwortet etwas \(Geräte-ID 1\), aber keines .*",
        ),
        (
            hanging_up,
            "hung_up",
            r"127\.0\.0\.1:\d+ has closed the connection\. .*",
            r"127\.0\.0\.1:\d+ hat die Verbindung geschlossen\. .*",
        ),
    ],
)
async def test_who_answers_but_is_no_device(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    there: Callable[[], Any],
    key: str,
    english: str,
    german: str,
) -> None:
    async with there() as port:
        flow = await asked(hass, entry, "network", host="127.0.0.1", port=port, unit=1)
        await has(flow, key, english, german)


async def test_over_the_shared_connection(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await async_setup_component(hass, "modbus", {})
    shared = {**MORE, "shared": True}
    flow = await asked(hass, entry, "network", host="127.0.0.1", port=1, unit=1, more=shared)
    await has(
        flow,
        "cannot_connect",
        r"There is no connection to 127\.0\.0\.1:1\. .* \(.+\)",
        r"Es gibt keine Verbindung zu 127\.0\.0\.1:1\. .* \(.+\)",
    )


async def test_what_has_no_text_is_shown_in_its_own_words(hass: HomeAssistant) -> None:
    faults = of_probe(LinkTimeout("no answer within 3 s"))
    assert faults.errors == {"base": "asking_failed"}
    assert faults.placeholders == {"detail": "no answer within 3 s"}


async def test_whoever_waited_for_a_link_is_told_the_same() -> None:
    async with serving({1: Memory()}) as server:
        server.inject(Fault(FaultKind.OFFLINE))
        link = Link(settings_for(server))
        reads = (link.unit(1).read(3, 0, 1) for _ in range(2))
        told = await asyncio.gather(*reads, return_exceptions=True)
        await link.close()
    assert link.statistics.connections == 1
    for error in told:
        assert isinstance(error, LinkClosed)
        assert of_probe(error).errors == {"base": "connection_refused"}
