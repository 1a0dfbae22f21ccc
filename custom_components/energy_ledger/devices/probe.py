"""The command `script/probe`: what answers at an address, and every value that it tells."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

from .codec import labels
from .detect import Detection, Found, candidates, find_devices
from .device import Device
from .errors import DeviceError, NotDetected, SettingsError
from .profile.load import load_profiles
from .profile.model import Profile, RegisterPoint
from .readings import Field, PointState, Quality, Reading
from .transport.base import LinkKind, LinkSettings, parse_link
from .transport.link import Link

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_UNITS: Final = {
    "_wh": "Wh",
    "_w": "W",
    "_permille": "‰",
    "_mv": "mV",
    "_ma": "mA",
    "_mbar": "mbar",
    "celsius": "°C",
    "_hz": "Hz",
    "_litre_per_minute": "l/min",
}
_EPILOG: Final = """\
examples:
  script/probe 192.0.2.7                     every port and kind of link that the known devices use
  script/probe 192.0.2.7:1502 --unit 71
  script/probe rtu-over-tcp://192.0.2.7:8080
  script/probe "/dev/ttyUSB0?baudrate=9600&parity=E" --unit 121

exit codes: 0 found, 1 nothing found or not reachable, 2 wrong usage
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = argparse.ArgumentParser(
        prog="script/probe",
        description="Find out which Modbus device answers, and print a table of its decoded values.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("address", metavar="HOST[:PORT]", help="a host, or a serial device")
    arguments.add_argument(
        "--unit",
        type=int,
        action="append",
        metavar="N",
        help="Modbus unit id to ask; may be given repeatedly",
    )
    kinds = arguments.add_mutually_exclusive_group()
    for flag, kind, text in (
        ("--rtu-over-tcp", LinkKind.RTU_OVER_TCP, "RTU frames through a serial-to-network gateway"),
        ("--udp", LinkKind.UDP, "Modbus in UDP datagrams"),
        ("--rtu-over-udp", LinkKind.RTU_OVER_UDP, "RTU frames in UDP datagrams"),
        ("--serial", LinkKind.SERIAL, "the address is a serial device"),
    ):
        kinds.add_argument(flag, dest="kind", action="store_const", const=kind, help=text)
    arguments.add_argument("--timeout", type=float, default=3.0, metavar="S", help="seconds (default 3)")
    arguments.add_argument(
        "--profile", metavar="ID[/VARIANT]", help="read as this profile, without detection"
    )
    arguments.add_argument(
        "--profiles", type=Path, action="append", default=[], metavar="FOLDER", help="profiles of your own"
    )
    arguments.add_argument("--points", action="store_true", help="print every point, not only the readings")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it says of failures is said below
    try:
        profiles = load_profiles(*options.profiles)
        settings = parse_link(options.address, kind=options.kind)
        settings = dataclasses.replace(settings, timeout_s=options.timeout)
        text = asyncio.run(_probe(options, settings, profiles))
    except SettingsError as error:
        return _fail(str(error), _USAGE_ERROR)
    except DeviceError as error:
        return _fail(str(error), _FAILURE)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    sys.stdout.write(text)
    return 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"probe: {' '.join(message.split())}\n")
    return code


async def _probe(options: argparse.Namespace, settings: LinkSettings, profiles: Mapping[str, Profile]) -> str:
    """Detect (or take the profile that was named), read once, and lay it out as text."""
    any_port = settings.kind is not LinkKind.SERIAL and _port_is_free(options.address)
    if options.profile:
        found = _named(options, settings, profiles)
    else:
        found = await find_devices(settings, profiles, any_port=any_port, units=options.unit)
    link = Link(found.settings)
    parts: list[str] = []
    try:
        for detection in found.devices:
            units = {"": link.unit(detection.unit_id)}
            units.update({name: link.unit(unit) for name, unit in detection.companions.items()})
            device = Device(detection.profile, units)
            await device.poll()
            if device.bound is None or (device.error is not None and not _any_value(device)):
                raise device.error or NotDetected(f"{device.unit.name} tells nothing")
            parts.append(_report(detection, found.settings, device, points=options.points))
    finally:
        await link.close()
    return "\n".join(parts)


def _any_value(device: Device) -> bool:
    return any(reading.value is not None for reading in device.readings.values())


def _port_is_free(address: str) -> bool:
    """Whether the user left the port to us."""
    return parse_link(address, default_port=1).port != parse_link(address, default_port=2).port


def _named(options: argparse.Namespace, settings: LinkSettings, profiles: Mapping[str, Profile]) -> Found:
    """The profile that the user named, at the unit ids named or its usual one."""
    name, _, variant = options.profile.partition("/")
    if name not in profiles:
        raise SettingsError(f"no profile {name!r}; known are {', '.join(sorted(profiles))}")
    profile = profiles[name]
    if variant:
        try:
            profile = profile.choose(variant)
        except LookupError as error:
            raise SettingsError(str(error)) from error
    devices = [
        Detection(profile=profile, unit_id=unit, nameplate={}, companions=profile.link.companions)
        for unit in options.unit or profile.link.units[:1]
    ]
    (settings,) = candidates(settings, {name: profile}, any_port=False)
    return Found(settings=settings, devices=tuple(devices))


def _report(detection: Detection, settings: LinkSettings, device: Device, *, points: bool) -> str:
    """What was found, and its values."""
    profile = detection.profile
    variant = f" ({profile.variant})" if profile.variant else ""
    lines = [
        f"{profile.title}",
        f"  profile  {profile.id}{variant}",
        f"  link     {settings.kind} {settings.endpoint}",
        f"  unit     {detection.unit_id}"
        + "".join(f", {name} at {unit}" for name, unit in detection.companions.items()),
        f"  serial   {device.serial or 'not told'}",
        f"  requests {device.requests_last_poll} for everything, once",
        "",
    ]
    rows = [
        (field.value, _shown(reading), _unit(field), _quality(reading.quality), reading.point or "computed")
        for field, reading in sorted(device.readings.items())
    ]
    lines += _table(("reading", "value", "unit", "quality", "point"), rows)
    if points:
        lines.append("")
        lines += _table(("point", "value", "unit", "quality", "register"), _point_rows(device))
    return "\n".join(lines) + "\n"


def _point_rows(device: Device) -> list[tuple[str, ...]]:
    bound = device.bound
    if bound is None:
        return []
    rows: list[tuple[str, ...]] = []
    for name, state in device.states.items():
        point = bound.profile.point(name)
        place = f"{int(point.function)}:{point.address}" if isinstance(point, RegisterPoint) else "derived"
        names = ", ".join(labels(point, state.value)) if isinstance(point, RegisterPoint) else ""
        value = _point_value(state) + (f" ({names})" if names else "")
        rows.append((name, value, point.unit.value, _quality(state.quality), place))
    return rows


def _point_value(state: PointState) -> str:
    if state.value is None:
        return "-"
    return f"{float(state.value):.10g}" if isinstance(state.value, Fraction) else state.value


def _shown(reading: Reading) -> str:
    if reading.value is None:
        return "-"
    return f"{reading.value:g}" if isinstance(reading.value, float) else str(reading.value)


def _unit(field: Field) -> str:
    return next((unit for ending, unit in _UNITS.items() if field.value.endswith(ending)), "")


def _quality(quality: Quality) -> str:
    return quality.value.replace("_", " ")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Text in columns; the second one, values, to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = [
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(main())
