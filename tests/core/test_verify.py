"""Verifying ahead of applying: in order, alone or with helpers, whatever fails and whoever stops."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from ledger_core.chain import shares as shares_module
from ledger_core.chain import verify as verify_module
from ledger_core.chain.pending import NodeKeys
from ledger_core.chain.shares import Helpers, Share, Window, shares_of
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import LedgerError, RecordError, RuleError
from ledger_core.records.block import Block
from ledger_core.rules.apply import apply_block
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import PreparedBlock, failing_checks, prepare_block
from tests.core.chains import LATER, grow
from tests.core.world import World, signer

WORKERS = [1, 2, 4]
BLOCKS = 60


@pytest.fixture(scope="module")
def world() -> World:
    return grow(World(("anna", "bert", "cleo")), BLOCKS)


@pytest.fixture(autouse=True)
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify 16 signatures ahead, so that a small chain fills the window many times."""
    monkeypatch.setattr(verify_module, "AHEAD_SIGNATURES", 16)
    monkeypatch.setattr(shares_module, "WAKE_SIGNATURES", 2)
    monkeypatch.setattr(shares_module, "SHARE_SIGNATURES", 2)


def forged(block: Block) -> Block:
    """The block with another miner's signature."""
    return replace(block, signature=signer("nobody").sign(b"something else"))


def pipeline(verifier: Verifier, world: World, blocks: list[Block]) -> Iterator[PreparedBlock]:
    nodes = NodeKeys(genesis_state(world.genesis).nodes)
    return verifier.pipeline(blocks, world.genesis, world.genesis.chain_id, nodes)


def taken(blocks: Iterator[PreparedBlock]) -> tuple[list[bytes], LedgerError | None]:
    """The hashes of what a pipeline yields, and what ends it."""
    hashes = []
    try:
        for prepared in blocks:
            assert prepared.verified
            hashes.append(prepared.hash)
    except LedgerError as error:
        return hashes, error
    return hashes, None


def some_checks(count: int) -> list[SignatureCheck]:
    key = signer("anna")
    return [(key.public_key, bytes([number]), key.sign(bytes([number]))) for number in range(count)]


@pytest.mark.parametrize("workers", WORKERS)
def test_blocks_come_out_in_order_and_apply(world: World, workers: int) -> None:
    state = genesis_state(world.genesis)
    with Verifier(workers) as verifier:
        nodes = NodeKeys(state.nodes)
        for prepared in verifier.pipeline(world.blocks, world.genesis, world.genesis.chain_id, nodes):
            assert prepared.verified
            apply_block(state, prepared, LATER)
    assert state.hash() == world.state.hash()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("at", [0, 1, 17, BLOCKS - 1])
def test_a_forged_block_ends_it_after_those_before(world: World, workers: int, at: int) -> None:
    blocks = [*world.blocks[:at], forged(world.blocks[at]), *world.blocks[at + 1 :]]
    with Verifier(workers) as verifier:
        hashes, error = taken(pipeline(verifier, world, blocks))
    assert isinstance(error, RuleError)
    assert error.code == "signature_invalid"
    assert hashes == [block.hash for block in world.blocks[:at]]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_malformed_block_ends_it_after_those_before(world: World, workers: int) -> None:
    blocks = [*world.blocks[:20], replace(world.blocks[20], body=b"\xc1"), *world.blocks[21:]]
    with Verifier(workers) as verifier:
        hashes, error = taken(pipeline(verifier, world, blocks))
    assert isinstance(error, RecordError)
    assert error.code == "block_malformed"
    assert hashes == [block.hash for block in world.blocks[:20]]


@pytest.mark.parametrize("workers", WORKERS)
def test_what_was_verified_once_is_not_verified_again(
    world: World, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SignatureCheck] = []

    def counted(checks: list[SignatureCheck]) -> list[SignatureCheck]:
        made.extend(checks)
        return failing_checks(checks)

    monkeypatch.setattr(verify_module, "failing_checks", counted)
    monkeypatch.setattr(shares_module, "failing_checks", counted)
    with Verifier(workers, SignatureCache(bytes(16))) as verifier:
        hashes, error = taken(pipeline(verifier, world, world.blocks))
        first = len(made)
        assert taken(pipeline(verifier, world, world.blocks)) == (hashes, error)
        assert (first, len(made)) == (len(set(made)), first)
        assert first > len(world.blocks)
        # A signature that failed is not remembered as a good one.
        for _ in range(2):
            assert taken(pipeline(verifier, world, [forged(world.blocks[0])]))[1] is not None


