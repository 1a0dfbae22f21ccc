"""The table of refusals: offers, acceptances, auctions, trades, money."""

from typing import Any

from ledger_core.community import MoneyMode
from ledger_core.records.codec import Record
from ledger_core.records.money import TransferKind
from ledger_core.records.offers import Auction, Withdrawal
from ledger_core.records.types import Carrier, Role, Side
from ledger_core.units import MAX_AMOUNT, MAX_PRICE, MAX_WATTS
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    agree,
    battery,
    confirm,
    issue,
    member,
    meters,
    money,
    offer,
    reject,
    score,
    settle,
    street,
    terminate,
    transfer,
)
from tests.core.forge import Attempt, by_field, case
from tests.core.samples import digest
from tests.core.world import Home, World, asset_id

DAY = 86_400
FAR = WINDOW + 30 * DAY // SLOT * SLOT
AUCTION = Auction(WINDOW - SLOT, 300_000, 100_000)


def people(**changes: Any) -> World:
    """The street with zoe, who is no member, yann, who only runs a node, and xena, who was revoked."""
    world = street(("anna", "bert", "cara", "xena"), **changes)
    for name in ("yann", "zoe"):
        world.homes[name] = Home(name)
    yann, anna = world["yann"], world["anna"]
    world.mine(
        member(world, anna.key, yann.id, yann.key, roles=int(Role.NODE), node=yann.node.public_key),
        member(world, anna.key, world["xena"].id, roles=0),
    )
    return world


def sell(world: World, author: str = "anna", /, **fields: Any) -> Record:
    return offer(world, author, **{"asset": asset_id("anna pv"), **fields})


def sell_by(world: World, author: str = "anna") -> Record:
    return sell(world, author)


for _code, _author in (("member_unknown", "zoe"), ("member_revoked", "xena"), ("role_missing", "yann")):
    by_field(_code, people, sell_by, author=_author)
by_field("not_owner", street, sell_by, author="bert")


def far(world: World, **fields: Any) -> Record:
    return offer(world, start=FAR, **fields)


def fixed(world: World, **fields: Any) -> Record:
    """An offer whose end and validity do not follow its start."""
    return offer(world, **{"end": WINDOW + 4 * SLOT, "valid_until": WINDOW, **fields})


CHANGES: dict[str, dict[str, Any]] = {
    "window_invalid": {"end": WINDOW},
    "minimum_above_quantity": {"min_quantity": 4_001},
    "offer_expired": {"valid_until": WINDOW - 8 * SLOT},
    "power_too_large": {"quantity": MAX_WATTS + 1},
    "asset_missing": {"asset": None},
    "asset_unknown": {"asset": asset_id("nothing")},
    "not_owner": {"asset": asset_id("bert meter")},
    "carrier_mismatch": {"carrier": Carrier.HEAT},
    "asset_not_a_supplier": {"asset": asset_id("anna meter")},
    "power_unavailable": {"quantity": 10_001},
}
for _code, _change in CHANGES.items():
    by_field(_code, street, offer, **_change)
by_field("slot_misaligned", street, offer, end=WINDOW + SLOT - 1)
by_field("slot_misaligned", street, fixed, start=WINDOW + 1)
by_field("window_started", street, fixed, start=WINDOW - 8 * SLOT)
by_field("window_invalid", street, offer, end=WINDOW + 673 * SLOT)
by_field("window_too_far", street, far, end=FAR + 2 * DAY)
by_field("audience_unordered", street, offer, audience=lambda world: (world["bert"].id, world["bert"].id))
by_field("audience_unordered", street, offer, audience=lambda world: tuple(sorted(ids(world), reverse=True)))


def ids(world: World) -> list[bytes]:
    return [home.id for home in world.homes.values()]


def auction_offer(world: World, **fields: Any) -> Record:
    return offer(world, **{"auction": AUCTION, **fields})


by_field("auction_limits", street, auction_offer, price=300_001)
by_field("auction_limits", street, auction_offer, price=99_999)
by_field("auction_closes", street, auction_offer, auction=Auction(WINDOW + 1, 300_000, 100_000))
by_field("auction_closes", street, auction_offer, auction=Auction(WINDOW - 8 * SLOT, 300_000, 100_000))
by_field("connection_full", lambda: street(rating_w=30_000), offer, quantity=20_001)


def stored(world: World, **fields: Any) -> Record:
    return offer(world, **{"asset": asset_id("anna battery"), **fields})


