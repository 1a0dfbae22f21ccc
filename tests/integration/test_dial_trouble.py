"""A newcomer whose node is refused, or finds nobody, is told why."""

import asyncio
import time
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger import repairs
from custom_components.energy_ledger.const import CONF_INVITATION, DOMAIN
from custom_components.energy_ledger.dial_trouble import FAILURES, DialTrouble, dial_trouble
from custom_components.energy_ledger.membership import Joining
from custom_components.energy_ledger.node.keeper import node_keeper
from demo.assistant import free_port
from ledger_core.client import UnreachableError
from ledger_core.client.home import Home
from ledger_core.client.views import DialView
from ledger_core.keys import SoftwareSigner
from tests.integration.conftest import state_of, wait_until
from tests.integration.own_node import OwnEntry, invite, own_entry

__all__ = ["own_entry"]


def dial(code: str, failures: int = 1) -> DialView:
    return DialView(
        node=None,
        location="10.0.0.7:7946",
        failures=failures,
        retry_in_s=1.0,
        last_error=f"it says {code}",
        last_code=code,
    )


@pytest.mark.parametrize(
    ("dials", "told"),
    [
        ([], None),
        ([dial("unreachable", FAILURES - 1)], None),
        ([dial("unreachable", FAILURES), dial("timeout", 1)], None),
        ([dial("unreachable", FAILURES)], DialTrouble("inviter_unreachable", "it says unreachable")),
        (
            [dial("timeout"), dial("invitation_used")],
            DialTrouble("invitation_used", "it says invitation_used"),
        ),
        ([dial("invitation_expired")], DialTrouble("invitation_expired", "it says invitation_expired")),
        ([dial("revoked")], DialTrouble("invitation_refused", "it says revoked")),
    ],
)
def test_what_a_call_tells(dials: list[DialView], told: DialTrouble | None) -> None:
    assert dial_trouble(dials) == told


def _issue(hass: HomeAssistant, entry: MockConfigEntry) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, f"invitation_refused_{entry.entry_id}")


async def _told(hass: HomeAssistant, entry: MockConfigEntry, key: str) -> ir.IssueEntry:
    await wait_until(lambda: (issue := _issue(hass, entry)) is not None and issue.translation_key == key, 60)
    issue = _issue(hass, entry)
    assert issue is not None
    return issue


@pytest.mark.usefixtures("socket_enabled")
async def test_an_invitation_that_was_used_is_told_to_its_second_bearer(
    hass: HomeAssistant, own_entry: OwnEntry
) -> None:
    """Its node gets no link, so it never learns of the chain: only what it hears when it calls tells why."""
    founder = await own_entry("founder")
    text = await invite(founder)
    first = SoftwareSigner.generate()
    await Home(founder.runtime_data.client, first).join(
        text, "first", node=SoftwareSigner.generate().public_key
    )
    await wait_until(lambda: len(founder.runtime_data.ledger.data.members) > 1, 60)
    with patch("custom_components.energy_ledger.membership.DIALS_S", 0.1):
        second = await own_entry("second", invitation=text)
        issue = await _told(hass, second, "invitation_used")
        assert issue.translation_placeholders is not None
        assert "used before" in issue.translation_placeholders["reason"]
        assert "second" in issue.translation_placeholders["community"]

        flow: Any = await repairs.async_create_fix_flow(hass, issue.issue_id, issue.data)
        flow.hass = hass
        again = await invite(founder)
        full = OSError(28, "No space left on device")
        with patch(
            "custom_components.energy_ledger.invitation_repair.local.prepare_joining", side_effect=full
        ):
            refused = await flow.async_step_confirm({CONF_INVITATION: again})
        assert refused["errors"] == {"base": "cannot_prepare"}
        assert "No space left" in refused["description_placeholders"]["reason"]
        await hass.async_block_till_done()
        assert state_of(second) is ConfigEntryState.LOADED, "the home goes on as before"
        done = await flow.async_step_confirm({CONF_INVITATION: again})
        assert done["type"] == "create_entry"
        await wait_until(lambda: CONF_INVITATION not in second.data, 60)
        await wait_until(lambda: len(founder.runtime_data.ledger.data.members) == 3, 60)


@pytest.mark.usefixtures("socket_enabled")
async def test_an_inviter_that_comes_late_is_told_until_it_comes(
    hass: HomeAssistant, own_entry: OwnEntry
) -> None:
    port = free_port()
    founder = await own_entry("founder", peer_port=port)
    text = await invite(founder)
    await hass.config_entries.async_unload(founder.entry_id)
    await node_keeper(hass).end(founder.entry_id)
    with (
        patch("custom_components.energy_ledger.membership.DIALS_S", 0.1),
        patch("custom_components.energy_ledger.dial_trouble.FAILURES", 1),
    ):
        second = await own_entry("second", invitation=text)
        issue = await _told(hass, second, "inviter_unreachable")
        assert issue.translation_placeholders is not None
        assert str(port) in issue.translation_placeholders["reason"]
        await hass.config_entries.async_setup(founder.entry_id)
        await wait_until(lambda: _issue(hass, second) is None, 60)


async def test_a_node_that_does_not_answer_tells_nothing(hass: HomeAssistant) -> None:
    """Nor is what was told before taken back."""
    entry = MockConfigEntry(domain=DOMAIN, data={"directory": "home"})

    class Silent:
        async def dials(self) -> list[DialView]:
            raise UnreachableError("unreachable", f"away since {time.time():.0f}")

    class Ledger:
        client = Silent()

    joining = Joining(hass, entry, None, Ledger())  # type: ignore[arg-type]
    joining._tell("invitation_used", "it was used")
    joining._told_of_dials = True
    with patch.object(Joining, "_is_alone", True):
        await asyncio.wait_for(joining._look_at_dials(), 5)
    assert _issue(hass, entry) is not None
