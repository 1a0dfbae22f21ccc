"""The steps of the device flow that ask the network or a device, each with a progress page."""

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, Final, override

from homeassistant.config_entries import ConfigSubentryFlow, SubentryFlowResult

from ..device_runtime.probing import Probed, Wish, async_probe
from ..device_runtime.profiles import async_all_profiles
from ..device_runtime.search import (
    async_own_networks,
    async_search,
    parse_networks,
    parse_ports,
    usual_ports,
)
from ..devices.errors import DeviceError, SettingsError
from ..devices.profile.model import Profile
from ..devices.transport.base import LinkSettings
from . import device_checks as checks
from . import device_forms as forms

_TIMEOUT_S: Final = 3.0
QUICK_S = 2.0
"""An answer within this time is shown at once, without a progress page."""


class AskingFlow(ConfigSubentryFlow):
    """Finds devices by search or address; what was found is in `found` when `async_step_found` is called."""

    def __init__(self) -> None:
        """Begin with nothing found."""
        self.found: tuple[Probed, ...] = ()
        self.typed: dict[str, Any] | None = None
        """What was typed into the form that is asked again after an error."""
        self._faults = checks.Faults()
        self._task: asyncio.Task[tuple[Probed, ...]] | None = None
        self._profiles: Mapping[str, Profile] = {}

    @abstractmethod
    async def async_step_found(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Go on with what was found."""

    @override
    def async_remove(self) -> None:
        """The flow has ended, perhaps in the middle of a search."""
        if self._task is not None:
            self._task.cancel()

    async def _known_profiles(self) -> Mapping[str, Profile]:
        if not self._profiles:
            self._profiles = await async_all_profiles(self.hass)
        return self._profiles

    # --- search -----------------------------------------------------------------------------------------

    async def async_step_search(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Where to search."""
        profiles = await self._known_profiles()
        if user_input is not None:
            self.typed, self._faults = user_input, checks.Faults()
            try:
                hosts, ports = parse_networks(user_input["networks"]), parse_ports(user_input["ports"])
            except SettingsError as error:
                self._faults = checks.of_settings(error, "invalid_search")
            else:
                work = async_search(self.hass, hosts, ports, profiles, self.async_update_progress)
                return await self._ask(work, "searching", "search")
        if self.typed is None or "networks" not in self.typed:
            usual = ", ".join(str(port) for port in usual_ports(profiles.values()))
            networks = ", ".join(await async_own_networks(self.hass))
            self.typed = {"networks": networks, "ports": usual}
        return self._ask_again("search", forms.search_form())

    async def async_step_searching(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show how far the search is."""
        return self._watch("searching", "search")

    # --- one address ------------------------------------------------------------------------------------

    async def async_step_network(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """The address of a device on the network."""
        profiles = await self._known_profiles()
        if user_input is not None:
            self.typed, self._faults = user_input, checks.Faults()
            try:
                settings, any_port = forms.network_link(user_input, _TIMEOUT_S)
            except SettingsError as error:
                self._faults = checks.of_settings(error, "invalid_address")
            else:
                work = async_probe(self.hass, _wish(user_input, settings, any_port), profiles)
                return await self._ask(work, "asking_network", "network")
        return self._ask_again("network", forms.network_form(profiles))

    async def async_step_serial(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """The serial line of a device."""
        profiles = await self._known_profiles()
        if user_input is not None:
            self.typed, self._faults = user_input, checks.Faults()
            try:
                settings = forms.serial_link(user_input, _TIMEOUT_S)
            except SettingsError as error:
                self._faults = checks.of_settings(error, "invalid_address")
            else:
                work = async_probe(self.hass, _wish(user_input, settings), profiles)
                return await self._ask(work, "asking_serial", "serial")
        return self._ask_again("serial", forms.serial_form(profiles))

    async def async_step_asking_network(
        self, _user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Show that an address is being asked."""
        return self._watch("asking_network", "network")

    async def async_step_asking_serial(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Show that a serial line is being asked."""
        return self._watch("asking_serial", "serial")

    # --- progress ---------------------------------------------------------------------------------------

    async def _ask(
        self, work: Coroutine[Any, Any, tuple[Probed, ...]], step: str, form: str
    ) -> SubentryFlowResult:
        """Begin to ask devices, and wait a moment before the progress page is shown.

        A page that is still being drawn does not hear that the work has ended, and would wait for ever.
        """
        self._task = task = self.hass.async_create_task(work, "ask for Modbus devices", eager_start=False)
        await asyncio.wait({task}, timeout=QUICK_S)
        if task.done():
            return await (self.async_step_found() if self._take_answer() else self._form_again(form))
        return self._watch(step, form)

    def _watch(self, step: str, form: str) -> SubentryFlowResult:
        """Show the progress of the task; go on with what it found, or back to the form with its error."""
        task = self._task
        if task is not None and not task.done():
            return self.async_show_progress(step_id=step, progress_action="asking", progress_task=task)
        return self.async_show_progress_done(next_step_id="found" if self._take_answer() else form)

    def _take_answer(self) -> bool:
        """Take what the ended task found; return whether it is anything, else the form's errors say why."""
        try:
            self.found = () if self._task is None else self._task.result()
        except DeviceError as error:
            self._faults = checks.of_probe(error)
            return False
        if not self.found:
            self._faults.add("base", "nothing_found")
        return bool(self.found)

    async def _form_again(self, form: str) -> SubentryFlowResult:
        """Show a form again, with what was wrong."""
        if form == "search":
            return await self.async_step_search()
        return await (self.async_step_network() if form == "network" else self.async_step_serial())

    def _ask_again(self, step: str, schema: Any) -> SubentryFlowResult:
        """Show a form with what was typed before and what was wrong with it."""
        faults = self._faults
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(schema, self.typed or {}),
            errors=faults.errors,
            description_placeholders={"detail": "", **faults.placeholders},
        )


def _wish(typed: Mapping[str, Any], settings: LinkSettings, any_port: bool = False) -> Wish:
    unit = typed.get("unit")
    return Wish(
        settings=settings,
        any_port=any_port,
        unit=None if unit is None else int(unit),
        shared=typed["more"]["shared"],
        profile=typed["more"].get("profile"),
    )
