"""Verifying ahead of applying: in order, alone or with helpers, whatever fails and whoever stops."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import interpreters
from concurrent.futures import Future
from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.chain import helpers as helpers_module
from ledger_core.chain import verify as verify_module
from ledger_core.chain.helpers import Helpers, Verdict, failing_places
from ledger_core.chain.pending import NodeKeys
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import LedgerError, RecordError, RuleError
from ledger_core.keys import CRYPTO_OPEN_ADDRESS
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
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify a few signatures at once, so that a small chain has enough to do for all helpers."""
    monkeypatch.setattr(verify_module, "AHEAD_SIGNATURES", 16)
    monkeypatch.setattr(verify_module, "THREAD_SIGNATURES", 2)


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
    give = Helpers.give

    def counted(checks: list[SignatureCheck]) -> list[SignatureCheck]:
        made.extend(checks)
        return failing_checks(checks)

    def counted_batch(helpers: Helpers, batch: Sequence[SignatureCheck]) -> Verdict | None:
        made.extend(batch)
        return give(helpers, batch)

    monkeypatch.setattr(verify_module, "failing_checks", counted)
    monkeypatch.setattr(Helpers, "give", counted_batch)
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
    assert interpreters.list_all() == [interpreters.get_main()]


def test_a_pipeline_goes_on_alone_when_the_verifier_closes(world: World) -> None:
    verifier = Verifier(2)
    blocks = pipeline(verifier, world, world.blocks)
    first = next(blocks).hash
    verifier.close()
    rest, error = taken(blocks)
    assert error is None
    assert [first, *rest] == [block.hash for block in world.blocks]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_block_of_many_signatures_alone(world: World, workers: int) -> None:
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


def bad_checks() -> list[SignatureCheck]:
    """Signatures that are not valid, one for each reason."""
    key, message, signature = some_checks(1)[0]
    return [
        (signer("bert").public_key, message, signature),
        (key, b"another message", signature),
        (key, message, bytes(64)),
        (key[:-1], message, signature),
        (key + b"\0", message, signature),
        (b"", message, signature),
        (key, message, signature[:-1]),
        (key, message, b""),
        (key, signature[63:] + message, signature[:63]),
    ]


def test_a_helper_judges_as_the_caller_does() -> None:
    good, bad = some_checks(3), bad_checks()
    checks = [good[0], *bad, *good[1:]]
    assert failing_checks(checks) == bad
    helpers = Helpers(1)
    try:
        given = helpers.give(checks)
        assert given is not None
        assert given.result() == bad
        assert helpers.failing(checks) == bad
    finally:
        helpers.close()
    assert helpers.give(checks) is None
    assert helpers.failing(checks) == bad


@pytest.mark.parametrize("wrong", [None, 0, 1, 6, 9])
def test_what_is_verified_ahead_is_known_up_to_the_first_that_is_wrong(
    wrong: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "AHEAD_SIGNATURES", 4)
    checks = some_checks(10)
    if wrong is not None:
        key, message, _ = checks[wrong]
        checks[wrong] = (key, message, bytes(64))
    cache = SignatureCache(bytes(16))
    with Verifier(1, cache) as verifier:
        verifier.verify_ahead(checks)
        assert [check in cache for check in checks] == [
            wrong is None or place < wrong for place in range(len(checks))
        ]
        assert verifier.verify_signature(checks[-1]) == (wrong != len(checks) - 1)


def test_nothing_is_verified_ahead_where_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helpers, "failing_apart", None)
    with Verifier(1) as verifier:
        verifier.verify_ahead(some_checks(3))


def no_address(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(helpers_module, "CRYPTO_OPEN_ADDRESS", None)


def no_interpreter(patched: pytest.MonkeyPatch) -> None:
    def refuse() -> interpreters.Interpreter:
        raise interpreters.InterpreterError("interpreter creation failed")

    patched.setattr(interpreters, "create", refuse)


@pytest.mark.parametrize("without", [no_address, no_interpreter, lambda _patched: None])
def test_the_calling_thread_judges_alike_apart(
    without: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    good, bad = some_checks(3), bad_checks()
    helpers = Helpers(0)
    try:
        assert helpers.failing_apart([good[0], *bad, *good[1:]]) == bad
        assert helpers.failing_apart([]) == []
    finally:
        helpers.close()
    assert helpers.failing_apart([*bad, *good]) == bad
    assert interpreters.list_all() == [interpreters.get_main()]


def test_an_interpreter_at_work_is_closed_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helpers close while a thread is at a batch: its interpreter must not stay."""
    helpers = Helpers(0)
    call = interpreters.Interpreter.call

    def close_first(interpreter: interpreters.Interpreter, *arguments: Any) -> Any:
        helpers.close()
        return call(interpreter, *arguments)

    monkeypatch.setattr(interpreters.Interpreter, "call", close_first)
    assert helpers.failing_apart(some_checks(2)) == []
    assert interpreters.list_all() == [interpreters.get_main()]


def test_a_verifier_that_rests_keeps_no_interpreter_and_goes_on(world: World) -> None:
    with Verifier(2, SignatureCache(bytes(16))) as verifier:
        for _ in range(2):
            verifier.verify_ahead(some_checks(5))
            assert taken(pipeline(verifier, world, world.blocks))[1] is None
            verifier.cache = SignatureCache(bytes(16))
            assert len(interpreters.list_all()) > 1
            verifier.rest()
            assert interpreters.list_all() == [interpreters.get_main()]


def test_what_a_helper_runs_in_its_interpreter_judges_alike_here() -> None:
    address = CRYPTO_OPEN_ADDRESS
    assert address is not None
    good, bad = some_checks(3), bad_checks()
    assert failing_places(address, [good[0], *bad, *good[1:]]) == tuple(range(1, len(bad) + 1))


def test_a_batch_that_a_helper_failed_at_is_verified_by_the_caller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = []

    def no_memory() -> interpreters.Interpreter:
        failures.append(threading.current_thread())
        raise interpreters.InterpreterError("interpreter creation failed")

    monkeypatch.setattr(interpreters, "create", no_memory)
    with Verifier(2) as verifier:
        assert taken(pipeline(verifier, world, world.blocks))[1] is None
        forgery = [*world.blocks[:9], forged(world.blocks[9])]
        assert len(taken(pipeline(verifier, world, forgery))[0]) == 9
    assert failures
    assert threading.current_thread() not in failures


def test_without_libsodiums_address_the_caller_verifies_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers_module, "CRYPTO_OPEN_ADDRESS", None)
    with Verifier(2) as verifier:
        assert taken(pipeline(verifier, world, world.blocks)) == (
            [block.hash for block in world.blocks],
            None,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("verify")]


def test_the_caller_verifies_later_batches_while_a_helper_is_at_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper is done with the first batch only when the caller has done one that nobody was at."""
    given: list[Future[list[SignatureCheck]]] = []

    def slow(_helpers: Helpers, _batch: Sequence[SignatureCheck]) -> Verdict:
        verdict: Verdict = Future()
        verdict.set_running_or_notify_cancel()
        given.append(verdict)
        return verdict

    def here(checks: list[SignatureCheck]) -> list[SignatureCheck]:
        assert given
        for verdict in given:
            if not verdict.done():
                verdict.set_result([])
        return failing_checks(checks)

    monkeypatch.setattr(Helpers, "give", slow)
    monkeypatch.setattr(verify_module, "failing_checks", here)
    with Verifier(2) as verifier:
        assert taken(pipeline(verifier, world, world.blocks)) == (
            [block.hash for block in world.blocks],
            None,
        )
    assert len(given) > 2
