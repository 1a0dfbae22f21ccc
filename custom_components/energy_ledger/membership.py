"""Makes the home a member by the invitation that its entry was made with."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from ledger_core.client import ClientError, RefusedError
from ledger_core.client.bodies import IntentError
from ledger_core.client.home import Home
from ledger_core.client.views import EventView
from ledger_core.errors import LedgerError
from ledger_core.records.invitations import InvitationLink, decode_link
from ledger_core.records.types import Role

from .const import CONF_DIRECTORY, CONF_HOME_NAME, CONF_INVITATION, DOMAIN, ISSUE_INVITATION_REFUSED, issue_id
from .dial_trouble import dial_trouble
from .ledger import LedgerCoordinator

_LOGGER = logging.getLogger(__name__)

RETRY_S: Final = 60.0
DIALS_S: Final = 5.0
"""How often is looked at what a node that knows nobody hears."""


class Joining:
    """Submits the member record once the node follows the chain, until the home is a member."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry[Any], home: Home, ledger: LedgerCoordinator
    ) -> None:
        """Prepare to join by the entry's invitation."""
        self._hass = hass
        self._entry = entry
        self._home = home
        self._ledger = ledger
        self._submitted: str | None = None
        self._was_member = False
        self._again_at = 0.0
        self._told_of_dials = False
        self._changed = asyncio.Event()

    @property
    def _is_done(self) -> bool:
        """Whether the home is a member, and with the node that runs here."""
        if self._ledger.data.account is None:
            return False
        return not self._has_other_node

    @property
    def _has_other_node(self) -> bool:
        """Whether the member names another node than ours: it was a member before, with an older one."""
        node = self._ledger.data.status.node
        if CONF_DIRECTORY not in self._entry.data or node is None:
            return False
        mine = [each for each in self._ledger.data.members if each.member.address == self._home.address]
        return any("node" in each.roles and each.node != node for each in mine)

    async def run(self) -> None:
        """Return when the home is a member; the invitation is forgotten then."""
        stops = (self._ledger.async_add_listener(self._changed.set), self._ledger.listen(self._heard))
        try:
            while not self._is_done:
                self._changed.clear()
                if self._was_member != (self._ledger.data.account is not None):
                    # The chain has told more than was known when a record was submitted, if one was.
                    self._was_member = not self._was_member
                    self._again_at = 0.0
                if self._may_try:
                    await self._try()
                await self._look_at_dials()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DIALS_S if self._is_alone else RETRY_S):
                        await self._changed.wait()
        finally:
            for stop in stops:
                stop()
        ir.async_delete_issue(self._hass, DOMAIN, self._issue)
        kept = {key: value for key, value in self._entry.data.items() if key != CONF_INVITATION}
        self._hass.config_entries.async_update_entry(self._entry, data=kept)

    @property
    def _issue(self) -> str:
        return issue_id(ISSUE_INVITATION_REFUSED, self._entry.entry_id)

    @property
    def _is_alone(self) -> bool:
        """Whether the node that runs here never met another: it believes that the chain is its beginning."""
        status = self._ledger.data.status
        return CONF_DIRECTORY in self._entry.data and not status.peers and not status.tip.height

    @property
    def _may_try(self) -> bool:
        """Whether the node knows enough of the chain, and no record of ours is on its way."""
        waits = self._hass.loop.time() < self._again_at
        synced = self._ledger.last_update_success and self._ledger.data.status.synced
        return synced and not self._is_alone and not waits

    async def _look_at_dials(self) -> None:
        """Tell why a node that knows nobody finds nobody; take it back once it has."""
        trouble = None
        if self._is_alone:
            try:
                trouble = dial_trouble(await self._ledger.client.dials())
            except ClientError as error:
                _LOGGER.debug("The node does not tell whom it calls: %s", error.message)
                return
        if trouble is not None:
            self._tell(trouble.translation_key, trouble.reason)
        elif self._told_of_dials:
            ir.async_delete_issue(self._hass, DOMAIN, self._issue)
        self._told_of_dials = trouble is not None

    @callback
    def _heard(self, event: EventView) -> None:
        if event.event in ("record_contested", "record_lost") and event.data.get("record") == self._submitted:
            self._again_at = 0.0
            self._changed.set()

    async def _try(self) -> None:
        self._again_at = self._hass.loop.time() + RETRY_S
        try:
            self._submitted = await self._submit()
        except RefusedError as error:
            if error.code == "member_known":
                # An earlier record of ours is on its way: this home is a member with the next block.
                _LOGGER.debug("Joined already: %s", error.message)
            elif not error.may_pass:
                self._refused(error)
        except ClientError as error:
            _LOGGER.debug("Not joined yet: %s", error.message)
        except (IntentError, LedgerError) as error:
            self._refused(error)

    async def _submit(self) -> str | None:
        """Submit what is missing, and return the record's id; None: nothing is, the data was old."""
        node = self._ledger.data.status.node
        if self._ledger.data.account is not None and node is not None:
            return await self._home.change_node_key(node.key)
        if await self._is_known():
            # What was read while the node synced told less than the chain does now.
            await self._ledger.async_refresh()
            return None
        link = decode_link(self._entry.data[CONF_INVITATION])
        name = self._entry.data[CONF_HOME_NAME]
        return await self._home.join(link, name, roles=self._roles(link))

    async def _is_known(self) -> bool:
        """Ask the node now whether this home is a member."""
        try:
            await self._ledger.client.account(self._home.address)
        except RefusedError as error:
            if error.code != "member_unknown":
                raise
            return False
        return True

    def _roles(self, link: InvitationLink) -> int:
        """Return the invitation's roles, without `node` where the node is another member's already."""
        node = self._ledger.data.status.node
        taken = node is None or any(
            member.node is not None and member.node.key == node.key for member in self._ledger.data.members
        )
        return link.invitation.roles & ~Role.NODE if taken else link.invitation.roles

    def _refused(self, error: LedgerError) -> None:
        _LOGGER.warning("The community does not take this home: %s", error.message)
        self._tell(ISSUE_INVITATION_REFUSED, error.message)

    def _tell(self, translation_key: str, reason: str) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            self._issue,
            is_fixable=True,
            severity=ir.IssueSeverity.ERROR,
            translation_key=translation_key,
            translation_placeholders={"community": self._entry.title, "reason": reason},
            data={"entry_id": self._entry.entry_id, "issue": ISSUE_INVITATION_REFUSED},
        )
