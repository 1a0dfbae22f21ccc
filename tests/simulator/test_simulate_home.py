"""`script/simulate-home`: readiness line, log lines, clean end, complete help, and clear refusals."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from simulator.cli import config_from, main, parser
from simulator.config import ConfigError, HomeConfig, build_config, read_config
from simulator.modbus.server import Transport
from tests.simulator.support import NOON, RawClient

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / "script" / "simulate-home"


class Running:
    """The command as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().rstrip()

    async def end(self, number: int) -> tuple[int | None, list[str], str]:
        self.process.send_signal(number)
        output, errors = await asyncio.wait_for(self.process.communicate(), 20)
        return self.process.returncode, output.decode().splitlines(), errors.decode()


async def _start(*arguments: str) -> Running:
    pipe = asyncio.subprocess.PIPE
    return Running(await asyncio.create_subprocess_exec(COMMAND, *arguments, stdout=pipe, stderr=pipe))


async def test_it_tells_when_it_is_ready_and_what_is_written_and_ends_cleanly() -> None:
    command = await _start(
        "--device", "goodwe_et:tcp", "--device", "goodwe_et@9:rtu_over_tcp:0", "--seed", "3"
    )
    ready = json.loads(await command.line())
    assert ready["ready"] is True
    assert {name: (link["transport"], link["units"]) for name, link in ready["links"].items()} == {
        "goodwe_et": ("tcp", {"247": "goodwe_et"}),
        "goodwe_et-2": ("rtu_over_tcp", {"9": "goodwe_et"}),
    }
    async with RawClient(ready["links"]["goodwe_et-2"]["port"], rtu=True) as client:
        await client.write(9, 47_511, [8, 100])
    assert await command.line() == "write goodwe_et-2 unit 9 fc 16 address 47511: 8 100"
    async with RawClient(ready["links"]["goodwe_et"]["port"]) as client:
        assert len(await client.read(247, 35_103, 10)) == 10
    async with aiohttp.ClientSession() as session, session.get(ready["control"] + "/truth") as response:
        assert (await response.json())["writes"] == 1
    assert await command.end(signal.SIGTERM) == (0, ["ended"], "")