def with_battery() -> World:
    world = street()
    battery(world, energy_wh=5_000)
    return world


by_field("energy_unavailable", with_battery, stored, quantity=5_001)


def two_meters() -> World:
    world = street()
    world.mine(world.meter_record("bert", asset=asset_id("second"), meter_key=world["bert"].node.public_key))
    return world


def request(world: World, author: str = "bert", /, **fields: Any) -> Record:
    return offer(world, author, **{"side": Side.BUY, "asset": None, **fields})


def request_by(world: World, author: str = "bert") -> Record:
    return request(world, author)


def request_at_meter(world: World, **fields: Any) -> Record:
    return request(world, "bert", **{"asset": world["bert"].meter, **fields})


by_field("meter_ambiguous", two_meters, request_at_meter, asset=None)
by_field("meter_missing", street, request, carrier=Carrier.HEAT)


# Acceptances of one offer that stands in the chain


def offered(**fields: Any) -> tuple[World, Record]:
    world = street(("anna", "bert", "cara"))
    record = offer(world, **fields)
    world.mine(record)
    return world, record


def answer(code: str, offer_fields: dict[str, Any], **change: Any) -> None:
    """Enter an acceptance by bert with one field changed."""

    @case(code)
    def attempt() -> Attempt:
        world, record = offered(**offer_fields)
        author = change.get("author", "bert")
        fields = {name: value for name, value in change.items() if name != "author"}
        return Attempt(world, accept(world, "bert", record), accept(world, author, record, **fields))


answer("offer_unknown", {}, offer=digest("nothing"))
answer("own_offer", {}, author="anna")
answer("quantity_exceeds_open", {}, quantity=4_001)
answer("partial_refused", {"min_quantity": None}, quantity=3_999)
answer("below_minimum_fill", {"min_quantity": 2_000}, quantity=1_999)
answer("bid_above_ceiling", {"auction": AUCTION}, price=300_001)
answer("bid_below_reserve", {"auction": AUCTION}, price=99_999)
answer("bid_window", {"auction": AUCTION}, end=WINDOW + 3 * SLOT)
answer("bid_window", {"auction": AUCTION}, start=WINDOW + SLOT)
answer("window_invalid", {}, end=WINDOW + 700 * SLOT)
answer("asset_unknown", {}, asset=asset_id("nothing"))
answer("not_owner", {}, asset=asset_id("anna meter"))


@case("not_in_audience")
def _() -> Attempt:
    world = street()
    record = offer(world, audience=(world["bert"].id,))
    world.mine(record)
    return Attempt(world, accept(world, "bert", record), accept(world, "cara", record))


@case("window_too_far")
def _() -> Attempt:
    world = street()
    record = far(world)
    world.mine(record)
    return Attempt(world, accept(world, "bert", record), accept(world, "bert", record, end=FAR + 2 * DAY))


@case("acceptance_expired")
def _() -> Attempt:
    world, record = offered()
    changed = {"price": 190_000, "valid_until": WINDOW}
    past = {**changed, "valid_until": world.now - 1}
    return Attempt(world, accept(world, "bert", record, **changed), accept(world, "bert", record, **past))


@case("acceptance_expired")
def _() -> Attempt:
    """In a block the deadline comes first; a record alone is told why."""
    world, record = offered()
    changed = accept(world, "bert", record, price=190_000, valid_until=world.now + 60)
    world.mine(changed)
    answered = confirm(world, "anna", changed)
    return Attempt(world, answered, answered, later=60)


@case("offer_expired")
def _() -> Attempt:
    world, record = offered(valid_until=WINDOW - SLOT)
    accepted = accept(world, "bert", record)
    return Attempt(world, accepted, accepted, later=WINDOW - SLOT - world.now)


@case("auction_closed")
def _() -> Attempt:
    world, record = offered(auction=AUCTION)
    bid = accept(world, "bert", record)
    return Attempt(world, bid, bid, later=AUCTION.closes - world.now - 30)


def giant() -> tuple[World, Record]:
    """A street with lines of a gigawatt, and an offer of two gigawatt-hours at the highest price."""
    world = street(rating_w=MAX_WATTS, credit_limit=MAX_AMOUNT)
    for name in ("anna", "bert"):
        known = world.state.assets[world[name].meter].record
        world.mine(world.meter_record(name, MAX_WATTS, supersedes=known))
    fields = {"end": WINDOW + 8 * SLOT, "price": MAX_PRICE}
    return world, offer(world, quantity=2 * MAX_WATTS, **fields)


