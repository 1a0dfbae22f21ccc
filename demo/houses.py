"""The three houses of the demo: what physically stands in each, behind simulated Modbus devices.

Sun and household are fixed powers, so that the demo trades by night as by day; everything else is the
simulator's own physics: batteries drain, the fuel cell starts, ramps and uses fuel, meters count.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from demo.assistant import Place
from simulator.config import build_config
from simulator.home import SimulatedHome

if TYPE_CHECKING:
    from collections.abc import Mapping

METER = "eastron_sdm630"
INVERTER = "fronius_gen24"
FUEL_CELL = "cummins_hydrogen"


@dataclass(frozen=True, slots=True)
class Device:
    """A device as its owner adds it: its kind, its profile and link, its name and what it can give."""

    kind: str
    profile: str
    name: str
    rating_w: int
    capacity_wh: int | None = None


@dataclass(frozen=True, slots=True)
class House:
    """A house: its name, its first user, its devices, and how the simulator is to build it."""

    key: str
    name: str
    owner: str
    place: Place
    devices: tuple[Device, ...]
    parts: Mapping[str, Any]
    pv_w: int
    load_w: int

    def simulated(self) -> SimulatedHome:
        """Return the house as a simulated one, not started; each device has a link of its own."""
        profiles = list(dict.fromkeys(device.profile for device in self.devices))
        values = {
            "name": self.key,
            "seed": sum(self.key.encode()),
            "boundary_s": 60,
            # Counters that start low show whole watt-hours also where a meter speaks in 32-bit floats.
            "first_counters_wh": {"import": 1_000, "export": 1_000},
            "links": [_link(profile) for profile in profiles],
            **self.parts,
        }
        home = SimulatedHome(build_config(values, now_s=int(time.time())))
        home.set_environment(pv_w=self.pv_w, load_w=self.load_w)
        return home


def _link(profile: str) -> dict[str, Any]:
    device: dict[str, Any] = {"profile": profile}
    if profile == INVERTER:
        device |= {"unit": 1, "meter_unit": 200}
    return {"name": profile, "host": "127.0.0.1", "port": 0, "devices": [device]}


HOUSES = (
    House(
        "sun",
        "Sun house",
        "Ann",
        Place(52.5200, 13.4050),
        (
            Device("meter", METER, "Grid meter", 17_000),
            Device("battery", INVERTER, "Solar battery", 10_000, 40_960),
        ),
        {
            "pv": {"peak_w": 9_000},
            "battery": {"capacity_wh": 40_960, "max_charge_w": 5_000, "max_discharge_w": 10_000},
            "inverter": {"rated_w": 10_000},
            "first_soc_permille": 800,
        },
        pv_w=400,
        load_w=400,
    ),
    House(
        "cell",
        "Fuel cell house",
        "Ben",
        Place(52.5203, 13.4061),
        (
            Device("meter", METER, "Grid meter", 17_000),
            Device("fuel_cell", FUEL_CELL, "Fuel cell", 5_000, 30_000),
        ),
        {
            "pv": False,
            "battery": False,
            "fuel_cell": {"rated_w": 5_000, "start_s": 5, "stop_s": 5, "ramp_w_per_s": 1_000},
            "inverter": {"rated_w": 6_000},
        },
        pv_w=0,
        load_w=300,
    ),
    House(
        "flat",
        "The flat",
        "Cem",
        Place(52.5198, 13.4043),
        (Device("meter", METER, "Grid meter", 17_000),),
        {"pv": False, "battery": False},
        pv_w=0,
        load_w=12_000,
    ),
)
