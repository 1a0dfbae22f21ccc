"""Names that the whole integration shares."""

from typing import Final

DOMAIN: Final = "energy_ledger"

SUBENTRY_DEVICE: Final = "device"
SUBENTRY_SELL: Final = "sell"
SUBENTRY_BUY: Final = "buy"

# What a config entry's data holds. A node elsewhere has CONF_URL and CONF_TOKEN of Home Assistant besides;
# a node of our own has CONF_DIRECTORY.
CONF_CHAIN_ID: Final = "chain_id"
"""The community's chain id, hexadecimal."""
CONF_COMMUNITY: Final = "community"
"""The community's name."""
CONF_CURRENCY: Final = "currency"
CONF_HOME: Final = "home"
"""The home's address (el1...); its key lies in the key store under it."""
CONF_HOME_NAME: Final = "home_name"
CONF_DIRECTORY: Final = "directory"
"""Name of the node's data directory below `<config>/energy_ledger/`."""
CONF_INVITATION: Final = "invitation"
"""The invitation's text, kept until the home is a member."""

# What a config entry's options hold.
CONF_MINING: Final = "mining"
CONF_MINING_SHARE: Final = "mining_share"
"""Per cent of one core."""
CONF_PEERS: Final = "peers"
CONF_PEER_PORT: Final = "peer_port"
CONF_ADVERTISE: Final = "advertise"
CONF_DISCOVERY: Final = "discovery"
CONF_PEER_VIEW: Final = "peer_view"
CONF_LOG_LEVEL: Final = "log_level"

DEFAULT_MINING_SHARE: Final = 5
DEFAULT_PEER_PORT: Final = 7946
DEFAULT_LOG_LEVEL: Final = "info"

SIGNAL_EVENT: Final = f"{DOMAIN}_event"


def signal_event(entry_id: str) -> str:
    """Return the dispatcher's signal for an entry's events; the payload is an EventView."""
    return f"{SIGNAL_EVENT}_{entry_id}"


ISSUE_NODE_CANNOT_START: Final = "node_cannot_start"
ISSUE_NODE_VERSION_MISMATCH: Final = "node_version_mismatch"
ISSUE_INVITATION_REFUSED: Final = "invitation_refused"


def issue_id(issue: str, entry_id: str) -> str:
    """Return the id of a repair issue of one entry."""
    return f"{issue}_{entry_id}"
