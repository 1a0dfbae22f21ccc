"""Golden bytes of headers, blocks, vote bundles, the state and its hash."""

from ledger_core.records.block import (
    EMPTY_BODY,
    decode_block,
    decode_block_body,
    decode_header,
    encode_block,
    header_hash,
    miner_message,
)
from ledger_core.records.merkle import leaf_hash, merkle_branch, merkle_root
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.state import load_snapshot
from tests.core import golden
from tests.core.samples import digest
from tests.core.scenario import eventful_world
from tests.core.world import World


def test_story_fills_every_table() -> None:
    state = eventful_world().state
    assert [table.name for table in state.tables if not table] == []


def test_block_bytes() -> None:
    world = eventful_world()
    block = next(block for block in world.blocks if decode_block_body(block.body).votes)
    parts = {
        "header": block.header,
        "block hash": header_hash(block.header),
        "what the miner signs": miner_message(block.hash),
        "body": block.body,
        "block": encode_block(block),
        "empty body": EMPTY_BODY,
    }
    golden.check("block", parts)


def test_golden_block_still_applies() -> None:
    """The block of the story, read from its bytes, is the one that the rules took."""
    parts = golden.read("block")
    block = decode_block(parts["block"])
    assert (block.header, block.body, block.hash) == (parts["header"], parts["body"], parts["block hash"])
    story = eventful_world()
    world = World(parameters=story.genesis.parameters)
    header = decode_header(block.header)
    for earlier in story.blocks[: header.height]:
        world.now = decode_header(earlier.header).time
        world.apply(earlier)
    assert world.blocks[-1] == block
    assert world.state.tip.hash == parts["block hash"]


def test_vote_bundle_bytes() -> None:
    world = World()
    for _ in range(4):
        world.mine()
    (bundle,) = world.votes(0, 4)
    votes = bundle.votes
    expected = VoteBundle(
        world.state.checkpoints[4].time, 0, world.chain_id, 4, world.state.checkpoints[4].hash, votes
    )
    assert bundle == expected
    block = world.block(bundles=(bundle,))
    golden.check("vote-bundle", {"body with one bundle": block.body, "votes": votes})


def test_merkle_bytes() -> None:
    leaves = [leaf_hash(digest(f"leaf {number}")) for number in range(5)]
    parts = {f"root of {count}": merkle_root(leaves[:count]) for count in range(6)}
    parts["branch of leaf 2 of 5"] = b"".join(merkle_branch(leaves, 2))
    golden.check("merkle", parts)


def test_state_bytes() -> None:
    world = eventful_world()
    state = world.state
    parts = {"hash of the genesis state": genesis_state(world.genesis).hash(), "state hash": state.hash()}
    parts |= {f"digest of {table.name}": table.digest() for table in state.tables if table.hashed}
    parts["digest of seen ids"] = state.seen.digest()
    parts["snapshot"] = state.snapshot()
    parts["undo"] = state.encode_undo(world.applied[-1].undo)
    golden.check("state", parts)


def test_golden_snapshot_still_reads() -> None:
    parts = golden.read("state")
    state = load_snapshot(parts["snapshot"])
    assert state.hash() == parts["state hash"]
    state.undo(state.decode_undo(parts["undo"]))
    story = eventful_world()
    story.state.undo(story.applied[-1].undo)
    assert state.hash() == story.state.hash()
