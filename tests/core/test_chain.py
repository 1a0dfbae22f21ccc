"""The chain: branches, switches, refusals, restarts, failures of the store."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from ledger_core.chain.chain import Chain
from ledger_core.chain.proofs import check_inclusion, prove_inclusion
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError, RuleError
from ledger_core.records.block import Block, decode_header
from ledger_core.records.codec import Record
from ledger_core.records.members import Member
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.rules.assemble import assemble, seal, search_nonce
from tests.core.attempts import code_of
from tests.core.forge import forge
from tests.core.memory_store import MemoryStore
from tests.core.world import HOUSEHOLD, World, signer


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    with Verifier(2, SignatureCache(bytes(16))) as made:
        yield made


def pay(world: World, source: str, target: str, amount: int) -> Record:
    return world.make(
        Transfer,
        world[source].key,
        kind=TransferKind.PAY,
        to=world[target].id,
        amount=amount,
        reference=None,
    )


def twin(world: World) -> World:
    """A second branch from where the first one stands."""
    other = World(tuple(world.homes), world.genesis.parameters, world.genesis.created)
    for block in world.blocks:
        other.now = decode_header(block.header).time
        other.apply(block)
    other._nonce = world._nonce + 1_000_000
    return other


def feed(chain: Chain, blocks: list[Block], now: int) -> None:
    for block in blocks:
        chain.add_block(block, now)


def test_follows_the_branch_with_more_work(verifier: Verifier) -> None:
    world = World()
    for _ in range(2):
        world.mine()
    other = twin(world)
    world.mine(pay(world, "anna", "bert", 5))
    other.mine(step=31)
    other.mine(pay(other, "bert", "cara", 7))
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    feed(chain, world.blocks, world.now)
    assert chain.tip_hash == world.state.tip.hash
    assert chain.add_block(other.blocks[2], other.now).status == "side"
    outcome = chain.add_block(other.blocks[3], other.now)
    assert outcome.status == "tip"
    assert list(outcome.disconnected) == [world.state.tip.hash]
    assert [step.height for step in outcome.connected] == [3, 4]
    assert chain.state.hash() == other.state.hash()
    assert chain.add_block(world.blocks[2], other.now).status == "known"


def test_orphans_wait_for_their_parent(verifier: Verifier) -> None:
    world = World()
    for _ in range(4):
        world.mine()
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    assert [chain.add_block(block, world.now).status for block in world.blocks[:0:-1]] == ["orphan"] * 3
    assert chain.add_block(world.blocks[0], world.now).status == "tip"
    assert chain.tip_hash == world.state.tip.hash


def test_a_batch_brings_the_parent_that_others_wait_for(verifier: Verifier) -> None:
    world = World()
    for _ in range(6):
        world.mine()
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    assert chain.add_block(world.blocks[4], world.now).status == "orphan"
    assert chain.add_blocks(world.blocks[:4], world.now) == 4
    assert chain.height == 5
    assert chain.add_blocks(world.blocks, world.now) == 1
    assert chain.state.hash() == world.state.hash()


def test_equal_work_keeps_what_was_seen_first(verifier: Verifier) -> None:
    world = World()
    other = twin(world)
    world.mine()
    other.mine(step=31)
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    feed(chain, [*world.blocks, *other.blocks], other.now)
    assert chain.tip_hash == world.state.tip.hash


def test_more_votes_beat_more_work(verifier: Verifier) -> None:
    world = World()
    for _ in range(5):
        world.mine()
    other = twin(world)
    world.mine(bundles=world.votes(0, 4))
    for step in (31, 30, 30):
        other.mine(step=step)
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    feed(chain, other.blocks, other.now)
    assert chain.tip_hash == other.state.tip.hash
    assert chain.add_block(world.blocks[-1], other.now).status == "tip"
    assert chain.tip_hash == world.state.tip.hash
    assert chain.state.tip.justified == 4


def test_final_blocks_stay_whatever_the_work(verifier: Verifier) -> None:
    world = World()
    for _ in range(3):
        world.mine()
    other = twin(world)
    while world.state.tip.final < 4:
        height = world.state.tip.height
        target = height - height % 4
        bundles = world.votes(target - 4, target) if height % 4 == 1 and target > 0 else ()
        world.mine(bundles=bundles)
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    feed(chain, world.blocks, world.now)
    assert chain.final_height == 4
    assert store.final()[0] == 4
    for _ in range(40):
        other.mine(step=1)
    with pytest.raises(RuleError) as refusal:
        chain.add_block(other.blocks[3], other.now)
    assert refusal.value.code == "below_final"
    for block in other.blocks[4:]:
        assert chain.add_block(block, other.now).status == "orphan"
    assert chain.tip_hash == world.state.tip.hash


def test_a_refused_block_leaves_nothing_behind(verifier: Verifier) -> None:
    world = World()
    world.mine()
    bad = twin(world)
    # The second branch's author believes in a higher credit limit than the community has.
    bad.state.parameters = replace(bad.state.parameters, credit_limit=10**12)
    bad.mine(pay(bad, "anna", "bert", 10**11))
    bad.mine()
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    feed(chain, world.blocks, world.now)
    before = chain.state.hash()
    with pytest.raises(RuleError) as refusal:
        chain.add_block(bad.blocks[1], bad.now)
    assert refusal.value.code == "funds_insufficient"
    assert chain.state.hash() == before
    assert chain.tip_hash == world.state.tip.hash
    assert store.commits == 1


def test_switch_to_a_bad_branch_goes_back(verifier: Verifier) -> None:
    world = World()
    world.mine()
    bad = twin(world)
    world.mine()
    bad.mine(step=31)
    bad.state.parameters = replace(bad.state.parameters, credit_limit=10**12)
    bad.mine(pay(bad, "anna", "bert", 10**11))
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    feed(chain, [*world.blocks, bad.blocks[1]], world.now)
    before = chain.state.hash()
    with pytest.raises(RuleError) as refusal:
        chain.add_block(bad.blocks[2], bad.now)
    assert refusal.value.code == "funds_insufficient"
    assert (chain.tip_hash, chain.state.hash()) == (world.state.tip.hash, before)
    world.mine()
    assert chain.add_block(world.blocks[-1], world.now).status == "tip"


def test_blocks_on_a_refused_one_are_refused_also_after_a_restart(verifier: Verifier) -> None:
    world = World()
    world.mine()
    bad = twin(world)
    world.mine()
    bad.state.parameters = replace(bad.state.parameters, credit_limit=10**12)
    bad.mine(pay(bad, "anna", "bert", 10**11), step=31)
    bad.mine()
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    feed(chain, world.blocks, world.now)
    # No better than what is here, it is kept unseen; the one on top leads to it.
    assert chain.add_block(bad.blocks[1], bad.now).status == "side"
    for _ in range(2):
        assert code_of(chain.add_block, bad.blocks[2], bad.now) == "parent_invalid"
        assert chain.tip_hash == world.state.tip.hash
        chain = Chain.open(store, verifier)


def test_a_full_disk_changes_nothing_and_the_block_may_come_again(verifier: Verifier) -> None:
    world = World()
    world.mine()
    other = twin(world)
    world.mine()
    other.mine(step=31)
    other.mine()
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    feed(chain, [*world.blocks, other.blocks[1]], other.now)
    before = chain.state.hash(), chain.tip_hash
    store.fail_next = True
    with pytest.raises(ChainError, match="no room"):
        chain.add_block(other.blocks[2], other.now)
    assert (chain.state.hash(), chain.tip_hash) == before
    assert chain.add_block(other.blocks[2], other.now).status == "tip"
    assert chain.state.hash() == other.state.hash()


def test_restart_gives_the_same_chain(verifier: Verifier) -> None:
    world = World()
    store = MemoryStore(world.genesis)
    chain = Chain.open(store, verifier)
    for _ in range(50):
        height = world.state.tip.height
        target = height - height % 4
        bundles = world.votes(target - 4, target) if height % 4 == 3 and target > 0 else ()
        world.mine(bundles=bundles)
        chain.add_block(world.blocks[-1], world.now)
    other = twin(world)
    world.mine()
    other.mine(step=31)
    feed(chain, [world.blocks[-1], other.blocks[-1]], other.now)
    again = Chain.open(store, verifier)
    assert again.state.hash() == chain.state.hash() == world.state.hash()
    assert again.final_height == chain.final_height > 0
    assert len(again.index) == len(chain.index)
    assert store.snapshots()
    other.mine()
    assert again.add_block(other.blocks[-1], other.now).status == "tip"
    assert again.state.hash() == other.state.hash()


def test_sync_of_many_blocks(verifier: Verifier) -> None:
    world = World()
    for number in range(60):
        height = world.state.tip.height
        target = height - height % 4
        bundles = world.votes(target - 4, target) if height % 4 == 3 and target > 0 else ()
        world.mine(pay(world, "anna", "bert", number + 1), bundles=bundles)
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    told: list[int] = []
    assert chain.add_blocks(iter(world.blocks), world.now, told.append) == 60
    assert told[-1] == 60
    assert chain.state.hash() == world.state.hash()
    assert chain.final_height == world.state.tip.final > 0


def test_sync_stops_at_the_first_bad_block(verifier: Verifier) -> None:
    world = World()
    for number in range(30):
        world.mine(pay(world, "anna", "bert", number + 1))
    forged = world.blocks[20]
    forged = Block(forged.header, bytes(64), forged.body)
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    with pytest.raises(RuleError) as refusal:
        chain.add_blocks([*world.blocks[:20], forged, *world.blocks[21:]], world.now)
    assert refusal.value.code == "signature_invalid"
    assert chain.height == 20
    assert chain.add_blocks(world.blocks, world.now) == 10
    assert chain.state.hash() == world.state.hash()


def test_an_outsiders_block_is_refused_whatever_its_work(verifier: Verifier) -> None:
    world = World()
    stranger = World(("anna", "bert", "cara", "dora"), world.genesis.parameters, world.genesis.created)
    world.mine()
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    feed(chain, world.blocks, world.now)
    key = stranger["dora"].node
    template = assemble(world.state, (), (), key.public_key, world.now + 30)
    header = search_nonce(template.header)
    assert header is not None
    with pytest.raises(RuleError) as refusal:
        chain.add_block(seal(header, template.body, key), world.now + 30)
    assert refusal.value.code == "miner_not_node"


def test_a_block_ahead_of_the_clock_may_come_again(verifier: Verifier) -> None:
    world = World()
    world.mine(step=500)
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    with pytest.raises(RuleError) as refusal:
        chain.add_block(world.blocks[0], world.now - 121)
    assert refusal.value.code == "time_too_new"
    assert chain.add_block(world.blocks[0], world.now - 120).status == "tip"


def test_inclusion_proof_and_its_forgeries(verifier: Verifier) -> None:
    world = World()
    records = [pay(world, "anna", "bert", number + 1) for number in range(7)]
    world.mine(*records)
    block = world.blocks[-1]
    for record in records:
        proof = prove_inclusion(block, world.chain_id, record.id)
        assert check_inclusion(proof, world.chain_id, block.hash) == record.id
        moved = replace(proof, index=(proof.index + 1) % 7)
        assert code_of(check_inclusion, proof, world.chain_id, bytes(32)) == "proof_invalid"
        assert code_of(check_inclusion, moved, world.chain_id, block.hash) == "proof_invalid"
    assert code_of(prove_inclusion, block, world.chain_id, bytes(32)) == "record_not_in_block"


def change_node(world: World, name: str = "bert") -> None:
    home = world[name]
    node = signer(f"{name}'s new node").public_key
    world.mine(
        world.make(
            Member,
            home.key,
            member=home.id,
            roles=HOUSEHOLD,
            node=node,
            name_hash=bytes(32),
            location=None,
            invitation=None,
        )
    )


def test_votes_count_with_the_keys_of_their_own_branch(verifier: Verifier) -> None:
    """A node's new key on one branch makes no vote of the other branch invalid."""
    world = World()
    for _ in range(4):
        world.mine()
    other = twin(world)
    change_node(world)
    other.mine(bundles=other.votes(0, 4), step=31)
    other.mine()
    chain = Chain.open(MemoryStore(world.genesis), verifier)
    feed(chain, world.blocks, world.now)
    assert chain.add_block(other.blocks[4], other.now).status == "tip"
    assert chain.add_block(other.blocks[5], other.now).status == "tip"
    assert chain.state.hash() == other.state.hash()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_may_hold_a_new_key_and_its_votes(workers: int) -> None:
    world = World(tuple(f"home {number}" for number in range(40)))
    for _ in range(4):
        world.mine()
    change_node(world, "home 3")
    world.homes["home 3"].node = signer("home 3's new node")
    for _ in range(2):
        world.mine()
    world.mine(bundles=world.votes(0, 4))
    world.mine()
    with Verifier(workers) as verifier:
        chain = Chain.open(MemoryStore(world.genesis), verifier)
        assert chain.add_blocks(world.blocks, world.now) == len(world.blocks)
        assert chain.state.hash() == world.state.hash()


def test_a_forged_vote_is_refused_in_a_batch_and_alone(verifier: Verifier) -> None:
    world = World()
    for _ in range(5):
        world.mine()
    (bundle,) = world.votes(0, 4)
    forged = replace(bundle, votes=bundle.votes[:-1] + bytes([bundle.votes[-1] ^ 1]))
    block = forge(world, bundles=(forged,))
    for add in (add_alone, add_in_a_batch):
        chain = Chain.open(MemoryStore(world.genesis), verifier)
        feed(chain, world.blocks, world.now)
        with pytest.raises(RuleError) as refusal:
            add(chain, block, world.now + 60)
        assert refusal.value.code == "signature_invalid"
        assert chain.tip_hash == world.state.tip.hash


def add_alone(chain: Chain, block: Block, now: int) -> None:
    chain.add_block(block, now)


def add_in_a_batch(chain: Chain, block: Block, now: int) -> None:
    chain.add_blocks([block], now)
