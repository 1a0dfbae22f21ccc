"""What homes do, in one call each: records with defaults that suit the tests' small street."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from ledger_core.community import Parameters
from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.codec import Record
from ledger_core.records.members import Invitation, Member
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.offers import Offer, Withdrawal
from ledger_core.records.trades import Score, Termination
from ledger_core.records.types import AssetKind, Basis, Carrier, Side
from ledger_core.rules.events import Event, SlotSettled
from ledger_core.rules.rows import AccountRow, TradeRow
from tests.core.samples import digest
from tests.core.world import START, TEST_PARAMETERS, World, asset_id

SLOT = 900
WINDOW = START + 8 * SLOT
"""Where windows start unless a test says otherwise."""


def parameters(**changes: Any) -> Parameters:
    """The tests' parameters with some changed."""
    return replace(TEST_PARAMETERS, **changes)


def street(names: Iterable[str] = ("anna", "bert", "cara"), rating_w: int = 10_000, **changes: Any) -> World:
    """A community where everybody has a meter and the first home 10 kW of photovoltaics."""
    world = World(tuple(names), parameters(**changes))
    world.mine(*(world.meter_record(name) for name in world.homes))
    world.mine(world.asset_record(next(iter(world.homes)), rating_w=rating_w))
    return world


def battery(world: World, name: str = "anna", energy_wh: int | None = 10_000, **fields: Any) -> bytes:
    """Give a home a battery of 10 kW and 20 kWh; returns its id."""
    values = {"rating_w": 10_000, "capacity_wh": 20_000, "energy_wh": energy_wh, **fields}
    world.mine(world.asset_record(name, "battery", AssetKind.BATTERY, **values))
    return asset_id(f"{name} battery")


def offer(world: World, author: str = "anna", /, **fields: Any) -> Record:
    """An offer of 4 kWh in one hour at 0.2 per kWh, whole or in parts."""
    side = fields.get("side", Side.SELL)
    values: dict[str, Any] = {
        "side": side,
        "asset": asset_id(f"{author} pv") if side is Side.SELL else None,
        "carrier": Carrier.ELECTRICITY,
        "basis": Basis.ENERGY,
        "quantity": 4_000,
        "min_quantity": 1,
        "max_w": 0,
        "start": WINDOW,
        "end": fields.get("start", WINDOW) // SLOT * SLOT + 4 * SLOT,
        "price": 200_000,
        "shortfall_price": 0,
        "audience": None,
        "valid_until": fields.get("start", WINDOW),
        "auction": None,
    }
    return world.make(Offer, world[author].key, **{**values, **fields})


def accept(world: World, author: str, offered: Record, /, **fields: Any) -> Record:
    """An acceptance of an offer, of all of it on its own terms unless a field says otherwise."""
    body = offered.body
    assert isinstance(body, Offer)
    values: dict[str, Any] = {
        "offer": offered.id,
        "asset": None if body.side is Side.SELL else asset_id(f"{author} pv"),
        "quantity": body.quantity,
        "start": body.start,
        "end": body.end,
        "price": body.price,
        "valid_until": body.start,
    }
    return world.make(Acceptance, world[author].key, **{**values, **fields})


def confirm(world: World, author: str, acceptance: Record, **fields: Any) -> Record:
    return world.make(Confirmation, world[author].key, acceptance=acceptance.id, **fields)


def reject(world: World, author: str, acceptance: Record, **fields: Any) -> Record:
    return world.make(Rejection, world[author].key, acceptance=acceptance.id, **fields)


def withdraw(world: World, author: str, target: Record, **fields: Any) -> Record:
    return world.make(Withdrawal, world[author].key, target=target.id, **fields)


def terminate(
    world: World, author: str, trade: Record, end: int, compensation: int = 0, /, *others: str, **fields: Any
) -> Record:
    """An early end of a trade, co-signed by others."""
    cosigners = [world[name].key for name in others]
    values = {"trade": trade.id, "end": end, "compensation": compensation, **fields}
    return world.make(Termination, world[author].key, *cosigners, **values)


def score(world: World, author: str, trade: Record, points: int = 8, /, **fields: Any) -> Record:
    return world.make(Score, world[author].key, trade=trade.id, score=points, **fields)


def transfer(world: World, author: str, to: str, amount: int, /, **fields: Any) -> Record:
    values = {"kind": TransferKind.PAY, "to": world[to].id, "amount": amount, "reference": None, **fields}
    return world.make(Transfer, world[author].key, **values)


def issue(world: World, to: str, amount: int) -> Record:
    """The authority tops a member up."""
    return transfer(world, next(iter(world.homes)), to, amount, kind=TransferKind.ISSUE)


def member(
    world: World,
    author: SoftwareSigner,
    subject: bytes,
    *cosigners: SoftwareSigner,
    roles: int,
    node: bytes | None = None,
    invitation: Invitation | None = None,
    **fields: Any,
) -> Record:
    """A member record."""
    values: dict[str, Any] = {"name_hash": digest("name"), "location": None, **fields}
    return world.make(
        Member, author, *cosigners, member=subject, roles=roles, node=node, invitation=invitation, **values
    )


def agree(world: World, buyer: str = "bert", seller: str = "anna", /, **fields: Any) -> Record:
    """Offer and accept the whole at once; returns the acceptance, whose id is the trade's."""
    offered = offer(world, seller, **fields)
    world.mine(offered)
    accepted = accept(world, buyer, offered)
    world.mine(accepted)
    return accepted


def until(world: World, time: int) -> list[Event]:
    """Mine one block at a time; returns what happened in it."""
    return world.mine(step=time - world.now).events


def settle(world: World, slot_end: int = WINDOW + 4 * SLOT) -> list[SlotSettled]:
    """Let the grace after a slot pass; returns the settlement lines of that block."""
    return lines(until(world, slot_end + world.genesis.parameters.grace_s))


def lines(events: Iterable[Event]) -> list[SlotSettled]:
    return [event for event in events if isinstance(event, SlotSettled)]


def history(world: World) -> list[SlotSettled]:
    """Every settlement line of the chain so far."""
    return [line for applied in world.applied for line in lines(applied.events)]


def meters(
    world: World,
    exported: dict[str, list[int]],
    imported: dict[str, list[int]],
    start: int = WINDOW,
    base: int = 100_000,
) -> None:
    """Mine readings of boundaries from `start` on: Wh per slot and home, right after the last slot."""
    count = max(map(len, [*exported.values(), *imported.values()]))
    last = start + count * SLOT
    if world.now + 30 < last:
        world.now = last - 30
    records = []
    for name in {**exported, **imported}:
        out, into = exported.get(name, []), imported.get(name, [])
        rows = [
            (start + index * SLOT, 5 * base + sum(into[:index]), base + sum(out[:index]))
            for index in range(max(len(out), len(into)) + 1)
        ]
        records.append(world.reading(name, rows, created=last))
    world.mine(*records)


def money(world: World, name: str) -> AccountRow:
    """A home's account."""
    return world.state.accounts.get(world[name].id, AccountRow(0, 0))


def trade_of(world: World, accepted: Record) -> TradeRow:
    return world.state.trades[accepted.id]


def refusal(world: World, *records: Record, **options: Any) -> LedgerError:
    """The error that refuses a block of these records; the state must be as before."""
    before, now = world.state.hash(), world.now
    try:
        world.mine(*records, **options)
    except LedgerError as error:
        world.now = now
        assert world.state.hash() == before
        return error
    raise AssertionError("the records were taken")
