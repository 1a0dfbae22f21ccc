"""What the ledger tells, in people's units: the same fields in events, actions, triggers and conditions."""

from typing import Any, NotRequired, TypedDict

import msgspec

from ledger_core.client.views import OfferView, Party, TradeView, WaitingView
from ledger_core.units import amount, energy

from .quantities import kilo, local_text, money, optional_kilo, optional_money
from .trading.statement_core import Settled

ENERGY = "energy"
KWH = "kWh"
KW = "kW"


class AuctionData(TypedDict):
    """An auction's terms; prices in currency per unit."""

    closes: str
    ceiling: float
    reserve: float


class OfferData(TypedDict):
    """The open part of an offer (side `sell`) or a request (side `buy`)."""

    offer: str
    side: str
    author: str
    """Address of who offers, or asks."""
    own: bool
    carrier: str
    basis: str
    unit: str
    """kWh of an energy offer, kW of reserved capacity: what the quantities count."""
    quantity: float
    open: float
    min_quantity: float | None
    """None: only the whole."""
    max_power: float
    """kW; 0: the mean power of the window."""
    start: str
    end: str
    price: float
    """Currency per kWh; per kW and hour for capacity."""
    shortfall_price: float
    total: float
    """What the open part costs."""
    audience: list[str] | None
    valid_until: str
    auction: AuctionData | None
    raw: dict[str, Any]
    """The node's own answer, in W, Wh, UTC seconds and micro-currency."""


class CounterData(TypedDict):
    """Changed terms (or a bid) that wait for the offerer."""

    acceptance: str
    offer: str
    author: str
    offerer: str | None
    own: bool
    bid: bool
    quantity: float
    unit: NotRequired[str]
    start: str
    end: str
    price: float
    valid_until: str
    raw: dict[str, Any]


class TradeData(TypedDict):
    """An agreed sale."""

    trade: str
    offer: str
    origin: str
    role: str | None
    """What this home is in it: `seller` or `buyer`."""
    seller: str
    buyer: str
    partner: str
    """The other side's address; for trades of others: the buyer's."""
    asset: str
    carrier: str | None
    """None: not known any more."""
    basis: str
    unit: str
    quantity: float
    power: float
    """kW."""
    start: str
    end: str
    agreed_end: str
    """Later than `end`, where the trade was shortened."""
    price: float
    shortfall_price: float | None
    total: float
    delivered_kwh: float
    paid: float
    raw: dict[str, Any]


class SlotFigures(TypedDict):
    """What a trade's slot settled to; money in units of the currency."""

    agreed_kwh: float
    sent_kwh: float | None
    """None: the seller's readings are missing."""
    received_kwh: float | None
    difference_kwh: float | None
    """Sent less received: what the lines lost, or the meters disagree about."""
    delivered_kwh: float
    missing_kwh: float
    price: float | None
    """As agreed, per kWh (per kW and hour for capacity); None: not known any more."""
    agreed_amount: float | None
    """What all of it would have cost."""
    paid: float
    difference_amount: float | None
    """Agreed less paid."""
    shortfall_paid: float
    disputed: bool


class SlotData(SlotFigures):
    """One settlement line: a trade's slot as the rules settled it."""

    trade: str
    role: str | None
    seller: str
    buyer: str
    partner: str
    slot_end: str
    raw: dict[str, Any]


def slot_figures(line: Settled) -> SlotFigures:
    """Describe what a slot settled to."""
    return SlotFigures(
        agreed_kwh=kilo(line.agreed_wh),
        sent_kwh=optional_kilo(line.sent_wh),
        received_kwh=optional_kilo(line.received_wh),
        difference_kwh=optional_kilo(line.difference_wh),
        delivered_kwh=kilo(line.delivered_wh),
        missing_kwh=kilo(max(line.agreed_wh - line.delivered_wh, 0)),
        price=optional_money(line.price),
        agreed_amount=optional_money(line.agreed_amount),
        paid=money(line.paid),
        difference_amount=optional_money(line.unpaid),
        shortfall_paid=money(line.shortfall_paid),
        disputed=line.disputed,
    )