@pytest.mark.parametrize("workers", WORKERS)
def test_whoever_stops_early_leaves_no_thread_at_work(world: World, workers: int) -> None:
    with Verifier(workers) as verifier:
        blocks = pipeline(verifier, world, world.blocks)
        assert next(blocks).hash == world.blocks[0].hash
        blocks.close()  # type: ignore[attr-defined]
        assert taken(pipeline(verifier, world, world.blocks))[1] is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("verify")]


def test_a_pipeline_goes_on_alone_when_the_verifier_closes(world: World) -> None:
    verifier = Verifier(2)
    blocks = pipeline(verifier, world, world.blocks)
    first = next(blocks).hash
    verifier.close()
    rest, error = taken(blocks)
    assert error is None
    assert [first, *rest] == [block.hash for block in world.blocks]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_block_of_many_signatures_alone(
    world: World, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "WAKE_SIGNATURES", 2)
    block = next(block for block in world.blocks if len(block.body) > 200)
    nodes = NodeKeys(genesis_state(world.genesis).nodes)
    with Verifier(workers) as verifier:
        prepared = prepare_block(block, world.genesis, world.genesis.chain_id, nodes)
        assert len(prepared.checks) > 2
        verifier.verify(prepared)
        assert prepared.verified
        bad = prepare_block(forged(block), world.genesis, world.genesis.chain_id, nodes)
        with pytest.raises(RuleError) as refusal:
            verifier.verify(bad)
        assert refusal.value.code == "signature_invalid"
        assert not bad.verified


def test_two_pipelines_of_one_verifier_side_by_side(world: World) -> None:
    with Verifier(2) as verifier:
        first, second = (pipeline(verifier, world, world.blocks) for _ in range(2))
        for one, other, block in zip(first, second, world.blocks, strict=True):
            assert one.hash == other.hash == block.hash


def test_a_share_is_verified_by_one_thread_only() -> None:
    share = Share(some_checks(3))
    assert [share.done, share.run(), share.done, share.run()] == [False, True, True, False]
    share.wait()
    assert share.verdict() == []


def test_shares_hold_every_check_once_in_order() -> None:
    checks = some_checks(5)
    assert shares_of([]) == []
    assert [share.checks for share in shares_of(checks)] == [checks[:2], checks[2:4], checks[4:]]


def test_a_share_that_a_helper_failed_at_is_verified_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = some_checks(4)
    helper_failed = threading.Event()
    caller = threading.current_thread()

    def unreliable(given: list[SignatureCheck]) -> list[SignatureCheck]:
        if threading.current_thread() is not caller:
            helper_failed.set()
            raise MemoryError
        return failing_checks(given)

    monkeypatch.setattr(shares_module, "failing_checks", unreliable)
    with ThreadPoolExecutor(1) as pool:
        helpers = Helpers(pool, 1)
        share = Share(checks)
        helpers.put(share)
        assert helper_failed.wait(30)
        share.wait()
        assert share.verdict() == []
        helpers.join()


def test_the_caller_verifies_later_shares_while_a_helper_is_at_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper holds the first share until the caller has done all the others."""
    caller = threading.current_thread()
    at_it, go_on = threading.Event(), threading.Event()
    done_by_caller: list[SignatureCheck] = []

    def slow_helper(given: list[SignatureCheck]) -> list[SignatureCheck]:
        if threading.current_thread() is not caller:
            at_it.set()
            assert go_on.wait(30)
        else:
            done_by_caller.extend(given)
            if len(done_by_caller) == 4:
                go_on.set()
        return failing_checks(given)

    monkeypatch.setattr(shares_module, "failing_checks", slow_helper)
    nodes = NodeKeys(genesis_state(world.genesis).nodes)
    prepared = prepare_block(world.blocks[0], world.genesis, world.genesis.chain_id, nodes)
    checks = some_checks(6)
    with ThreadPoolExecutor(1) as pool:
        helpers = Helpers(pool, 1)
        window = Window(helpers)
        window.add(prepared, checks)
        assert at_it.wait(30)
        assert window.pop() == (prepared, checks, [])
        helpers.join()
    assert done_by_caller == checks[2:]
