"""The control port: the truth, the wire, faults, weather and time over HTTP, and clear refusals."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from simulator.control import ControlServer
from simulator.home import SimulatedHome
from tests.simulator.support import NOON, ModbusExceptionError, RawClient, config, port_of, running


class Control:
    """The port as a client sees it."""

    def __init__(self, session: aiohttp.ClientSession, home: SimulatedHome) -> None:
        self.session = session
        self.home = home

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        async with self.session.request(method, path, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    async with running("goodwe_et") as home:
        server = ControlServer(home)
        await server.start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
                yield Control(session, home)
        finally:
            await server.stop()
            await server.stop()


async def test_index_lists_what_there_is(control: Control) -> None:
    index = await control.ask("GET", "/")
    assert {"GET /truth", "GET /writes?since=N", "POST /faults"} <= set(index)


async def test_truth_is_the_physics(control: Control) -> None:
    await control.ask("POST", "/environment", {"pv_w": 100, "load_w": 2000})
    assert await control.ask("POST", "/time", {"advance": 60}) == {"time_s": NOON + 61, "factor": 0.0}
    truth = await control.ask("GET", "/truth")
    assert truth == control.home.truth()
    assert truth["power_w"]["load_w"] == 2000
    joules, watt_hours = truth["energy_j"], truth["energy_wh"]
    assert all(watt_hours[name] == joules[name] // 3600 for name in joules)


async def test_writes_and_orders_are_seen(control: Control) -> None:
    async with RawClient(port_of(control.home)) as client:
        await client.write(247, 47_511, [12, 1500])
        await client.read(247, 37_007, 1)
    control.home.advance(1)
    seen = await control.ask("GET", "/writes")
    assert seen["last"] == 1
    assert [(w["link"], w["address"], w["values"], w["exception"]) for w in seen["writes"]] == [
        ("d0", 47_511, [12, 1500], 0)
    ]
    assert (await control.ask("GET", "/writes?since=1"))["writes"] == []
    orders = (await control.ask("GET", "/truth"))["orders"]
    assert orders["battery"]["min_discharge_w"] == 1500
    reads = await control.ask("GET", "/reads")
    assert reads["count"] == {"d0": 1}
    assert reads["reads"] == [{"link": "d0", "unit": 247, "function": 3, "address": 37_007, "count": 1}]


async def test_faults_are_switched(control: Control) -> None:
    added = await control.ask("POST", "/faults", {"kind": "busy"})
    assert added == {"link": "d0", "number": 1}
    assert (await control.ask("GET", "/faults"))["d0"]["1"]["kind"] == "busy"
    async with RawClient(port_of(control.home)) as client:
        with pytest.raises(ModbusExceptionError, match="exception 6"):
            await client.read(247, 37_007, 1)
        assert await control.ask("DELETE", "/faults?link=d0&number=1") == {"cleared": 1}
        assert await client.read(247, 37_007, 1) == [50]
    await control.ask("POST", "/faults", {"link": "d0", "kind": "drop"})
    await control.ask("POST", "/faults", {"link": "d0", "kind": "late"})
    assert await control.ask("DELETE", "/faults") == {"cleared": 1}
    assert await control.ask("GET", "/faults") == {"d0": {}}
    reset = await control.ask("POST", "/faults", {"kind": "counter_reset"})
    assert reset["number"] is None


async def test_boundaries_since(control: Control) -> None:
    control.home.advance(1900)
    kept = (await control.ask("GET", f"/boundaries?since={NOON + 900}"))["boundaries"]
    assert [boundary["time_s"] for boundary in kept] == [NOON + 1800]
    assert kept[0]["energy_wh"] == control.home.boundaries[-1].energy_wh


async def test_registers_as_a_read_would_find_them(control: Control) -> None:
    async with RawClient(port_of(control.home)) as client:
        words = await client.read(247, 35_103, 5)
    seen = await control.ask("GET", "/registers?address=35103&count=5")
    assert seen == {"link": "d0", "unit": 247, "address": 35_103, "words": words}


async def test_stores_and_pace(control: Control) -> None:
    truth = await control.ask("POST", "/stores", {"soc_permille": 300, "fuel_mg": 500_000})
    assert truth["battery"]["soc_permille"] == 300
    assert truth["fuel_cell"]["fuel_mg"] == 500_000
    assert (await control.ask("POST", "/time", {"factor": 2.5}))["factor"] == 2.5
    assert await control.ask("POST", "/environment", {"pv_w": None}) == {"pv_w": None, "load_w": None}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", "/faults", {"kind": "smoke"}, "kind must be one of"),
        ("POST", "/faults", {"kind": "drop", "link": "x"}, "no link 'x'; known: d0"),
        ("POST", "/faults", [1], "must be a JSON object"),
        ("DELETE", "/faults?number=1", None, "a number needs its link"),
        ("DELETE", "/faults?link=d0&number=x", None, "number must be a whole number"),
        ("GET", "/writes?since=x", None, "since must be a whole number, not 'x'"),
        ("GET", "/registers?unit=9", None, "no unit 9 on d0; known: 247"),
        ("GET", "/registers?function=5", None, "function must be 1 to 4"),
        ("GET", "/registers?address=65535&count=2", None, "the addresses 0 to 65535"),
        ("GET", "/registers?address=1", None, "Modbus exception 2 for address 1, count 1"),
        ("POST", "/environment", {"wind": 3}, "unknown: wind; known: pv_w, load_w"),
        ("POST", "/environment", {"pv_w": "much"}, "pv_w must be 0 to 1000000 W or null"),
        ("POST", "/time", {"factor": True}, "factor must be a number"),
        ("POST", "/time", {"factor": -1}, "time factor must be 0 to 1000000"),
        ("POST", "/time", {"advance": 1e12}, "advance must be 0 to 34560000 s"),
        ("POST", "/stores", {"soc_permille": 2000}, "soc_permille must be 0 to 1000"),
        ("POST", "/stores", {"fuel_mg": -1}, "fuel must be 0 to 2000000 mg"),
    ],
)
async def test_refusals(control: Control, method: str, path: str, body: Any, message: str) -> None:
    answer = await control.ask(method, path, body, status=400)
    assert message in answer["error"]


async def test_unknown_paths_and_broken_bodies(control: Control) -> None:
    assert "GET / lists" in (await control.ask("GET", "/nothing", status=404))["error"]
    async with control.session.post("/faults", data=b"{") as response:
        assert response.status == 400
        assert "JSON object" in (await response.json())["error"]


async def test_a_taken_control_port_is_an_error() -> None:
    home = SimulatedHome(config("goodwe_et"))
    one = ControlServer(home)
    await one.start()
    try:
        with pytest.raises(OSError, match="address already in use"):
            await ControlServer(home, port=one.port).start()
    finally:
        await one.stop()
