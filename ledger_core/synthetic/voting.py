"""Every node's votes for the checkpoints (Casper FFG)."""

from functools import partial

from ledger_core.records.codec import encode_body
from ledger_core.records.votes import VOTE_NONCE, Vote
from ledger_core.rules.state import State
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.street import Street

DEPTH = 3
"""Blocks on a checkpoint before a node votes for it."""

ABSENT_PERMILLE = 10
"""Votes that a node misses."""


class Voting:
    """Plans the votes once a checkpoint lies deep enough."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._chance = street.chance.child("votes")
        self._last_target: dict[int, int] = {}

    def after_block(self, state: State, time: int) -> None:
        """Have every node vote when a checkpoint has just got its third block."""
        target = state.tip.height - DEPTH
        if target <= 0 or target % state.parameters.checkpoint_interval:
            return
        for index in sorted(state.nodes):
            if not self._chance.permille(ABSENT_PERMILLE):
                home = self._street.by_node[state.nodes[index].key]
                delay = self._chance.below(2 * self._street.config.spacing_s)
                self._street.agenda.at(time + delay, partial(self._vote, home, target))

    def _vote(self, home: Home, target: int, desk: Desk) -> None:
        """Vote from the highest justified checkpoint; never twice for a target, never backwards."""
        state = desk.state
        source = state.tip.justified
        if target <= max(source, self._last_target.get(home.index, 0)):
            return
        self._last_target[home.index] = target
        checkpoints = state.checkpoints
        vote = Vote(
            home.node.public_key,
            checkpoints[target].time,
            VOTE_NONCE,
            source,
            checkpoints[source].hash,
            target,
            checkpoints[target].hash,
        )
        desk.vote((vote, home.node.sign(self._street.prefix + encode_body(vote))))
