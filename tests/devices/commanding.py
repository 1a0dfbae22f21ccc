"""A process that puts a command in force and keeps it there, to be killed: PROFILE PORT UNIT NOTE POWER_W."""

import asyncio
import sys
import time
from pathlib import Path

from custom_components.energy_ledger.devices.commands import Commander, Order
from custom_components.energy_ledger.devices.device import Device
from custom_components.energy_ledger.devices.notes import FileNoteStore
from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.transport.base import LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link


async def main(profile_id: str, port: str, unit: str, note: str, power_w: str) -> None:
    link = Link(LinkSettings(host="127.0.0.1", port=int(port), timeout_s=2))
    device = Device(load_profiles()[profile_id], {"": link.unit(int(unit))})
    commander = Commander(device, FileNoteStore(Path(note)))
    await device.poll()
    until = time.time() + 600
    await commander.start(Order(name=CommandName.DISCHARGE, power_w=int(power_w), until=until))
    sys.stdout.write("in force\n")
    sys.stdout.flush()
    await asyncio.sleep(60)
    raise SystemExit("nobody killed me")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
