"""Connects an entry to its node: one that runs here, supervised, or one elsewhere."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypedDict

from aiohttp import ClientSession
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_TOKEN, CONF_URL, EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryError, ConfigEntryNotReady
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from ledger_core import __version__
from ledger_core.client import ClientError, NodeClient

from .const import (
    CONF_ADVERTISE,
    CONF_DIRECTORY,
    CONF_DISCOVERY,
    CONF_LOG_LEVEL,
    CONF_MINING,
    CONF_MINING_SHARE,
    CONF_PEER_PORT,
    CONF_PEER_VIEW,
    CONF_PEERS,
    DEFAULT_MINING_SHARE,
    DOMAIN,
    ISSUE_NODE_CANNOT_START,
    ISSUE_NODE_VERSION_MISMATCH,
    issue_id,
)
from .node.keeper import node_keeper
from .node.process import NodeLaunch
from .node.supervisor import NodeSupervisor, NodeUnavailable
from .node.versions import version_fits
from .peer_view import peer_url

_LOGGER = logging.getLogger(__name__)

MINING_OPTIONS: Final = (CONF_MINING, CONF_MINING_SHARE)
_ISSUES: Final = (ISSUE_NODE_CANNOT_START, ISSUE_NODE_VERSION_MISMATCH)


class _Told(TypedDict):
    translation_domain: str
    translation_key: str
    translation_placeholders: dict[str, str]


def data_directory(hass: HomeAssistant, name: str) -> Path:
    """Return the data directory of a node that runs here, below the configuration directory."""
    return Path(hass.config.path(DOMAIN, name))


def node_settings(hass: HomeAssistant, entry: ConfigEntry[Any]) -> dict[str, str]:
    """Return an entry's options as settings of its node; what was never chosen is the node's own default."""
    options = entry.options
    found: dict[str, str] = {}
    if options.get(CONF_PEER_VIEW, False) and (url := peer_url(hass, entry)):
        found["advertise"] = url
    for name in (CONF_MINING, CONF_DISCOVERY):
        if name in options:
            found[name] = "yes" if options[name] else "no"
    if CONF_MINING_SHARE in options:
        found["mining_share"] = str(options[CONF_MINING_SHARE] / 100)
    if CONF_PEERS in options:
        found["peers"] = ",".join(options[CONF_PEERS])
    for name in (CONF_PEER_PORT, CONF_ADVERTISE, CONF_LOG_LEVEL):
        if options.get(name) not in (None, ""):
            found[name] = str(options[name])
    return found


async def async_connect(
    hass: HomeAssistant, entry: ConfigEntry[Any]
) -> tuple[NodeClient, NodeSupervisor | None]:
    """Return a client of the entry's node, and the supervisor of a node that runs here.

    A node that is kept from before and was started like this one is taken over, else one is started.
    Raises ConfigEntryNotReady, or ConfigEntryError where the node has another version than this.
    """
    session = async_get_clientsession(hass)
    if CONF_URL in entry.data:
        return NodeClient(entry.data[CONF_URL], entry.data[CONF_TOKEN], session=session), None
    launch = NodeLaunch(
        directory=data_directory(hass, entry.data[CONF_DIRECTORY]), settings=node_settings(hass, entry)
    )
    taken = await node_keeper(hass).take(entry.entry_id, launch)
    client, supervisor = taken or await _async_start(hass, entry, session, launch)

    async def stop(_: Event) -> None:
        await supervisor.stop()

    # Entries are not unloaded when Home Assistant stops.
    entry.async_on_unload(hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, stop))
    return client, supervisor


async def _async_start(
    hass: HomeAssistant, entry: ConfigEntry[Any], session: ClientSession, launch: NodeLaunch
) -> tuple[NodeClient, NodeSupervisor]:
    supervisor = NodeSupervisor(
        hass,
        launch,
        lambda url, token: NodeClient(url, token, session=session),
        lambda trouble: tell_trouble(hass, entry, trouble),
    )
    node_keeper(hass).know(entry.entry_id, supervisor)
    supervisor.on_moved = lambda: hass.config_entries.async_schedule_reload(entry.entry_id)
    try:
        return await supervisor.start(), supervisor
    except NodeUnavailable as error:
        tell_trouble(hass, entry, error)
        if error.issue == ISSUE_NODE_VERSION_MISMATCH:
            # What was installed is not what runs: only a restart of Home Assistant helps.
            raise ConfigEntryError(**_told(error)) from error
        raise _not_ready(error) from error


async def async_change_mining(hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
    """Tell the node that runs here how much it mines now; the next start will know as well."""
    data = entry.runtime_data
    if data.node is None:
        return
    data.node.launch = replace(data.node.launch, settings=node_settings(hass, entry))
    share = entry.options.get(CONF_MINING_SHARE, DEFAULT_MINING_SHARE) / 100
    try:
        await data.client.change_mining(on=entry.options.get(CONF_MINING, True), share=share)
    except ClientError as error:
        _LOGGER.warning("%s: the node mines as before until its next start: %s", entry.title, error)


async def async_require_version(hass: HomeAssistant, entry: ConfigEntry[Any], client: NodeClient) -> None:
    """Check the version of a node elsewhere; raises ConfigEntryNotReady until it fits.

    A node that does not answer is left to whoever asks it next. Nothing else is asked before: another
    version's answers may have another form.
    """
    try:
        version = await client.version()
    except ClientError:
        return
    if version_fits(version, __version__):
        tell_trouble(hass, entry, None)
        return
    trouble = NodeUnavailable(
        ISSUE_NODE_VERSION_MISMATCH, f"the node has version {version}, expected is {__version__}"
    )
    tell_trouble(hass, entry, trouble)
    raise _not_ready(trouble)


@callback
def tell_trouble(hass: HomeAssistant, entry: ConfigEntry[Any], trouble: NodeUnavailable | None) -> None:
    """Make the repair issue for why the node does not run; None removes it."""
    for issue in _ISSUES:
        if trouble is None or trouble.issue != issue:
            ir.async_delete_issue(hass, DOMAIN, issue_id(issue, entry.entry_id))
    if trouble is not None:
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id(trouble.issue, entry.entry_id),
            data={
                "entry_id": entry.entry_id,
                "issue": trouble.issue,
                "subentry_id": None,
                "reason": trouble.reason,
            },
            is_fixable=True,
            severity=ir.IssueSeverity.ERROR,
            translation_key=trouble.issue,
            translation_placeholders={"community": entry.title, "reason": trouble.reason},
        )


def _told(trouble: NodeUnavailable) -> _Told:
    return {
        "translation_domain": DOMAIN,
        "translation_key": trouble.issue,
        "translation_placeholders": {"reason": trouble.reason},
    }


def _not_ready(trouble: NodeUnavailable) -> ConfigEntryNotReady:
    return ConfigEntryNotReady(**_told(trouble))
