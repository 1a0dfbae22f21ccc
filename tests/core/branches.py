"""Branches of one street on which different homes vote, join and leave."""

from collections.abc import Sequence

from ledger_core.records.codec import Record
from tests.core.actions import member
from tests.core.chains import twin
from tests.core.world import World

STREET = ("anna", "bert", "cara", "dora", "emil", "fred", "gina", "hugo", "ida")


def grow(
    world: World, blocks: int, voters: Sequence[str], records: Sequence[Record] = (), step: int = 30
) -> World:
    """Mine blocks, the first with records; the voters vote for each checkpoint right after it."""
    for number in range(blocks):
        target, source = max(world.state.checkpoints), world.state.tip.justified
        wanted = target > source and bool(voters)
        bundles = world.votes(source, target, voters) if wanted else ()
        world.mine(*(records if number == 0 else ()), bundles=bundles, step=step)
    return world


def revoke(world: World, names: Sequence[str]) -> list[Record]:
    """The authority takes every role from homes."""
    return [member(world, world["anna"].key, world[name].id, roles=0) for name in names]


def lost_homes() -> tuple[World, World, World]:
    """Five of nine homes are gone for good and get revoked; cara mines more, cut off from the others."""
    base = grow(World(STREET), 12, STREET[:7])
    street, alone = twin(base), twin(base)
    grow(street, 12, ("anna", "bert", "dora"), revoke(street, STREET[4:]))
    grow(alone, 20, ("cara",), step=20)
    return base, street, alone


def coup(base: World) -> tuple[World, World]:
    """The street as it goes on, and a branch that the only authority keeps to herself.

    She revokes all others there, and finalises alone.
    """
    street, private = twin(base), twin(base)
    private._nonce += 1_000_000
    names = tuple(base.homes)
    grow(street, 10, names[1:])
    grow(private, 16, names[:1], revoke(private, names[1:]), step=15)
    return street, private