async def test_ctrl_c_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "home.yaml"
    file.write_text(
        "name: house\nstart: 2026-06-21T10:00:00Z\nfactor: 60\nbattery: true\n"
        "links: [{name: inv, transport: tcp, devices: [{profile: fronius_gen24, serial: ABC}]}]\n",
        encoding="utf-8",
    )
    command = await _start("--config", str(file))
    ready = json.loads(await command.line())
    assert (ready["name"], ready["links"]["inv"]["units"]) == (
        "house",
        {"1": "fronius_gen24", "200": "fronius_gen24"},
    )
    code, lines, errors = await command.end(signal.SIGINT)
    assert (code, lines[-1], errors) == (0, "ended", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config FILE or at least one --device PROFILE"),
        (["--device", "toaster"], "links[0].devices[0].profile must be one of byd_battery_box"),
        (["--device", "goodwe_et@x"], "--device goodwe_et@x: 'x' is neither a number"),
        (["--device", "goodwe_et:carrier_pigeon"], "'carrier_pigeon' is neither a number nor one of tcp"),
        (["--device", "goodwe_et/big"], "unknown: links[0].devices[0].variant"),
        (["--device", "efoy_hydrogen/big"], "variant must be one of float, integer, not 'big'"),
        (["--device", "goodwe_et:70000"], "links[0].port must be a whole number 0 to 65535, not 70000"),
        (["--device", "goodwe_et", "--factor", "-1"], "factor must be a number 0 to 1e+06, not -1.0"),
        (["--device", "goodwe_et", "--pv-w", "-5"], "pv.peak_w must be a whole number 1 to 1000000"),
        (["--device", "goodwe_et", "--start", "noon"], "start must be"),
        (["--device", "goodwe_et", "--profiles", "/nowhere"], "no such folder"),
        (["--config", "/nowhere/home.yaml"], "/nowhere/home.yaml: No such file or directory"),
        (["--config", "x.yaml", "--seed", "4"], "leave out --seed"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("simulate-home: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


async def test_a_taken_port_is_one_line_and_exit_2() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = await _start("--device", f"goodwe_et:{port}")
    output, errors = await asyncio.wait_for(command.process.communicate(), 60)
    server.close()
    assert (command.process.returncode, output) == (2, b"")
    assert errors.decode().count("\n") == 1
    assert "address already in use" in errors.decode()


def test_help_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    options = [option for action in parser()._actions for option in action.option_strings]
    for word in (
        *options,
        *Transport,
        "SIGTERM",
        "exit code 2",
        "first_soc_permille",
        "timers",
        "boundary_s",
    ):
        assert word in text, word


def test_the_example_in_the_help_is_a_home() -> None:
    epilog = parser().epilog
    assert epilog is not None
    example = epilog[epilog.index("  name: house-a") : epilog.index("The first line on")]
    home = build_config(yaml.safe_load(example), now_s=NOON)
    assert (home.name, home.factor, home.links[0].settings.max_clients) == ("house-a", 60, 1)
    plain = build_config({"links": [LINK], "pv": True, "battery": True, "fuel_cell": True}, now_s=NOON)
    assert (home.spec.pv, home.spec.battery) == (plain.spec.pv, plain.spec.battery)
    assert home.spec.fuel_cell == plain.spec.fuel_cell


def _from_flags(*arguments: str) -> HomeConfig:
    return config_from(parser().parse_args(["--device", "goodwe_et", *arguments]))


def test_flags_describe_the_home() -> None:
    home = _from_flags("--pv-w", "0", "--battery-wh", "5000", "--fuel-cell-w", "1200", "--load-kwh", "2500")
    assert home.spec.pv is None
    assert home.spec.battery is not None
    assert home.spec.battery.capacity_wh == 5000
    assert home.spec.fuel_cell is not None
    assert home.spec.fuel_cell.rated_w == 1200
    assert home.spec.load is not None
    assert home.spec.load.annual_kwh == 2500
    home = _from_flags("--name", "a", "--control-port", "0", "--start", "2026-06-21T11:00:00+00:00")
    assert (home.name, home.start_s, home.control_port) == ("a", NOON, 0)
    assert home.spec.fuel_cell is None


LINK = {"devices": [{"profile": "goodwe_et"}]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "the home must be a mapping"),
        ({}, "links must name at least one link"),
        ({"links": "x"}, "links must be a list, not 'x'"),
        ({"links": [LINK], "colour": "red"}, "unknown: colour; known here: name, seed"),
        ({"links": [{}]}, r"links\[0\].devices must name at least one device"),
        ({"links": [LINK, LINK]}, "name 'goodwe_et' is taken by another link"),
        (
            {"links": [LINK | {"port": 4000}, LINK | {"port": 4000, "name": "b"}]},
            r"links\[1\].port 4000 is taken",
        ),
        ({"links": [{"devices": LINK["devices"] * 2}]}, r"devices\[1\].unit 247 is taken"),
        (
            {"links": [{"devices": [{"profile": "fronius_gen24", "meter_unit": 1}]}]},
            "unit 1 is taken by another device",
        ),
        ({"links": [LINK | {"transport": "smoke"}]}, "transport must be one of tcp, rtu_over_tcp"),
        ({"links": [{"devices": [{"profile": "goodwe_et", "unit": "x"}]}]}, "unit must be a whole number"),
        ({"links": [{"devices": [{"profile": "goodwe_et", "serial": 5}]}]}, "serial must be a text"),
        (
            {"links": [{"devices": [{"profile": "goodwe_et", "sleeps_at_night": 1}]}]},
            "sleeps_at_night must be true or false",
        ),
        ({"links": [LINK], "battery": {"capacity_kwh": 3}}, "unknown: battery.capacity_kwh"),
        ({"links": [LINK], "battery": 7}, "battery must be a mapping"),
        ({"links": [LINK], "start": True}, "start must be a time"),
        ({"links": [LINK], "start": [1]}, 'start must be "now"'),
        ({"links": [LINK], "site": {"latitude": 91}}, "site.latitude must be a number -90 to 90"),
        ({"links": [LINK], "timers": "sun"}, "timers must be one of simulated, real"),
        ({"links": [LINK], "first_counters_wh": {"pv": -1}}, "first_counters_wh.pv must be a whole number"),
        ({"links": [LINK], "boundary_s": 10, "step_s": 60}, "boundary_s must be a whole number 60 to"),
        ({"links": [LINK], "control": {"port": -1}}, "control.port must be a whole number"),
    ],
)
def test_descriptions_that_make_no_sense(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(values, now_s=NOON)


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "home.yaml"
    file.write_text("links: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"home\.yaml: while parsing") as refused:
        read_config(file, now_s=NOON)
    assert "\n" not in str(refused.value)
    file.write_text("colour: red", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"home\.yaml: links must name"):
        read_config(file, now_s=NOON)


@pytest.mark.parametrize(
    ("start", "start_s"),
    [
        ("now", NOON),
        (None, NOON),
        (1234, 1234),
        ("2026-06-21T11:00:00Z", NOON),
        ("2026-06-21 13:00:00+02:00", NOON),
    ],
)
def test_starts(start: Any, start_s: int) -> None:
    assert build_config({"links": [LINK], "start": start}, now_s=NOON).start_s == start_s


def test_serial_lines_are_reached_through_a_gateway() -> None:
    home = build_config({"links": [{"devices": [{"profile": "efoy_hydrogen"}]}]}, now_s=NOON)
    assert home.links[0].settings.transport is Transport.RTU_OVER_TCP
