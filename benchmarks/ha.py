"""What the integration costs a real Home Assistant: its setup, the event loop's delay, the states written.

One home with five devices behind simulated Modbus, polled every two seconds, in a community of its own with a
block every second: more often than any street. A small integration measures inside Home Assistant; the same
Home Assistant is measured in turns with and without the entry, and the difference is what was added.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, progress, run
from demo.assistant import Place
from demo.extras import ensure_extras
from demo.houses import FUEL_CELL, INVERTER, METER, Device, House
from demo.resident import DOMAIN, Resident
from demo.rest import wait_for

PROBE = Path(__file__).with_name("_ha_probe")
ROUNDS, MEASURED_S, SETTLING_S = 3, 20.0, 8.0
GOAL_SETUP_S, GOAL_LOOP_MS = 1.0, 5.0
TERMS = {"slot_s": "60", "block_spacing_s": 1, "checkpoint_interval": 10, "asset_approval": "owner"}
HOUSE = House(
    "bench",
    "Bench house",
    "Ann",
    Place(log_level="warning"),
    (
        Device("meter", METER, "Grid meter", 17_000),
        Device("pv", INVERTER, "Solar roof", 10_000),
        Device("battery", INVERTER, "House battery", 10_000, 10_240),
        Device("meter", INVERTER, "Inverter's meter", 17_000),
        Device("fuel_cell", FUEL_CELL, "Fuel cell", 5_000, 30_000),
    ),
    {
        "pv": {"peak_w": 9_000},
        "battery": {"capacity_wh": 10_240},
        "fuel_cell": {"rated_w": 5_000},
        "inverter": {"rated_w": 10_000},
        "first_soc_permille": 640,
    },
    pv_w=5_200,
    load_w=900,
)


class Measured:
    """What was found with, or without, the entry."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.p99: list[float] = []
        self.longest: list[float] = []
        self.changed = self.repeated = 0
        self.minutes = 0.0

    async def add(self, resident: Resident) -> None:
        """Measure once more."""
        found = await probe(resident, "measure", seconds=MEASURED_S)
        self.p99.append(statistics.quantiles(found["delays_ms"], n=100)[98])
        self.longest.append(max(found["delays_ms"]))
        self.changed += sum(found["changed"].values())
        self.repeated += sum(found["repeated"].values())
        self.minutes += MEASURED_S / 60
        worst = sorted(found["repeated"].items(), key=lambda each: -each[1])[:5]
        progress(f"p99 {self.p99[-1]:.2f} ms, longest {self.longest[-1]:.1f} ms, repeated most: {worst}")


async def probe(resident: Resident, action: str, **data: Any) -> dict[str, Any]:
    """Call an action of the probe."""
    return dict(await resident.api.call("ledger_probe", action, data, answer=True))


async def switch(resident: Resident, *, on: bool) -> None:
    """Enable or disable the entry, and wait until it is loaded or not, and calm."""
    await resident.api.command(
        "config_entries/disable", entry_id=resident.entry_id, disabled_by=None if on else "user"
    )
    wanted = "loaded" if on else "not_loaded"

    async def reached() -> bool:
        return [each["state"] for each in await resident.api.entries(DOMAIN)] == [wanted]

    await wait_for(reached, f"the entry to be {wanted}")
    await asyncio.sleep(SETTLING_S)


async def measured_turns(resident: Resident) -> tuple[Measured, Measured]:
    """Return what was found without and with the entry, in turns."""
    without, with_it = Measured(), Measured()
    for number in range(ROUNDS):
        progress(f"round {number + 1} of {ROUNDS}: without the entry, then with it")
        await without.add(resident)
        await switch(resident, on=True)
        await with_it.add(resident)
        if number < ROUNDS - 1:
            await switch(resident, on=False)
    return without, with_it


async def main_async(figures: Figures, folder: Path) -> None:
    """Make the home, start its Home Assistant anew with the entry disabled, and measure."""
    resident = Resident(HOUSE, folder, ensure_extras())
    configuration = folder / "configuration.yaml"
    try:
        progress("starting Home Assistant, founding a community, adding five devices")
        resident.assistant.prepare(onboarded=True)
        configuration.write_text(configuration.read_text(encoding="utf-8") + "ledger_probe:\n", "utf-8")
        more = folder.with_name("more")
        shutil.copytree(PROBE, more / "custom_components" / "ledger_probe")
        environment = dict(resident.assistant.extra_environment)
        environment["PYTHONPATH"] += f"{os.pathsep}{more}"
        resident.assistant.extra_environment = environment
        await resident.start()
        await resident.found("Bench", TERMS)
        await resident.add_devices()
        await resident.wait_assets()
        progress("starting it anew, with the entry disabled")
        await switch(resident, on=False)
        await resident.assistant.stop()
        await resident.assistant.start()
        await resident.api.wait_running()
        import_s = (await probe(resident, "prepare"))["import_s"]
        without, with_it = await measured_turns(resident)
        setups = await probe(resident, "setups")
    except BaseException:
        progress("Home Assistant's log ends with:\n" + "\n".join(list(resident.assistant.log)[-20:]))
        raise
    finally:
        await resident.stop()
    plain, loaded = statistics.median(without.p99), statistics.median(with_it.p99)
    figures.add("setup_s", statistics.median(setups["setup_s"]), "s", most=GOAL_SETUP_S)
    figures.add("setup_longest_s", max(setups["setup_s"]), "s")
    figures.add("import_s", import_s, "s")
    figures.add("node_start_s", statistics.median(setups["node_s"]), "s")
    figures.add("loop_p99_ms", loaded - plain, "ms", most=GOAL_LOOP_MS)
    figures.add("loop_p99_with_ms", loaded, "ms")
    figures.add("raw_loop_p99_ms", plain, "ms")
    figures.add("loop_longest_ms", max(with_it.longest), "ms")
    figures.add("states_changed_per_minute", with_it.changed / with_it.minutes, "1/min")
    figures.add("states_repeated_per_minute", with_it.repeated / with_it.minutes, "1/min", most=0)


def main(figures: Figures) -> None:
    """Measure in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="energy-ledger-ha-") as folder:
        asyncio.run(main_async(figures, Path(folder) / "config"))


if __name__ == "__main__":
    run("ha", main)
