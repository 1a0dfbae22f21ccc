"""Why the node does not mine or vote, as a few states that can be translated.

The node gives a code and one plain sentence; the sentence stays beside the state.
"""

from typing import Final

ACTIVE: Final = "active"
CLOCK_WRONG: Final = "clock_wrong"
SYNCING: Final = "syncing"
NO_PEER: Final = "no_peer"
NOT_A_NODE: Final = "not_a_node"
OTHER_COPY: Final = "other_copy"
SWITCHED_OFF: Final = "switched_off"
OTHER: Final = "other"

BLOCKS: Final = (ACTIVE, CLOCK_WRONG, SYNCING, NO_PEER, NOT_A_NODE, OTHER_COPY, SWITCHED_OFF, OTHER)


def block_of(code: str | None) -> str:
    """Return the state for the code of what holds the node back; None: nothing does."""
    if code is None:
        return ACTIVE
    return code if code in BLOCKS else OTHER
