"""Trades as a node tells them, for tests of trading."""

from typing import Any

from ledger_core.client.views import OfferView, Party, TradeView, WaitingView
from ledger_core.keys import address


def party(name: str) -> Party:
    key = name.encode().ljust(32, b"\1")
    return Party(key=key.hex(), address=address(key))


HOME = party("home")
OTHER = party("other")
ASSET = b"battery".ljust(16, b"\0").hex()
METER = b"meter".ljust(16, b"\0").hex()


def make_trade(name: str = "t", **changes: Any) -> TradeView:
    values: dict[str, Any] = {
        "trade": name.encode().ljust(32, b"\0").hex(),
        "offer": b"offer".ljust(32, b"\0").hex(),
        "origin": "posted",
        "seller": HOME,
        "buyer": OTHER,
        "asset": ASSET,
        "seller_meter": METER,
        "buyer_meter": b"theirs".ljust(16, b"\0").hex(),
        "carrier": "electricity",
        "basis": "energy",
        "quantity": 500,
        "watts": 2000,
        "start": 900,
        "end": 1800,
        "price": 200_000,
        "shortfall_price": 0,
        "held_buyer": 0,
        "held_seller": 0,
        "delivered_wh": 0,
        "paid": 0,
    }
    values.update(changes)
    values.setdefault("agreed_end", values["end"])
    return TradeView(**values)


def make_offer(name: str = "o", **changes: Any) -> OfferView:
    values: dict[str, Any] = {
        "offer": name.encode().ljust(32, b"\0").hex(),
        "author": OTHER,
        "side": "sell",
        "asset": ASSET,
        "carrier": "electricity",
        "basis": "energy",
        "quantity": 1000,
        "min_quantity": 1,
        "max_w": 0,
        "start": 900,
        "end": 1800,
        "price": 200_000,
        "shortfall_price": 0,
        "audience": None,
        "valid_until": 900,
        "auction": None,
    }
    values.update(changes)
    values.setdefault("open", values["quantity"])
    return OfferView(**values)


def make_waiting(name: str = "w", **changes: Any) -> WaitingView:
    values: dict[str, Any] = {
        "acceptance": name.encode().ljust(32, b"\0").hex(),
        "author": OTHER,
        "offer": make_offer().offer,
        "offerer": HOME,
        "asset": None,
        "quantity": 1000,
        "start": 900,
        "end": 1800,
        "price": 150_000,
        "valid_until": 900,
        "bid": False,
        "held": 0,
    }
    values.update(changes)
    return WaitingView(**values)