@case("amount_too_large")
def _() -> Attempt:
    world, record = giant()
    world.mine(record)
    part, whole = (
        accept(world, "bert", record, quantity=quantity) for quantity in (MAX_WATTS, 2 * MAX_WATTS)
    )
    return Attempt(world, part, whole)


@case("amount_too_large")
def _() -> Attempt:
    world, _ = giant()
    fields = {"end": WINDOW + 8 * SLOT, "price": MAX_PRICE, "auction": Auction(WINDOW, MAX_PRICE, 0)}
    record = offer(world, quantity=2 * MAX_WATTS, **fields)
    world.mine(record)
    part, whole = (
        accept(world, "bert", record, quantity=quantity) for quantity in (MAX_WATTS, 2 * MAX_WATTS)
    )
    return Attempt(world, part, whole)


@case("power_too_large")
def _() -> Attempt:
    """Changed terms squeeze the energy into one slot."""
    world, record = giant()
    world.mine(record)
    squeezed = accept(world, "bert", record, end=WINDOW + SLOT)
    world.mine(squeezed)
    whole = accept(world, "bert", record, price=1)
    world.mine(whole)
    return Attempt(world, confirm(world, "anna", whole), confirm(world, "anna", squeezed))


def negotiation() -> tuple[World, Record, Record, Record]:
    """Changed terms by bert and a bid by cara, both waiting."""
    world, record = offered()
    auction = auction_offer(world)
    world.mine(auction)
    changed, bid = accept(world, "bert", record, price=190_000), accept(world, "cara", auction)
    world.mine(changed, bid)
    return world, changed, bid, auction


for _answer in (confirm, reject):

    @case("acceptance_unknown")
    def _(make: Any = _answer) -> Attempt:
        world, changed, _, auction = negotiation()
        return Attempt(world, make(world, "anna", changed), make(world, "anna", auction))

    @case("not_author")
    def _(make: Any = _answer) -> Attempt:
        world, changed, _, _ = negotiation()
        return Attempt(world, make(world, "anna", changed), make(world, "cara", changed))

    @case("bid_not_answered")
    def _(make: Any = _answer) -> Attempt:
        world, changed, bid, _ = negotiation()
        return Attempt(world, make(world, "anna", changed), make(world, "anna", bid))


def take_back(world: World, author: str, target: bytes) -> Record:
    return world.make(Withdrawal, world[author].key, target=target)


@case("target_unknown")
def _() -> Attempt:
    world, changed, _, _ = negotiation()
    return Attempt(world, take_back(world, "bert", changed.id), take_back(world, "bert", digest("nothing")))


@case("not_author")
def _() -> Attempt:
    world, changed, _, _ = negotiation()
    return Attempt(world, take_back(world, "bert", changed.id), take_back(world, "anna", changed.id))


@case("not_author")
def _() -> Attempt:
    world, _, _, auction = negotiation()
    return Attempt(world, take_back(world, "anna", auction.id), take_back(world, "bert", auction.id))


@case("bid_binding")
def _() -> Attempt:
    world, _, bid, auction = negotiation()
    changed = accept(world, "cara", negotiated_offer(world), price=1)
    world.mine(changed)
    assert auction.id in world.state.offers
    return Attempt(world, take_back(world, "cara", changed.id), take_back(world, "cara", bid.id))


def negotiated_offer(world: World) -> Record:
    """A further offer in the chain."""
    record = offer(world, quantity=1_000)
    world.mine(record)
    return record


# Trades


def traded(**changes: Any) -> tuple[World, Record]:
    world = street(**changes)
    return world, agree(world)


@case("trade_unknown")
def _() -> Attempt:
    world, trade = traded()
    good = terminate(world, "bert", trade, WINDOW, 0, "anna")
    return Attempt(world, good, terminate(world, "bert", trade, WINDOW, 0, "anna", trade=digest("nothing")))


@case("not_party")
def _() -> Attempt:
    world, trade = traded()
    good = terminate(world, "bert", trade, WINDOW, 800_000)
    return Attempt(world, good, terminate(world, "cara", trade, WINDOW, 800_000))


for _end in (WINDOW - SLOT, WINDOW + 4 * SLOT, WINDOW + 9 * SLOT):

    @case("termination_end")
    def _(end: int = _end) -> Attempt:
        world, trade = traded()
        good = terminate(world, "bert", trade, WINDOW, 800_000)
        return Attempt(world, good, terminate(world, "bert", trade, end, 800_000))


