"""Measures inside a Home Assistant: the loop's delay, the states written, how long a setup takes.

The benchmark `ha` puts this folder into the configuration of a temporary Home Assistant, as the integration
`ledger_probe`. Its actions answer with what was measured.
"""

import asyncio
import time
from typing import Any

from homeassistant.const import EVENT_STATE_CHANGED, EVENT_STATE_REPORTED
from homeassistant.core import Event, HomeAssistant, ServiceCall, SupportsResponse, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.typing import ConfigType
from homeassistant.loader import async_get_integration

DOMAIN = "ledger_probe"
TARGET = "energy_ledger"
TICK_S = 0.005


class Setups:
    """How long every setup of an entry of the integration took, the wait for its node apart."""

    def __init__(self) -> None:
        """Begin without any."""
        self.seconds: list[float] = []
        self.node_seconds: list[float] = []

    async def wrap(self, hass: HomeAssistant) -> float:
        """Put clocks around the setup and the start of the node; return the seconds that importing took."""
        started = time.perf_counter()
        integration = await async_get_integration(hass, TARGET)
        component: Any = await integration.async_get_component()
        imported = time.perf_counter() - started
        setup_entry, connect = component.async_setup_entry, component.async_connect

        async def connect_timed(*given: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await connect(*given)
            finally:
                self.node_seconds.append(time.perf_counter() - begun)

        async def setup_timed(*given: Any) -> Any:
            begun = time.perf_counter()
            done = await setup_entry(*given)
            self.seconds.append(time.perf_counter() - begun - self.node_seconds[-1])
            return done

        component.async_setup_entry, component.async_connect = setup_timed, connect_timed
        return imported


class Writes:
    """Counts what the integration's entities write, and what of it was new."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Count from now on, until `stop`."""
        registry = er.async_get(hass)
        self._own = {each.entity_id for each in registry.entities.values() if each.platform == TARGET}
        self.changed: dict[str, int] = {}
        self.repeated: dict[str, int] = {}

        @callback
        def own(data: Any) -> bool:
            return data["entity_id"] in self._own

        @callback
        def change(event: Event[Any]) -> None:
            name = event.data["entity_id"]
            self.changed[name] = self.changed.get(name, 0) + 1

        @callback
        def repetition(event: Event[Any]) -> None:
            name = event.data["entity_id"]
            self.repeated[name] = self.repeated.get(name, 0) + 1

        self._stops = (
            hass.bus.async_listen(EVENT_STATE_CHANGED, change, own),
            hass.bus.async_listen(EVENT_STATE_REPORTED, repetition, own),
        )

    def stop(self) -> None:
        """Count no longer."""
        for stop in self._stops:
            stop()


async def loop_delays(seconds: float) -> list[float]:
    """Return by how many milliseconds the loop woke up later than asked, each time within some seconds."""
    delays = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        await asyncio.sleep(TICK_S)
        delays.append((time.perf_counter() - started - TICK_S) * 1000)
    return delays


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Register the actions."""
    setups = Setups()

    async def prepare(_: ServiceCall) -> Any:
        return {"import_s": await setups.wrap(hass)}

    async def measure(call: ServiceCall) -> Any:
        writes = Writes(hass)
        delays = await loop_delays(float(call.data["seconds"]))
        writes.stop()
        return {"delays_ms": delays, "changed": writes.changed, "repeated": writes.repeated}

    async def told(_: ServiceCall) -> Any:
        return {"setup_s": setups.seconds, "node_s": setups.node_seconds}

    for name, action in (("prepare", prepare), ("measure", measure), ("setups", told)):
        hass.services.async_register(DOMAIN, name, action, supports_response=SupportsResponse.ONLY)
    return True
