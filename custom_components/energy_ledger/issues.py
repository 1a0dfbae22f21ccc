"""Repair issues that follow from what the node tells; they go when their cause goes."""

import shutil
from dataclasses import dataclass
from typing import Final

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN, issue_id
from .data import EnergyLedgerEntry
from .ledger import LedgerView
from .node_state import CLOCK_WRONG, OTHER_COPY

CLOCK: Final = "clock_wrong"
OUT_OF_SYNC: Final = "out_of_sync"
VOTED_ELSEWHERE: Final = "voted_elsewhere"
NOT_APPROVED: Final = "not_approved"
DISK_FULL: Final = "disk_full"
PARTED: Final = "street_parted"

PATIENCE_S: Final = 15 * 60
"""How long a node may sync and a membership wait before it is an issue."""
DISK_NEEDED_BYTES: Final = 256 * 1024 * 1024
"""A year of a street is a few hundred megabytes; with less than this the node soon can't go on."""
DISK_PERIOD_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Issue:
    """One kind of issue."""

    key: str
    severity: ir.IssueSeverity
    fixable: bool


KINDS: Final = {
    issue.key: issue
    for issue in (
        Issue(CLOCK, ir.IssueSeverity.ERROR, fixable=True),
        Issue(OUT_OF_SYNC, ir.IssueSeverity.WARNING, fixable=True),
        Issue(VOTED_ELSEWHERE, ir.IssueSeverity.ERROR, fixable=True),
        Issue(NOT_APPROVED, ir.IssueSeverity.WARNING, fixable=True),
        Issue(DISK_FULL, ir.IssueSeverity.ERROR, fixable=True),
        Issue(PARTED, ir.IssueSeverity.ERROR, fixable=False),
    )
}


def clock_wrong(view: LedgerView) -> bool:
    """Whether the node doubts this computer's clock."""
    return CLOCK_WRONG in (view.status.mining_hold, view.status.voting_hold)


def not_approved(view: LedgerView, home: str) -> bool:
    """Whether the home (key, hexadecimal) is no member with rights, though the chain is up to date."""
    member = next((each for each in view.members if each.member.key == home), None)
    return view.status.synced and (member is None or not member.roles)


@callback
def async_sweep(hass: HomeAssistant) -> None:
    """Delete the issues of entries, devices and rules that are gone: every issue's id ends in whose it is."""
    known = set()
    for entry in hass.config_entries.async_entries(DOMAIN):
        known |= {entry.entry_id, *entry.subentries}
    for domain, identifier in tuple(ir.async_get(hass).issues):
        if domain == DOMAIN and identifier.rpartition("_")[2] not in known:
            ir.async_delete_issue(hass, domain, identifier)


def free_bytes(hass: HomeAssistant) -> int:
    """Return how much room there is where the node's data lies; blocks for a moment."""
    return shutil.disk_usage(hass.config.config_dir).free


class IssueWatch:
    """Creates and deletes the issues of one entry."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry, patience_s: float = PATIENCE_S) -> None:
        """Prepare to watch a loaded entry."""
        self._hass = hass
        self._entry = entry
        self._patience_s = patience_s
        self._since: dict[str, float] = {}
        self._disk_checked = -DISK_PERIOD_S

    @callback
    def start(self) -> CALLBACK_TYPE:
        """Begin to watch; what is returned ends it, and takes back the entry's issues."""
        stop = self._entry.runtime_data.ledger.async_add_listener(self.look)
        self.look()

        def end() -> None:
            stop()
            for key in KINDS:
                self._set(key, False)

        return end

    @callback
    def look(self) -> None:
        """Compare the issues with what is known now."""
        data = self._entry.runtime_data
        if data.ledger.last_update_success:
            view = data.ledger.data
            self._set(CLOCK, clock_wrong(view))
            self._set(VOTED_ELSEWHERE, view.status.voting_hold == OTHER_COPY)
            self._set(PARTED, view.status.parted > 0)
            self._set(OUT_OF_SYNC, self._lasts(OUT_OF_SYNC, not view.status.synced))
            home = data.key.signer.public_key.hex()
            self._set(NOT_APPROVED, self._lasts(NOT_APPROVED, not_approved(view, home)))
        self._look_at_disk()

    def _look_at_disk(self) -> None:
        now = self._hass.loop.time()
        if self._entry.runtime_data.node is None or now < self._disk_checked + DISK_PERIOD_S:
            return
        self._disk_checked = now
        self._entry.async_create_background_task(
            self._hass, self._async_look_at_disk(), f"{DOMAIN} free space"
        )

    async def _async_look_at_disk(self) -> None:
        free = await self._hass.async_add_executor_job(free_bytes, self._hass)
        self._set(DISK_FULL, free < DISK_NEEDED_BYTES)

    def _lasts(self, what: str, now_so: bool) -> bool:
        """Whether something has been so for as long as one is patient."""
        if not now_so:
            self._since.pop(what, None)
            return False
        now = self._hass.loop.time()
        return now - self._since.setdefault(what, now) >= self._patience_s

    def _set(self, key: str, present: bool) -> None:
        identifier = issue_id(key, self._entry.entry_id)
        if not present:
            ir.async_delete_issue(self._hass, DOMAIN, identifier)
            return
        kind = KINDS[key]
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            identifier,
            is_fixable=kind.fixable,
            severity=kind.severity,
            translation_key=key,
            translation_placeholders={"community": self._entry.title},
            data={"entry_id": self._entry.entry_id, "issue": key},
        )
