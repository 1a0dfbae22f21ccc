"""The fork choice where branches differ in who counts: in any order of delivery, and after restarts."""

from collections.abc import Sequence
from itertools import permutations

from ledger_core.chain.chain import Chain
from ledger_core.errors import RuleError
from ledger_core.records.block import Block
from tests.core.actions import member
from tests.core.branches import STREET, coup, grow, lost_homes
from tests.core.chains import LATER, twin, verifier
from tests.core.memory_store import MemoryStore
from tests.core.world import HOUSEHOLD, Home, World


def deliver(chain: Chain, blocks: Sequence[Block]) -> None:
    for block in blocks:
        try:
            chain.add_block(block, LATER)
        except RuleError as refusal:
            if refusal.code != "below_final":
                raise


def ends(base: World, *branches: World) -> set[bytes]:
    """Where chains end that get the branches in any order, with and without a restart after each."""
    found = set()
    for order in permutations(branches):
        for restarts in (False, True):
            store = MemoryStore(base.genesis)
            chain = Chain.open(store, verifier())
            deliver(chain, base.blocks)
            for branch in order:
                if restarts:
                    chain = Chain.open(store, verifier())
                deliver(chain, branch.blocks[len(base.blocks) :])
            found.add(chain.tip_hash)
    return found


def test_whoever_was_cut_off_finds_back_to_a_street_that_revoked_lost_homes() -> None:
    base, street, alone = lost_homes()
    assert street.state.tip.final > base.state.tip.height
    assert alone.state.tip.justified < street.state.tip.justified
    assert alone.state.tip.height > street.state.tip.height
    assert ends(base, street, alone) == {street.state.tip.hash}


def test_few_votes_suffice_where_new_nodes_do_not_count_yet() -> None:
    """On one branch a checkpoint got final, so that six new nodes count; the other one goes on without."""
    old = STREET[:3]
    base = grow(World(old), 2, ())
    joins = [
        member(base, base["anna"].key, home.id, home.key, roles=HOUSEHOLD, node=home.node.public_key)
        for home in map(Home, STREET[3:])
    ]
    grow(base, 1, (), joins)
    grow(base, 5, old)
    early, late = twin(base), twin(base)
    grow(early, 5, old)
    grow(late, 4, (), step=31)
    grow(late, 1, old)
    assert sum(node.counts for node in early.state.nodes.values()) == 9
    assert sum(node.counts for node in late.state.nodes.values()) == 3
    assert (early.state.tip.final, early.state.tip.justified) == (4, 8)
    assert (late.state.tip.final, late.state.tip.justified) == (0, 12)
    assert ends(base, early, late) == {late.state.tip.hash}


def test_votes_from_before_a_restart_count_for_a_later_branch() -> None:
    names = STREET[:4]
    base = grow(World(names), 4, ())
    base.mine(bundles=base.votes(0, 4, names[:2]))
    longer, voted = twin(base), twin(base)
    grow(longer, 3, ())
    voted.mine(bundles=voted.votes(0, 4, names[2:3]), step=31)
    assert voted.state.tip.justified == 4
    assert ends(base, longer, voted) == {voted.state.tip.hash}


def test_a_few_votes_below_a_snapshot_do_not_take_the_tip_back_after_a_restart() -> None:
    names = STREET[:4]
    world = grow(World(names), 4, ())
    world.mine(bundles=world.votes(0, 4, names[:1]))
    grow(world, 20, ())
    store = MemoryStore(world.genesis)
    deliver(Chain.open(store, verifier()), world.blocks)
    assert store.snapshots()[0].height > 5
    chain = Chain.open(store, verifier())
    world.mine()
    deliver(chain, world.blocks[-1:])
    assert chain.tip_hash == world.state.tip.hash


# What finality does not promise: an authority that revokes nodes on a branch of its own


def test_an_authority_that_revoked_all_others_in_private_parts_the_street_for_good() -> None:
    """Both branches have final blocks, nobody signed two votes, each node keeps what it saw final first."""
    base = World(STREET[:4])
    street, private = coup(base)
    assert (street.state.tip.final, private.state.tip.final) == (4, 8)
    for first, second in ((street, private), (private, street)):
        store = MemoryStore(base.genesis)
        chain = Chain.open(store, verifier())
        deliver(chain, first.blocks)
        deliver(chain, second.blocks)
        assert chain.tip_hash == first.state.tip.hash
        assert chain.final_height == first.state.tip.final


def test_an_authority_that_revokes_all_others_undoes_what_is_not_final() -> None:
    """What it could do before all eyes as well: the rules call those nodes who are members of the branch."""
    base = grow(World(STREET[:4]), 10, STREET[:4])
    street, private = coup(base)
    street.blocks = street.blocks[:12]
    assert base.state.tip.final == 4
    assert ends(base, street, private) == {private.state.tip.hash}
