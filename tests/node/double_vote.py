"""What a node tells that saw another one vote in two ways."""

from ledger_core.node.engine.outputs import Equivocation
from ledger_core.records.codec import encode_body, record_message
from ledger_core.records.votes import VOTE_NONCE, Vote
from tests.core.world import World


def seen(world: World, name: str, *, lie: bytes = bytes(32)) -> Equivocation:
    """Return the event: two votes of a home's node for one height."""
    signer = world[name].node

    def vote(target: bytes) -> tuple[Vote, bytes]:
        made = Vote(signer.public_key, world.now, VOTE_NONCE, 0, world.chain_id, 4, target)
        return made, signer.sign(record_message(world.chain_id, encode_body(made)))

    first, second = vote(bytes([1]) * 32), vote(lie)
    return Equivocation(signer.public_key, *first, *second)
