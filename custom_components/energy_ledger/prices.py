"""What energy costs this home now: pure figures over the ledger as it sees it."""

from collections.abc import Iterable
from dataclasses import dataclass

from ledger_core.client.views import OfferView, TradeView
from ledger_core.records.types import Basis, Carrier, Side

from .ledger import LedgerView


@dataclass(frozen=True, slots=True)
class Price:
    """A price in micro-currency per kWh, and where it comes from: `trade` or `offer`."""

    micro: int
    source: str


def running(trades: Iterable[TradeView], now: int) -> list[TradeView]:
    """Return the trades whose window is open."""
    return [trade for trade in trades if trade.start <= now < trade.end]


def open_to(offer: OfferView, home: str) -> bool:
    """Whether a home (key, hexadecimal) may accept an offer."""
    if offer.author.key == home:
        return False
    return offer.audience is None or any(each.key == home for each in offer.audience)


def sell_price(view: LedgerView, home: str, now: int) -> Price | None:
    """Return what the home gets: of its running sales, weighted by power; else the least that it asks."""
    mean = _mean([trade for trade in running(view.trades, now) if trade.seller.key == home])
    own = [offer for offer in view.offers if offer.author.key == home and _of_energy(offer, Side.SELL)]
    return mean or _least(offer for offer in own if offer.end > now)


def buy_price(view: LedgerView, home: str, now: int) -> Price | None:
    """Return what the home pays: in its running purchases, by power; else the best offer that it may take."""
    mean = _mean([trade for trade in running(view.trades, now) if trade.buyer.key == home])
    others = [offer for offer in view.offers if open_to(offer, home) and _of_energy(offer, Side.SELL)]
    return mean or _least(offer for offer in others if offer.start > now)


def _of_energy(offer: OfferView, side: Side) -> bool:
    return (
        offer.side == side.value
        and offer.basis == Basis.ENERGY.value
        and offer.carrier == Carrier.ELECTRICITY.value
    )


def _mean(trades: list[TradeView]) -> Price | None:
    counted = [trade for trade in trades if trade.carrier == Carrier.ELECTRICITY.value and trade.watts]
    watts = sum(trade.watts for trade in counted)
    if not watts:
        return None
    return Price(sum(trade.price * trade.watts for trade in counted) // watts, "trade")


def _least(offers: Iterable[OfferView]) -> Price | None:
    prices = [offer.price for offer in offers]
    return Price(min(prices), "offer") if prices else None