def unit_of(basis: str) -> str:
    """Return what a quantity of that basis counts, as people read it."""
    return KWH if basis == ENERGY else KW


def price_of_all(basis: str, quantity: int, seconds: int, price: int) -> int:
    """Return what a quantity costs, in micro-currency."""
    return amount(quantity if basis == ENERGY else energy(quantity, seconds), price)


def offer_data(offer: OfferView, home: str) -> OfferData:
    """Describe an offer to the home with that key (hexadecimal)."""
    auction = offer.auction
    return OfferData(
        offer=offer.offer,
        side=offer.side,
        author=offer.author.address,
        own=offer.author.key == home,
        carrier=offer.carrier,
        basis=offer.basis,
        unit=unit_of(offer.basis),
        quantity=kilo(offer.quantity),
        open=kilo(offer.open),
        min_quantity=optional_kilo(offer.min_quantity),
        max_power=kilo(offer.max_w),
        start=local_text(offer.start),
        end=local_text(offer.end),
        price=money(offer.price),
        shortfall_price=money(offer.shortfall_price),
        total=money(price_of_all(offer.basis, offer.open, offer.end - offer.start, offer.price)),
        audience=None if offer.audience is None else [each.address for each in offer.audience],
        valid_until=local_text(offer.valid_until),
        auction=None
        if auction is None
        else AuctionData(
            closes=local_text(auction.closes), ceiling=money(auction.ceiling), reserve=money(auction.reserve)
        ),
        raw=msgspec.to_builtins(offer),
    )


def counter_data(waiting: WaitingView, home: str, basis: str | None = None) -> CounterData:
    """Describe changed terms, or a bid, to a home; `basis` is the offer's, where it is known."""
    data = CounterData(
        acceptance=waiting.acceptance,
        offer=waiting.offer,
        author=waiting.author.address,
        offerer=None if waiting.offerer is None else waiting.offerer.address,
        own=waiting.author.key == home,
        bid=waiting.bid,
        quantity=kilo(waiting.quantity),
        start=local_text(waiting.start),
        end=local_text(waiting.end),
        price=money(waiting.price),
        valid_until=local_text(waiting.valid_until),
        raw=msgspec.to_builtins(waiting),
    )
    if basis is not None:
        data["unit"] = unit_of(basis)
    return data


def trade_data(trade: TradeView, home: str) -> TradeData:
    """Describe a trade to a home."""
    role = role_of(home, trade.seller.key, trade.buyer.key)
    return TradeData(
        trade=trade.trade,
        offer=trade.offer,
        origin=trade.origin,
        role=role,
        seller=trade.seller.address,
        buyer=trade.buyer.address,
        partner=partner_of(role, trade.seller, trade.buyer).address,
        asset=trade.asset,
        carrier=trade.carrier,
        basis=trade.basis,
        unit=unit_of(trade.basis),
        quantity=kilo(trade.quantity),
        power=kilo(trade.watts),
        start=local_text(trade.start),
        end=local_text(trade.end),
        agreed_end=local_text(trade.agreed_end),
        price=money(trade.price),
        shortfall_price=money(trade.shortfall_price),
        total=money(price_of_all(trade.basis, trade.quantity, trade.end - trade.start, trade.price)),
        delivered_kwh=kilo(trade.delivered_wh),
        paid=money(trade.paid),
        raw=msgspec.to_builtins(trade),
    )


def role_of(home: str, seller: str, buyer: str) -> str | None:
    """Return what a home is in a trade between two keys."""
    return "seller" if home == seller else "buyer" if home == buyer else None


def partner_of(role: str | None, seller: Party, buyer: Party) -> Party:
    """Return the other side of a trade."""
    return seller if role == "buyer" else buyer
