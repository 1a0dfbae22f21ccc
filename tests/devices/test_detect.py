"""Detection and `script/probe`: what is found, and one clear line when nothing is."""

import asyncio
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices import probe
from custom_components.energy_ledger.devices.detect import candidates, detect, find_devices
from custom_components.energy_ledger.devices.errors import HostSilent, LinkClosed, NotDetected, SettingsError
from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings, parse_link
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import known_profiles, link_settings, site
from tests.devices.wire import Memory, no_answer, serving, settings_for

ROOT = Path(__file__).parents[2]
DETECTABLE = [profile.id for profile in known_profiles().values()]


def link_kind(profile_id: str) -> LinkKind:
    first = known_profiles()[profile_id].link.transports[0].transport.value
    return LinkKind.RTU_OVER_TCP if first == "serial" else LinkKind(first)


@pytest.mark.parametrize("profile", DETECTABLE)
async def test_every_family_is_told_from_the_others(profile: str) -> None:
    async with site(profile, kind=link_kind(profile)) as place:
        own = known_profiles()[profile].link.units[0]
        found = await detect(place.link, known_profiles(), units=[own])
        assert [(each.profile.id, each.unit_id) for each in found] == [(profile, own)]
        assert found[0].nameplate[Field.MANUFACTURER]
        await place.device.poll()
        assert found[0].serial == place.device.readings.text(Field.SERIAL)
        assert not place.home.log.last_sequence  # nothing was written


async def test_companions_belong_to_their_device() -> None:
    async with site("fronius_gen24") as place:
        (found,) = await detect(place.link, known_profiles(), timeout_s=0.05)
        assert dict(found.companions) == {"meter": 200}


async def test_several_units_on_one_link() -> None:
    async with site("eastron_sdm630", "eastron_sdm630", kind=LinkKind.RTU_OVER_TCP, units=[1, 9]) as place:
        found = await detect(place.link, known_profiles(), units=[9, 1, 3])
        assert [(each.unit_id, each.profile.id) for each in found] == [
            (9, "eastron_sdm630"),
            (1, "eastron_sdm630"),
        ]


async def test_something_else_and_nothing_are_told_apart() -> None:
    async with serving({1: Memory({0: [7] * 10})}) as server:
        link = Link(settings_for(server, timeout_s=0.1))
        with pytest.raises(NotDetected, match=r"unit 1 answers, but is none of the \d+ known devices"):
            await detect(link, known_profiles(), units=[1])
        with pytest.raises(NotDetected, match=r"no unit answers \(tried 5, 6\); check the unit id"):
            await detect(link, known_profiles(), units=[5, 6])
        with pytest.raises(SettingsError, match="unit id is 999"):
            await detect(link, known_profiles(), units=[999])
        await link.close()


async def test_a_silent_host_and_a_closed_port_are_told_apart() -> None:
    async with site("goodwe_et") as place:
        place.server.inject(Fault(FaultKind.SLEEP))
        with pytest.raises(NotDetected, match="no unit answers"):
            await find_devices(link_settings(place.server, timeout_s=0.05), known_profiles(), units=[247])
        place.server.inject(Fault(FaultKind.OFFLINE))
        with pytest.raises(LinkClosed, match="connection refused"):
            await find_devices(link_settings(place.server), known_profiles())


async def test_a_host_that_is_not_there_is_not_tried_on_every_port(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = no_answer(monkeypatch)
    settings = LinkSettings(host="127.0.0.1", timeout_s=0.05)
    with pytest.raises(HostSilent, match="did not answer within"):
        await find_devices(settings, known_profiles(), any_port=True)
    assert len(attempts) == 2


def test_ports_and_kinds_to_try() -> None:
    settings = parse_link("192.0.2.7")
    tried = [(each.kind, each.port) for each in candidates(settings, known_profiles(), any_port=True)]
    assert tried[0] == (LinkKind.TCP, 502)
    assert {(LinkKind.TCP, 1502), (LinkKind.TCP, 6607), (LinkKind.RTU_OVER_TCP, 8080)} <= set(tried)
    assert not any(kind in (LinkKind.UDP, LinkKind.RTU_OVER_UDP) for kind, _ in tried)
    fixed = candidates(settings, known_profiles(), any_port=False)
    assert [(each.kind, each.port) for each in fixed] == [(LinkKind.TCP, 502)]
    udp = dataclasses.replace(settings, kind=LinkKind.RTU_OVER_UDP)
    assert (LinkKind.RTU_OVER_UDP, 8899) in [
        (each.kind, each.port) for each in candidates(udp, known_profiles(), any_port=True)
    ]
    serial = parse_link("/dev/ttyUSB0")
    assert len(candidates(serial, known_profiles(), any_port=True)) == 1


# --- the command --------------------------------------------------------------------------------------


async def run(*arguments: str) -> tuple[int, str, str]:
    """The command as its user calls it."""
    process = await asyncio.create_subprocess_exec(
        str(ROOT / "script" / "probe"),
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_probe_prints_what_it_found_and_a_table() -> None:
    async with site("goodwe_et") as place:
        code, out, err = await run(f"127.0.0.1:{place.server.port}", "--unit", "247", "--points")
        assert (code, err) == (0, "")
        truth = place.home.truth()
        lines = [line.split() for line in out.splitlines()]
        assert ["profile", "goodwe_et"] in lines
        assert ["unit", "247"] in lines
        assert any(line[:1] == ["serial"] and line[1].startswith("9010KETU") for line in lines)
        pv = next(line for line in lines if line[:1] == ["pv_w"])
        assert pv[2:] == ["W", "good", "pv_power"]
        assert abs(int(pv[1]) - truth["power_w"]["pv_w"]) <= 3
        assert any(line[:1] == ["battery_voltage"] and line[-1] == "3:35180" for line in lines)


async def test_probe_reads_rtu_over_tcp_with_a_named_profile() -> None:
    async with site("efoy_hydrogen", kind=LinkKind.RTU_OVER_TCP) as place:
        address = f"127.0.0.1:{place.server.port}"
        code, out, _ = await run(address, "--rtu-over-tcp", "--profile", "efoy_hydrogen/integer")
        assert code == 0
        assert "efoy_hydrogen (integer)" in out
        assert "rtu_over_tcp" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["127.0.0.1:99999"], 2, "probe: '127.0.0.1:99999' is no address"),
        (["ftp://127.0.0.1"], 2, "probe: unknown kind of link 'ftp'"),
        (["127.0.0.1:1", "--timeout", "0"], 2, "probe: timeout is 0; allowed are 0.01 to 60"),
        (
            ["127.0.0.1:1", "--profile", "nothing"],
            2,
            "probe: no profile 'nothing'; known are byd_battery_box",
        ),
        (["127.0.0.1:1", "--profile", "sma_hybrid/no"], 2, 'probe: sma_hybrid has no variant "no"'),
        (["127.0.0.1:1", "--profiles", "no-such-folder"], 1, "probe: no-such-folder: no such folder"),
        (["127.0.0.1:1"], 1, "probe: 127.0.0.1:1 can't be opened: connection refused"),
        (["127.0.0.1:1", "--profile", "goodwe_et"], 1, "probe: 127.0.0.1:1 can't be opened"),
        (["/dev/no-such-tty"], 1, "probe: /dev/no-such-tty can't be opened"),
    ],
)
def test_probe_says_in_one_line_what_is_wrong(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.main(arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1


def test_probe_without_an_address_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        probe.main([])
    assert caught.value.code == 2
    assert "HOST[:PORT]" in capsys.readouterr().err
