"""Why the node does not mine or vote, as a few states that can be translated.

The node says it in one plain sentence; the sentence itself stays beside the state.
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

_SAID: Final = (
    ("computer's clock", CLOCK_WRONG),
    ("syncing", SYNCING),
    ("first peer", NO_PEER),
    ("key is not that of a node", NOT_A_NODE),
    ("journal does not know", OTHER_COPY),
    ("switched off", SWITCHED_OFF),
)


def block_of(reason: str | None) -> str:
    """Return the state for what the node says; None: nothing holds it back."""
    if reason is None:
        return ACTIVE
    return next((state for said, state in _SAID if said in reason), OTHER)
