"""The state: snapshots, their damage, undo data, and a hash that no order of rows can change."""

import random
from typing import Any

import msgspec
import pytest

from ledger_core.errors import ChainError
from ledger_core.rules.state import State, load_snapshot
from tests.core.attempts import attempt, code_of
from tests.core.scenario import eventful_world


@pytest.fixture(scope="module")
def state() -> State:
    return eventful_world().state


def tables(state: State) -> dict[str, dict[Any, Any]]:
    return {table.name: dict(table) for table in state.tables}


def test_snapshot_gives_back_every_table_and_index(state: State) -> None:
    twin = load_snapshot(state.snapshot())
    assert twin.hash() == state.hash()
    assert tables(twin) == tables(state)
    assert twin.snapshot() == state.snapshot()
    assert twin.seen.items() == state.seen.items()


def test_copy_is_independent(state: State) -> None:
    twin = state.copy()
    assert twin.hash() == state.hash()
    twin.accounts.clear()
    twin.accounts.touch()
    assert twin.hash() != state.hash()
    assert state.accounts


@pytest.mark.parametrize("seed", range(3))
def test_hash_does_not_depend_on_the_order_of_rows(state: State, seed: int) -> None:
    twin = state.copy()
    for table in twin.tables:
        items = list(table.items())
        random.Random(seed).shuffle(items)
        table.clear()
        table.update(items)
        table.touch()
    assert twin.hash() == state.hash()
    assert twin.snapshot() == state.snapshot()


def test_every_row_counts_for_the_hash(state: State) -> None:
    for table in state.tables:
        if not table.hashed:
            continue
        twin = state.copy()
        mine = next(other for other in twin.tables if other.number == table.number)
        mine.pop(next(iter(mine)))
        mine.touch()
        assert twin.hash() != state.hash(), table.name


def test_damaged_snapshot_is_refused_or_shows_in_the_hash(state: State) -> None:
    """A flipped bit gives a clear error, or a state that no header's state hash proves."""
    data = state.snapshot()
    chosen = random.Random(1)
    errors = 0
    for _ in range(300):
        flipped = bytearray(data)
        flipped[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        twin = attempt(load_snapshot, bytes(flipped))
        if isinstance(twin, State):
            assert twin.hash() != state.hash()
        else:
            errors += 1
            assert twin.code in {"snapshot_damaged", "snapshot_version"}
    assert errors


@pytest.mark.parametrize("cut", [0, 1, 100, 2_000])
def test_truncated_snapshot(state: State, cut: int) -> None:
    with pytest.raises(ChainError) as refused:
        load_snapshot(state.snapshot()[:cut])
    assert refused.value.code == "snapshot_damaged"


def test_snapshot_of_another_version(state: State) -> None:
    parts = msgspec.msgpack.decode(state.snapshot())
    parts[0] = 99
    with pytest.raises(ChainError) as refused:
        load_snapshot(msgspec.msgpack.encode(parts))
    assert refused.value.code == "snapshot_version"


def test_snapshot_with_another_genesis_is_damaged(state: State) -> None:
    parts = msgspec.msgpack.decode(state.snapshot())
    parts[1] = parts[1] + b"\0"
    with pytest.raises(ChainError) as refused:
        load_snapshot(msgspec.msgpack.encode(parts))
    assert refused.value.code == "snapshot_damaged"


def test_undo_data_survives_its_bytes() -> None:
    world = eventful_world()
    state = world.state
    for applied in reversed(world.applied):
        state.undo(state.decode_undo(state.encode_undo(applied.undo)))
    fresh = State(world.genesis)
    assert state.tip.height == 0
    assert not state.seen.items()
    assert tables(state)["trades"] == tables(fresh)["trades"]


def test_text_that_is_no_utf_8_in_undo_data(state: State) -> None:
    text = msgspec.msgpack.encode(([(12, (bytes(32), "gas"), None)], [], [])).replace(b"gas", b"g\xffs")
    with pytest.raises(ChainError) as refused:
        state.decode_undo(text)
    assert refused.value.code == "undo_damaged"


@pytest.mark.parametrize("damage", [b"", b"\x93", b"\xff" * 10, b"\x93\x91\x93\xcc\xc8\xc0\xc0\x90\x90"])
def test_damaged_undo_data(state: State, damage: bytes) -> None:
    with pytest.raises(ChainError) as refused:
        state.decode_undo(damage)
    assert refused.value.code == "undo_damaged"


def test_a_bit_of_undo_data_never_raises_anything_else() -> None:
    world = eventful_world()
    data = world.state.encode_undo(world.applied[-2].undo)
    chosen = random.Random(2)
    for _ in range(300):
        flipped = bytearray(data)
        flipped[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        assert code_of(world.state.decode_undo, bytes(flipped)) in {"", "undo_damaged"}
