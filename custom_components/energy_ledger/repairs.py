"""Fix flows of the repair issues: what to do stands in the form; it ends when the cause is gone."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import probatio as vol
from homeassistant.components.repairs import ConfirmRepairFlow, RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from ledger_core.client import ClientError

from .const import (
    DOMAIN,
    ISSUE_INVITATION_REFUSED,
    ISSUE_NODE_CANNOT_START,
    ISSUE_NODE_VERSION_MISMATCH,
)
from .count_repair import ACCEPTS, AcceptCountFlow
from .data import EnergyLedgerEntry
from .device_runtime.watch import ISSUE_LOST
from .invitation_repair import NewInvitationFlow
from .issues import (
    CLOCK,
    DISK_FULL,
    DISK_NEEDED_BYTES,
    NOT_APPROVED,
    OUT_OF_SYNC,
    VOTED_ELSEWHERE,
    clock_wrong,
    free_bytes,
    not_approved,
)
from .node.keeper import node_keeper
from .repair_flow import NOT_RESOLVED, EntryRepairFlow

_LOGGER = logging.getLogger(__name__)

CONF_ENDED: Final = "ended"

type Check = Callable[[HomeAssistant, EnergyLedgerEntry, str], Awaitable[bool]]


async def _clock_is_right(_hass: HomeAssistant, entry: EnergyLedgerEntry, _device: str) -> bool:
    ledger = entry.runtime_data.ledger
    await ledger.async_refresh()
    return ledger.last_update_success and not clock_wrong(ledger.data)


async def _is_approved(_hass: HomeAssistant, entry: EnergyLedgerEntry, _device: str) -> bool:
    data = entry.runtime_data
    await data.ledger.async_refresh()
    return data.ledger.last_update_success and not not_approved(
        data.ledger.data, data.key.signer.public_key.hex()
    )


async def _disk_has_room(hass: HomeAssistant, _entry: EnergyLedgerEntry, _device: str) -> bool:
    return await hass.async_add_executor_job(free_bytes, hass) >= DISK_NEEDED_BYTES


async def _device_is_back(_hass: HomeAssistant, entry: EnergyLedgerEntry, device: str) -> bool:
    runtime = entry.runtime_data.devices.get(device)
    if runtime is None:
        return True
    await runtime.coordinator.async_refresh()
    return runtime.coordinator.last_update_success


CHECKS: Final[dict[str, Check]] = {
    CLOCK: _clock_is_right,
    NOT_APPROVED: _is_approved,
    DISK_FULL: _disk_has_room,
    ISSUE_LOST: _device_is_back,
}
"""Issues that the user cures elsewhere: the flow ends once the check says so."""

RELOADS: Final = (OUT_OF_SYNC, ISSUE_NODE_CANNOT_START, ISSUE_NODE_VERSION_MISMATCH)
"""Issues that setting the entry up anew, and with it the node, may cure."""


class CheckedFlow(EntryRepairFlow):
    """Looks whether the cause is gone when the user says that it is."""

    def __init__(
        self, entry: EnergyLedgerEntry, check: Check, device: str, placeholders: dict[str, str]
    ) -> None:
        """Prepare to fix an issue of an entry, or of a device of it (its subentry's id, else empty)."""
        super().__init__(entry, placeholders)
        self._check = check
        self._device = device

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say what to do; look again when it is said to be done."""
        if user_input is None:
            return self.show()
        if self._entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="entry_not_loaded")
        if await self._check(self.hass, self._entry, self._device):
            return self.async_create_entry(data={})
        return self.show(NOT_RESOLVED)


class ReloadFlow(EntryRepairFlow):
    """Sets the entry up anew."""

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say what will be done, then do it."""
        if user_input is None:
            return self.show()
        node_keeper(self.hass).renew(self._entry.entry_id)
        self.hass.config_entries.async_schedule_reload(self._entry.entry_id)
        return self.async_create_entry(data={})


class ResumeVotingFlow(EntryRepairFlow):
    """Has the node vote again, once the user says that no other copy of it runs."""

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for the user's word: a node that votes twice loses its role."""
        errors: dict[str, str] = {}
        if user_input is not None:
            if self._entry.state is not ConfigEntryState.LOADED:
                return self.async_abort(reason="entry_not_loaded")
            if not user_input.get(CONF_ENDED):
                errors[CONF_ENDED] = "copy_runs"
            elif await self._resumed():
                return self.async_create_entry(data={})
            else:
                errors |= NOT_RESOLVED
        return self.show(errors, vol.Schema({vol.Required(CONF_ENDED, default=False): bool}))

    async def _resumed(self) -> bool:
        data = self._entry.runtime_data
        try:
            await data.client.resume_voting()
        except ClientError as error:
            _LOGGER.warning("%s: the node does not vote again: %s", self._entry.title, error.message)
            return False
        await data.ledger.async_refresh()
        return True


async def async_create_fix_flow(
    hass: HomeAssistant, issue_id: str, data: dict[str, str | int | float | None] | None
) -> RepairsFlow:
    """Return the flow that fixes an issue."""
    given = data or {}
    subentry_id = str(given.get("subentry_id") or "")
    entry = _entry_of(hass, issue_id, str(given.get("entry_id")), subentry_id)
    if entry is None:
        return ConfirmRepairFlow()
    issue = str(given.get("issue") or issue_id.removesuffix(f"_{entry.entry_id}"))
    known = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    shown = {"community": entry.title, **((known and known.translation_placeholders) or {})}
    if issue in CHECKS:
        return CheckedFlow(entry, CHECKS[issue], subentry_id, shown)
    if issue in ACCEPTS:
        return AcceptCountFlow(entry, shown)
    if issue == VOTED_ELSEWHERE:
        return ResumeVotingFlow(entry, shown)
    if issue in RELOADS:
        return ReloadFlow(entry, shown)
    if issue == ISSUE_INVITATION_REFUSED:
        return NewInvitationFlow(entry, shown)
    return ConfirmRepairFlow()


def _entry_of(
    hass: HomeAssistant, issue_id: str, entry_id: str, subentry_id: str
) -> EnergyLedgerEntry | None:
    """Return the entry that an issue is about: named, or in the issue's id, or by its subentry."""
    for entry in hass.config_entries.async_entries(DOMAIN):
        if entry.entry_id == entry_id or issue_id.endswith(f"_{entry.entry_id}"):
            return entry
        if subentry_id in entry.subentries:
            return entry
    return None
