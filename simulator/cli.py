"""The command `script/simulate-home`: one home from a file or from flags, until it is told to end."""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.config import ConfigError, build_config, read_config
from simulator.control import ControlServer
from simulator.home import SimulatedHome
from simulator.modbus.server import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.config import HomeConfig
    from simulator.modbus.wire_log import WriteSeen

_EPILOG = """\
With --device, each device gets a link of its own, named after its profile:

  script/simulate-home --device goodwe_et --device eastron_sdm630@1:rtu_over_tcp:5021 --factor 60

SPEC is PROFILE[/VARIANT][@UNIT][:TRANSPORT][:PORT],
with the transports tcp, rtu_over_tcp, udp and rtu_over_udp; port 0 is a free one.

With --config, a YAML file describes the home. Only links must be there; a pv, battery or fuel_cell that
is left out is none, and true makes one as it comes (as shown):

  name: house-a
  seed: 7                       # same seed, same run
  start: 2026-06-21T10:00:00Z   # UTC; or now
  factor: 60                    # simulated seconds per real second; 0 stands still until POST /time
  step_s: 1                     # the physics' step
  boundary_s: 900               # how often counters are kept for GET /boundaries
  timers: simulated             # the clock of the devices' revert timers; or real
  site: {latitude: 52.52, longitude: 13.405}
  pv: {peak_w: 9000, tilt_deg: 35, azimuth_deg: 180, cloud_cover_permille: 750}
  battery: {capacity_wh: 10240, max_charge_w: 5000, max_discharge_w: 5000}
  fuel_cell: {rated_w: 2500, start_s: 90, tank_mg: 2000000}
  load: {annual_kwh: 4000}
  inverter: {rated_w: 10000}
  first_soc_permille: 500
  first_fuel_permille: 1000
  first_counters_wh: {pv: 0, import: 0}
  links:
    - name: inverter
      transport: tcp
      host: 127.0.0.1
      port: 0
      latency_ms: 0
      max_clients: 1            # 0: any number
      devices:
        - {profile: fronius_gen24, unit: 1, meter_unit: 200, serial: "34120001", sleeps_at_night: false}
  control: {host: 127.0.0.1, port: 0}

The first line on standard output is JSON: ready, name, control (an address), and for each link its transport,
host, port and unit ids. The lines after it tell of every write on the wire. GET the control address for what
can be asked and done there: physical truth, writes seen, faults, weather, time.
SIGTERM or Ctrl-C ends it with exit code 0; a wrong description ends it at once with exit code 2.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="simulate-home",
        description="Simulate one home: its devices answer Modbus, over a closed energy balance.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--config", type=Path, metavar="FILE", help="the home as YAML")
    arguments.add_argument(
        "--device", action="append", default=[], metavar="SPEC", help="a device (see below)"
    )
    arguments.add_argument(
        "--profiles", type=Path, action="append", default=[], metavar="FOLDER", help="own profiles"
    )
    arguments.add_argument("--name", help="name of the home")
    arguments.add_argument("--seed", type=int, help="seed of weather, household and faults (default 1)")
    arguments.add_argument("--factor", type=float, help="simulated seconds per real second (default 1)")
    arguments.add_argument("--start", metavar="TIME", help="UTC time at which it starts (default now)")
    arguments.add_argument(
        "--control-port", type=int, metavar="PORT", help="control port (default 0: a free one)"
    )
    arguments.add_argument(
        "--pv-w", type=int, metavar="W", help="peak power of the array, 0 for none (default 9000)"
    )
    arguments.add_argument(
        "--battery-wh", type=int, metavar="WH", help="capacity, 0 for none (default 10240)"
    )
    arguments.add_argument("--fuel-cell-w", type=int, metavar="W", help="rating, 0 for none (default 0)")
    arguments.add_argument("--load-kwh", type=int, metavar="KWH", help="consumption in a year (default 4000)")
    return arguments


def config_from(arguments: argparse.Namespace) -> HomeConfig:
    """Return the home that the arguments describe; raises ConfigError."""
    now_s, folders = int(time.time()), tuple(arguments.profiles)
    if arguments.config is not None:
        given = [key for key, value in vars(arguments).items() if value and key not in ("config", "profiles")]
        if given:
            raise ConfigError(f"--config describes the whole home; leave out --{given[0].replace('_', '-')}")
        return read_config(arguments.config, now_s=now_s, profile_folders=folders)
    if not arguments.device:
        raise ConfigError("give --config FILE or at least one --device PROFILE; --help tells more")
    values: dict[str, Any] = {
        "pv": _part(arguments.pv_w, "peak_w", default=True),
        "battery": _part(arguments.battery_wh, "capacity_wh", default=True),
        "fuel_cell": _part(arguments.fuel_cell_w, "rated_w", default=False),
        "load": _part(arguments.load_kwh, "annual_kwh", default=True),
        "links": _links(arguments.device),
        "control": {} if arguments.control_port is None else {"port": arguments.control_port},
    }
    for key in ("name", "seed", "factor", "start"):
        values[key] = getattr(arguments, key)
    return build_config(values, now_s=now_s, profile_folders=folders)


def _part(size: int | None, key: str, *, default: bool) -> Any:
    if size is None:
        return default
    return {key: size} if size else False


def _links(specs: Sequence[str]) -> list[dict[str, Any]]:
    """Return a link for each PROFILE[/VARIANT][@UNIT][:TRANSPORT][:PORT]; names repeat with a number."""
    links: list[dict[str, Any]] = []
    for spec in specs:
        device_text, *rest = spec.split(":")
        profile, _, unit = device_text.partition("@")
        profile, _, variant = profile.partition("/")
        device: dict[str, Any] = {"profile": profile}
        if variant:
            device["variant"] = variant
        if unit:
            device["unit"] = _whole(spec, unit)
        same = sum(link["devices"][0]["profile"] == profile for link in links)
        link: dict[str, Any] = {"name": f"{profile}-{same + 1}" if same else profile, "devices": [device]}
        for word in rest:
            if word in list(Transport):
                link["transport"] = word
            else:
                link["port"] = _whole(spec, word)
        links.append(link)
    return links


def _whole(spec: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--device {spec}: {text!r} is neither a number nor one of {', '.join(Transport)}"
        ) from None


async def run(config: HomeConfig) -> None:
    """Run a home until SIGTERM or SIGINT; raises OSError if a port can't be had."""
    home = SimulatedHome(config)
    home.log.write_listener = _tell_write
    control = ControlServer(home, config.control_host, config.control_port)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with home:
        await control.start()
        try:
            _say(json.dumps(_readiness(home, control)))
            await ended.wait()
        finally:
            await control.stop()
    _say("ended")


def _readiness(home: SimulatedHome, control: ControlServer) -> dict[str, Any]:
    return {
        "ready": True,
        "name": home.config.name,
        "control": f"http://{home.config.control_host}:{control.port}",
        "links": {
            name: {
                "transport": link.settings.transport.value,
                "host": link.settings.host,
                "port": link.port,
                "units": {str(unit): device.profile.id for unit, device in home.units_of(name).items()},
            }
            for name, link in home.links.items()
        },
    }


def _tell_write(seen: WriteSeen) -> None:
    outcome = f" refused, exception {seen.exception}" if seen.exception else ""
    values = " ".join(str(value) for value in seen.values)
    _say(f"write {seen.link} unit {seen.unit} fc {seen.function} address {seen.address}: {values}{outcome}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        asyncio.run(run(config_from(parsed)))
    except (ConfigError, ValueError) as error:
        sys.stderr.write(f"simulate-home: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"simulate-home: {error.strerror or error}\n")
        return 2
    return 0