@case("slot_misaligned")
def _() -> Attempt:
    world, trade = traded()
    good = terminate(world, "bert", trade, WINDOW, 800_000)
    return Attempt(world, good, terminate(world, "bert", trade, WINDOW + 1, 800_000))


@case("compensation_too_low")
def _() -> Attempt:
    world, trade = traded()
    good = terminate(world, "bert", trade, WINDOW + SLOT, 600_000)
    return Attempt(world, good, terminate(world, "bert", trade, WINDOW + SLOT, 599_999))


@case("compensation_too_low")
def _() -> Attempt:
    """The same without the other side's co-signature."""
    world, trade = traded()
    good = terminate(world, "bert", trade, WINDOW, 0, "anna")
    return Attempt(world, good, terminate(world, "bert", trade, WINDOW))


def settled() -> tuple[World, Record]:
    world, trade = traded()
    meters(world, {"anna": [1_000] * 4}, {"bert": [1_000] * 4})
    settle(world)
    return world, trade


@case("trade_not_settled")
def _() -> Attempt:
    world, trade = settled()
    running = agree(world, start=world.now // SLOT * SLOT + 4 * SLOT)
    return Attempt(world, score(world, "bert", trade), score(world, "bert", running))


@case("trade_not_settled")
def _() -> Attempt:
    """A trade that ended before it began delivered nothing that could be scored."""
    world, trade = settled()
    start = world.now // SLOT * SLOT + 4 * SLOT
    ended = agree(world, quantity=1_000, start=start, end=start + SLOT)
    world.mine(terminate(world, "bert", ended, start, 0, "anna"))
    return Attempt(world, score(world, "bert", trade), score(world, "bert", ended))


@case("already_scored")
def _() -> Attempt:
    world, trade = settled()
    world.mine(score(world, "bert", trade))
    return Attempt(world, score(world, "anna", trade), score(world, "bert", trade))


@case("not_party")
def _() -> Attempt:
    world, trade = settled()
    return Attempt(world, score(world, "bert", trade), score(world, "cara", trade))


# Money


def pay(world: World, author: str = "anna", amount: int = 1_000, **fields: Any) -> Record:
    return transfer(world, author, "bert", amount, **fields)


by_field("funds_insufficient", street, pay, amount=50_000_001)
by_field("transfer_to_self", street, pay, to=lambda world: world["anna"].id)
by_field("money_not_prepaid", street, pay, kind=TransferKind.ISSUE)
by_field("role_missing", people, pay, to=lambda world: world["yann"].id)


def prepaid() -> World:
    world = street(money_mode=MoneyMode.PREPAID)
    world.mine(issue(world, "bert", 1_000_000))
    assert money(world, "bert").balance == 1_000_000
    return world


def top_up(world: World, amount: int = MAX_AMOUNT - 1_000_000) -> Record:
    return issue(world, "cara", amount)


by_field("issue_too_large", prepaid, top_up, amount=MAX_AMOUNT - 999_999)


def redeem(world: World, **fields: Any) -> Record:
    return transfer(world, "bert", "anna", 1_000, **{"kind": TransferKind.REDEEM, **fields})


by_field("role_missing", prepaid, redeem, to=lambda world: world["cara"].id)
by_field("role_missing", prepaid, redeem, kind=TransferKind.ISSUE)
by_field("funds_insufficient", prepaid, redeem, amount=1_000_001)


@case("funds_insufficient")
def _() -> Attempt:
    """A bid, and a binding acceptance, hold what they may cost."""
    world = prepaid()
    record = auction_offer(world, quantity=10_000)
    world.mine(record)
    return Attempt(
        world,
        accept(world, "bert", record, quantity=5_000),
        accept(world, "bert", record, quantity=5_001),
    )


@case("funds_insufficient")
def _() -> Attempt:
    world = prepaid()
    record = offer(world, quantity=10_000)
    world.mine(record)
    return Attempt(
        world,
        accept(world, "bert", record, quantity=5_000),
        accept(world, "bert", record, quantity=5_001),
    )


@case("funds_insufficient")
def _() -> Attempt:
    """The seller of a shortfall price must be able to pay it."""
    world = street(credit_limit=1_000_000)
    record = offer(world, quantity=10_000, shortfall_price=200_000, price=1)
    world.mine(record)
    return Attempt(
        world,
        accept(world, "bert", record, quantity=5_000),
        accept(world, "bert", record, quantity=5_001),
    )
