"""A further record kind is one module and one registration: this test is such a module."""

from typing import Annotated, ClassVar

import pytest
from msgspec import Meta

from ledger_core.errors import RuleError
from ledger_core.records import codec
from ledger_core.records.body import Body
from ledger_core.records.codec import Record, decode_body, encode_body, register_kind
from ledger_core.records.types import Role
from ledger_core.rules import apply, registry, state
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import Event
from ledger_core.rules.registry import register
from ledger_core.rules.rows import Row
from ledger_core.rules.state import FurtherTable, declare_table, load_snapshot
from tests.core.world import World


class Limit(Body, frozen=True, tag=200):
    """An operator limits what a feeder carries."""

    KIND: ClassVar[str] = "limit"

    feeder: Annotated[bytes, Meta(min_length=16, max_length=16)]
    watts: Annotated[int, Meta(ge=0)]


class LimitRow(Row, frozen=True):
    watts: int


class LimitSet(Event, frozen=True, tag="limit_set"):
    feeder: bytes
    watts: int


LIMITS = FurtherTable[bytes, LimitRow](200, "limits", bytes, LimitRow)


def apply_limit(ctx: Context, record: Record) -> None:
    body = body_of(record, Limit)
    ctx.require_role(body.author, Role.AUTHORITY)
    ctx.put(LIMITS.of(ctx.state), body.feeder, LimitRow(body.watts))
    ctx.events.append(LimitSet(body.feeder, body.watts))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a module does when it is imported; taken back after each test."""
    monkeypatch.setattr(codec, "_kinds", list(codec._kinds))
    monkeypatch.setattr(codec, "_decode_body", codec._decode_body)
    monkeypatch.setattr(state, "_further", list(state._further))
    monkeypatch.setattr(registry, "RULES", dict(registry.RULES))
    monkeypatch.setattr(apply, "RULES", registry.RULES)
    register(Limit, apply_limit)
    assert declare_table(200, "limits", bytes, LimitRow) == LIMITS


def test_a_new_kind_is_mined_undone_and_kept_in_snapshots() -> None:
    world = World()
    empty = world.state.hash()
    feeder = bytes(16)
    applied = world.mine(world.make(Limit, world["anna"].key, feeder=feeder, watts=5000))
    assert applied.events == [LimitSet(feeder, 5000)]
    assert load_snapshot(world.state.snapshot()).hash() == world.state.hash() != empty
    undo = world.state.encode_undo(applied.undo)
    world.state.undo(world.state.decode_undo(undo))
    assert world.state.hash() == empty
    assert not LIMITS.of(world.state)


def test_its_rule_refuses_like_any_other() -> None:
    world = World()
    with pytest.raises(RuleError) as refusal:
        world.mine(world.make(Limit, world["bert"].key, feeder=bytes(16), watts=1))
    assert refusal.value.code == "role_missing"


def test_its_bytes_are_canonical() -> None:
    world = World()
    body = world.body(Limit, world["anna"].key, feeder=bytes(16), watts=7)
    assert decode_body(encode_body(body)) == body


def test_numbers_are_given_once() -> None:
    class Other(Body, frozen=True, tag=200):
        """Another kind with the same number."""

    with pytest.raises(ValueError, match="200 is taken"):
        register_kind(Other)
    with pytest.raises(ValueError, match="200 is taken"):
        declare_table(200, "others", bytes, LimitRow)
