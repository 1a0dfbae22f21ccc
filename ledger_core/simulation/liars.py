"""Nodes that misbehave: an honest engine whose words are twisted on their way out."""

from collections.abc import Callable, Iterator
from random import Random

from msgspec.structs import replace

from ledger_core.keys import Signer
from ledger_core.node.messages import (
    BlockRef,
    Bodies,
    Compact,
    Inventory,
    Message,
    NewBlock,
    Parts,
    Ping,
    Pong,
    Status,
    Votes,
)
from ledger_core.records.codec import encode_body, record_message
from ledger_core.records.votes import Vote, VoteBundle

type Twist = Callable[[Message], Iterator[Message]]


class Liar:
    """Says what an honest engine says, for a start."""

    kind = "honest"

    def __init__(self, random: Random) -> None:
        self._random = random

    def twist(self, message: Message) -> Iterator[Message]:
        """Yield what leaves instead of a message."""
        yield message


class Boaster(Liar):
    """Claims a chain that is higher and more widely voted for than it is."""

    kind = "boaster"

    def twist(self, message: Message) -> Iterator[Message]:
        """Raise what is claimed."""
        if isinstance(message, Ping | Pong):
            yield replace(message, status=self._boast(message.status))
        elif isinstance(message, NewBlock):
            yield replace(message, justified=message.justified + 3000)
        else:
            yield message

    def _boast(self, status: Status) -> Status:
        tip = BlockRef(status.tip.height + 5000, self._random.randbytes(32))
        return replace(status, tip=tip, justified=status.justified + 3000)


class Withholder(Liar):
    """Announces blocks and gives no bodies."""

    kind = "withholder"

    def twist(self, message: Message) -> Iterator[Message]:
        """Keep every body back."""
        if not isinstance(message, Bodies | Compact | Parts):
            yield message


class Flooder(Liar):
    """Announces records that do not exist, many for each true word."""

    kind = "flooder"

    def twist(self, message: Message) -> Iterator[Message]:
        """Add noise."""
        yield message
        for _ in range(5):
            yield Inventory(tuple(self._random.randbytes(32) for _ in range(20)))


class Forger(Liar):
    """Changes signatures of the votes that it passes on, and bodies of the blocks that it gives."""

    kind = "forger"

    def twist(self, message: Message) -> Iterator[Message]:
        """Change a byte in every vote and every body."""
        if isinstance(message, Votes):
            bundles = tuple(replace(each, votes=_changed(each.votes)) for each in message.bundles)
            yield Votes(bundles)
        elif isinstance(message, Bodies):
            yield Bodies(
                tuple(
                    replace(each, body=None if each.body is None else _changed(each.body))
                    for each in message.bodies
                )
            )
        else:
            yield message


class Equivocator(Liar):
    """Signs a second vote for every checkpoint that it votes for."""

    kind = "equivocator"

    def second_vote(
        self, vote: Vote, source: tuple[int, bytes], index: int, signer: Signer, chain_id: bytes
    ) -> Votes | None:
        """Return a vote for the same target from another justified source; None where there is none."""
        if source == (vote.source_height, vote.source_hash):
            return None
        second = replace(vote, source_height=source[0], source_hash=source[1])
        signature = signer.sign(record_message(chain_id, encode_body(second)))
        return Votes(
            (
                VoteBundle(
                    vote.created,
                    source[0],
                    source[1],
                    vote.target_height,
                    vote.target_hash,
                    index.to_bytes(2) + signature,
                ),
            )
        )


KINDS: tuple[type[Liar], ...] = (Boaster, Withholder, Flooder, Forger, Equivocator)


def _changed(data: bytes) -> bytes:
    """Return the same bytes with the last one changed."""
    return data[:-1] + bytes((data[-1] ^ 1,))
