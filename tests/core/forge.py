"""Blocks that no honest miner makes: any records, votes and header fields, with work and signature."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ledger_core.keys import Signer
from ledger_core.records.block import (
    HEADER_VERSION,
    NO_STATE_HASH,
    Block,
    BlockBody,
    Header,
    body_root,
    encode_block_body,
)
from ledger_core.records.codec import Record
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.assemble import seal, search_nonce
from ledger_core.rules.difficulty import expand_target, next_target
from ledger_core.rules.headers import is_checkpoint
from tests.core.world import World


def forge(
    world: World,
    records: Sequence[Record] = (),
    bundles: Sequence[VoteBundle] = (),
    *,
    step: int = 30,
    signer: Signer | None = None,
    **header: Any,
) -> Block:
    """Return the next block with these contents, whatever the rules say of them."""
    tip, parameters = world.state.tip, world.genesis.parameters
    key = signer or next(iter(world.homes.values())).node
    checkpoint = is_checkpoint(tip.height + 1, parameters.checkpoint_interval)
    made = Header(
        HEADER_VERSION,
        tip.height + 1,
        tip.hash,
        body_root(list(records), tuple(bundles)),
        len(records) + len(bundles),
        world.state.hash() if checkpoint else NO_STATE_HASH,
        world.now + step,
        next_target(parameters, world.genesis.created, tip.height, tip.times[-1]),
        key.public_key,
        0,
    )
    made = replace(made, **header)
    mined = search_nonce(made) if expand_target(made.target) else made
    assert mined is not None
    body = BlockBody(tuple(record.envelope for record in records), tuple(bundles))
    return seal(mined, encode_block_body(body), key)


@dataclass(frozen=True)
class Attempt:
    """Two records or blocks that differ in one thing: the rules take `good` and refuse `bad`."""

    world: World
    good: Record | Block
    bad: Record | Block
    later: int = 0
    """Seconds after the good record's block that a record is tried at, where time is what differs."""


type Make = Callable[[], Attempt]

CASES: dict[str, list[Make]] = {}
"""What gives each error code."""


def case(code: str) -> Callable[[Make], Make]:
    """Enter a function into the table under the code that its bad record or block gives."""

    def enter(make: Make) -> Make:
        CASES.setdefault(code, []).append(make)
        return make

    return enter


def by_field(code: str, stage: Callable[[], World], make: Callable[..., Record], **change: Any) -> None:
    """Enter a record with one field changed; a value that is callable is asked with the world."""

    def attempt() -> Attempt:
        world = stage()
        fields = {name: value(world) if callable(value) else value for name, value in change.items()}
        return Attempt(world, make(world), make(world, **fields))

    CASES.setdefault(code, []).append(attempt)
