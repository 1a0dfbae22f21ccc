"""Small chains for the tests of the store: final blocks, side branches, and what a store must equal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ledger_core.chain.chain import Chain
from ledger_core.chain.model import ChainStore
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.start import load_start
from ledger_core.chain.store.files import DATABASE
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.records.block import Block, decode_header
from ledger_core.records.codec import Record
from ledger_core.records.money import Transfer, TransferKind
from tests.core.world import World

LATER = 10**10
"""A clock far ahead of every block."""


def verifier() -> Verifier:
    """One worker that remembers what it verified."""
    return Verifier(1, SignatureCache(bytes(16)))


def pay(world: World, amount: int, source: str = "anna", target: str = "bert") -> Record:
    """A transfer, so that a block is not empty."""
    return world.make(
        Transfer,
        world[source].key,
        kind=TransferKind.PAY,
        to=world[target].id,
        amount=amount,
        reference=None,
    )


def grow(world: World, blocks: int, *, step: int = 30, records: bool = True, votes: bool = True) -> World:
    """Mine blocks; every home votes for each checkpoint right after it, so that the one before gets final."""
    for _ in range(blocks):
        height = world.state.tip.height
        target = height - height % 4
        wanted = votes and height % 4 == 1 and target > world.state.tip.justified
        bundles = world.votes(world.state.tip.justified, target) if wanted else ()
        world.mine(*([pay(world, height + 1)] if records else []), bundles=bundles, step=step)
    return world


def twin(world: World, blocks: int | None = None) -> World:
    """A world with the same first blocks, from which another branch can grow."""
    other = World(tuple(world.homes), world.genesis.parameters, world.genesis.created)
    for block in world.blocks[:blocks]:
        other.now = decode_header(block.header).time
        other.apply(block)
    other._nonce = world._nonce + 1_000_000
    return other


def fill(store: ChainStore, blocks: Iterable[Block]) -> Chain:
    """Feed blocks to the chain of a store one by one, as a node gets them."""
    chain = Chain.open(store, verifier())
    for block in blocks:
        chain.add_block(block, LATER)
    return chain


def state_hash(store: ChainStore) -> bytes:
    """The hash of the state that a start from this store reaches: its snapshot, and the blocks above."""
    return load_start(store).state.hash()


def assert_holds(store: SqliteStore, blocks: Sequence[Block], pruned: int = 0) -> None:
    """Every block of the active branch is there, byte by byte; below `pruned` its header."""
    assert store.tip() == (len(blocks), blocks[-1].hash)
    assert store.sealed_headers(1, len(blocks) + 1) == [(block.header, block.signature) for block in blocks]
    for height, block in enumerate(blocks, 1):
        assert store.block_at(height) == (block if height > pruned else None)


def flip(path: Path, offset: int, mask: int = 0xFF) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def database(directory: Path) -> Path:
    return directory / DATABASE
