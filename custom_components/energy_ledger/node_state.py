"""Why the node does not mine or vote, as a few states that can be translated.

The node gives a code and one plain sentence; the sentence stays beside the state.
"""

from typing import Final

ACTIVE: Final = "active"
CLOCK_WRONG: Final = "clock_wrong"
DISK_FULL: Final = "disk_full"
SYNCING: Final = "syncing"
NO_PEER: Final = "no_peer"
NOT_A_NODE: Final = "not_a_node"
OTHER_COPY: Final = "other_copy"
SWITCHED_OFF: Final = "switched_off"
WATCHING: Final = "watching"
OTHER: Final = "other"
"""A code that a newer node gives and we don't know."""

MINING_STATES: Final = (ACTIVE, CLOCK_WRONG, DISK_FULL, SYNCING, NO_PEER, NOT_A_NODE, SWITCHED_OFF, OTHER)
VOTING_STATES: Final = (
    ACTIVE,
    CLOCK_WRONG,
    SYNCING,
    NO_PEER,
    NOT_A_NODE,
    OTHER_COPY,
    SWITCHED_OFF,
    WATCHING,
    OTHER,
)


def mining_state(code: str | None) -> str:
    """Return the state for the code of what keeps the node from mining; None: nothing does."""
    return _state(code, MINING_STATES)


def voting_state(code: str | None) -> str:
    """Return the state for the code of what keeps the node from voting; None: nothing does."""
    return _state(code, VOTING_STATES)


def _state(code: str | None, states: tuple[str, ...]) -> str:
    if code is None:
        return ACTIVE
    return code if code in states else OTHER
