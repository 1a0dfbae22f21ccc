"""What holds in every state, over random days: money, energy and power are kept; blocks can be taken back."""

from collections import defaultdict
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_core.community import MoneyMode
from ledger_core.errors import LedgerError
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.rows import TradeRow
from ledger_core.rules.state import State, load_snapshot
from tests.core.actions import SLOT, lines
from tests.core.attempts import attempt
from tests.core.forge import forge
from tests.core.strategies import PROFILE
from tests.core.street_life import Step, Street
from tests.core.world import World

LIFE = settings(PROFILE, max_examples=12)
"""A day is worth many examples: each has dozens of records."""

DAYS = st.randoms(use_true_random=False)
BLOCKS = 20


def contents(state: State) -> Mapping[str, Mapping[Any, Any]]:
    """Every table, also the indexes that the hash leaves out, and the remembered ids."""
    return {table.name: dict(table) for table in state.tables} | {"seen": dict(state.seen.items())}


def lived(random: Random) -> tuple[Street, list[Step]]:
    street = Street(random, voting=True)
    return street, [street.step() for _ in range(BLOCKS)]


@LIFE
@given(DAYS)
def test_undo_gives_back_every_row(random: Random) -> None:
    street = Street(random, voting=True)
    state = street.world.state
    for number in range(BLOCKS):
        before, known = state.hash(), contents(state)
        applied = street.step().applied
        after, changed = state.hash(), contents(state)
        state.undo(applied.undo)
        assert state.hash() == before
        assert contents(state) == known
        again = street.world.applied.pop()
        block = street.world.blocks.pop()
        redone = street.world.apply(block)
        assert state.hash() == after
        assert contents(state) == changed
        assert redone.events == again.events
        if number % 3 == 0:
            state.undo(state.decode_undo(state.encode_undo(redone.undo)))
            assert contents(state) == known
            assert state.hash() == before
            street.world.applied.pop()
            street.world.blocks.pop()
            street.world.apply(block)


@LIFE
@given(DAYS)
def test_whole_chain_undone_through_bytes_is_the_genesis(random: Random) -> None:
    street, _ = lived(random)
    state = street.world.state
    for applied in reversed(street.world.applied):
        state.undo(state.decode_undo(state.encode_undo(applied.undo)))
    fresh = genesis_state(street.world.genesis)
    assert contents(state) == contents(fresh)
    assert state.hash() == fresh.hash()


@LIFE
@given(DAYS)
def test_same_blocks_same_state_also_from_a_snapshot_and_shuffled_tables(random: Random) -> None:
    street, _ = lived(random)
    world = street.world
    twin = World(tuple(world.homes), world.genesis.parameters)
    middle = len(world.blocks) // 2
    for number, block in enumerate(world.blocks):
        if number == middle:
            twin.state = load_snapshot(twin.state.snapshot())
            for table in twin.state.tables:
                rows = list(table.items())
                random.shuffle(rows)
                table.clear()
                table.update(rows)
                table.touch()
        twin.now = world.now
        twin.apply(block)
    assert twin.state.hash() == world.state.hash()
    assert contents(twin.state) == contents(world.state)


@LIFE
@given(DAYS)
def test_money_energy_and_power_are_kept(random: Random) -> None:
    street = Street(random, voting=True)
    steps = []
    for _ in range(BLOCKS):
        steps.append(street.step())
        money_is_conserved_to_the_last_micro(street)
        booked_never_exceeds_rated(street)
    delivered_energy_was_exported_and_imported(street, steps)


def money_is_conserved_to_the_last_micro(street: Street) -> None:
    state, given_parameters = street.world.state, street.world.genesis.parameters
    credit = given_parameters.money_mode is MoneyMode.MUTUAL_CREDIT
    limit = given_parameters.credit_limit if credit else 0
    accounts = state.accounts.values()
    pending = sum(row.amount for row in state.fees.values())
    assert sum(row.balance for row in accounts) + pending == state.tip.issued
    held: dict[bytes, int] = defaultdict(int)
    for trade in state.trades.values():
        held[trade.buyer] += trade.held_buyer
        held[trade.seller] += trade.held_seller
    for waiting in state.waiting.values():
        held[waiting.author] += waiting.held
    assert {key: row.held for key, row in state.accounts.items() if row.held} == {
        key: amount for key, amount in held.items() if amount
    }
    assert all(row.held >= 0 and row.balance + limit >= row.held for row in accounts)


def delivered_energy_was_exported_and_imported(street: Street, steps: list[Step]) -> None:
    out: dict[tuple[bytes, int], int] = defaultdict(int)
    into: dict[tuple[bytes, int], int] = defaultdict(int)
    for step in steps:
        for line in lines(step.applied.events):
            assert 0 <= line.delivered_wh <= line.agreed_wh
            for share in (line.sent_wh, line.received_wh):
                assert share is None or line.delivered_wh <= share <= line.agreed_wh
            out[line.seller, line.slot_end] += line.delivered_wh
            into[line.buyer, line.slot_end] += line.delivered_wh
    for name, home in street.world.homes.items():
        for end in {slot_end for _, slot_end in (*out, *into)}:
            before, after = street.truth(name, end - SLOT), street.truth(name, end)
            assert out[home.id, end] <= after[1] - before[1]
            assert into[home.id, end] <= after[0] - before[0]
    wallets = street.world.state.energy.values()
    assert sum(row.sold_wh for row in wallets) == sum(row.bought_wh for row in wallets) == sum(out.values())


def booked_never_exceeds_rated(street: Street) -> None:
    state, now = street.world.state, street.world.now
    booked: dict[tuple[bytes, str, int], int] = defaultdict(int)
    for trade_id, trade in state.trades.items():
        for place, direction in places(trade):
            assert trade_id in state.booked[place, direction]
            for slot in range(trade.start, trade.end, SLOT):
                booked[place, direction, slot] += trade.watts
    for (place, _, slot), watts in booked.items():
        if slot + SLOT > now:
            assert watts <= state.assets[place].rating_w


def places(trade: TradeRow) -> tuple[tuple[bytes, str], ...]:
    return (trade.asset, "supply"), (trade.seller_meter, "export"), (trade.buyer_meter, "import")


def test_refused_block_leaves_no_trace() -> None:
    """A block whose last record the rules refuse, after records that they took."""
    refusals = 0
    for seed in range(3):
        street = Street(Random(seed))
        world = street.world
        for _ in range(BLOCKS):
            step = street.step()
            good = street.records()[:2]
            before, known = world.state.hash(), contents(world.state)
            for record in [record for record in step.tried if record.id in step.refused][:2]:
                error = attempt(world.apply, forge(world, [*good, record], step=0))
                if isinstance(error, LedgerError):
                    refusals += 1
                else:
                    before, known = world.state.hash(), contents(world.state)
                assert world.state.hash() == before
                assert contents(world.state) == known
    assert refusals > 20
