"""`energy-ledger offers`, `offer` and `withdraw`: what is open, and opening and closing one's own."""

import argparse
from typing import Final

from msgspec.structs import replace

from ledger_core.cli.connection import (
    act,
    add_key,
    add_node,
    add_wait,
    ask,
    plain,
    settled,
    told,
    whole_id,
)
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import show
from ledger_core.cli.quantities import (
    energy,
    moment,
    money,
    power,
    show_address,
    show_id,
    show_price,
    show_quantity,
    show_time,
    show_window,
)
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.client.views import AssetsQuery, AssetView, OffersQuery, OfferView, WaitingQuery
from ledger_core.errors import LedgerError
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side

CARRIERS: Final = [carrier.value for carrier in Carrier]
_NO_SUPPLIERS: Final = frozenset({"load", "meter", "line"})


def register(program: Program) -> None:
    """Add the commands to the program."""
    offers = program.single().command("offers", _offers, "list open offers and requests", json=True)
    offers.add_argument("--side", choices=[side.value for side in Side], help="only offers, or only requests")
    offers.add_argument("--carrier", choices=CARRIERS, help="only of this carrier")
    offers.add_argument("--from", dest="start", metavar="TIME", help="windows that end after it")
    offers.add_argument("--to", dest="end", metavar="TIME", help="windows that start before it")
    whose = offers.add_mutually_exclusive_group()
    whose.add_argument("--author", metavar="KEY", help="only this member's (address, key or key file)")
    whose.add_argument("--for", dest="reader", metavar="KEY", help="only what this member may accept")
    add_node(offers)
    _register_offer(program)

    withdraw = program.single().command(
        "withdraw", _withdraw, "take back an open offer, or an acceptance that waits", json=True
    )
    withdraw.add_argument("id", metavar="ID", help="of the offer or acceptance, or its first digits")
    for add in (add_key, add_wait, add_node):
        add(withdraw)


def _register_offer(program: Program) -> None:
    offer = program.single().command("offer", _offer, "offer energy or capacity, or ask for it", json=True)
    what = offer.add_mutually_exclusive_group(required=True)
    what.add_argument("--energy", metavar="KWH", help="for the whole window, such as 4.5 or 4500Wh")
    what.add_argument("--capacity", metavar="KW", help="throughout the window, such as 2 or 2000W")
    offer.add_argument("--buy", action="store_true", help="ask for it instead of offering it")
    offer.add_argument("--from", dest="start", metavar="TIME", required=True, help="a slot's start")
    offer.add_argument("--to", dest="end", metavar="TIME", required=True, help="a slot's end")
    offer.add_argument("--price", required=True, help="per kWh; for capacity per kW and hour")
    terms = offer.add_argument_group("terms that may be left out")
    terms.add_argument("--asset", metavar="ID", help="what supplies or receives, where several can")
    terms.add_argument("--carrier", choices=CARRIERS, default="electricity", help="(otherwise electricity)")
    terms.add_argument("--least", metavar="QUANTITY", help="parts may be accepted, from this one on")
    terms.add_argument("--max-power", metavar="KW", help="highest power while delivering energy")
    terms.add_argument("--shortfall-price", metavar="PRICE", help="paid to the buyer per missing kWh")
    terms.add_argument("--audience", metavar="KEY", action="append", help="a member who may accept")
    terms.add_argument("--valid-until", metavar="TIME", help="(otherwise until the window starts)")
    terms.add_argument("--auction-closes", metavar="TIME", help="make it an auction; bids until then")
    terms.add_argument("--ceiling", metavar="PRICE", help="of an auction: no bid above it")
    terms.add_argument("--reserve", metavar="PRICE", help="of an auction: no bid below it (otherwise 0)")
    for add in (add_key, add_wait, add_node):
        add(offer)


def _offers(arguments: argparse.Namespace) -> None:
    query = OffersQuery(
        author=None if arguments.author is None else public_key_of(arguments.author).hex(),
        side=None if arguments.side is None else Side(arguments.side),
        carrier=None if arguments.carrier is None else Carrier(arguments.carrier),
        visible_to=None if arguments.reader is None else public_key_of(arguments.reader).hex(),
        from_time=None if arguments.start is None else moment(arguments.start, "--from"),
        until_time=None if arguments.end is None else moment(arguments.end, "--to"),
        limit=500,
    )

    async def work(client: NodeClient) -> None:
        offers = sorted(await client.all_offers(query), key=lambda each: (each.start, each.offer))
        currency = (await client.status()).currency
        show(arguments, {"items": plain(offers)}, offer_table(offers, currency))

    ask(arguments, work)


def offer_table(offers: list[OfferView], currency: str) -> list[str]:
    """Return open offers as lines."""
    return columns(
        ("id", "side", "by", "open", "window", "price", "valid until", ""),
        [
            (
                show_id(each.offer),
                each.side,
                show_address(each.author.address),
                show_quantity(each.open, each.basis),
                show_window(each.start, each.end),
                show_price(each.price, currency, each.basis),
                show_time(each.valid_until),
                _remarks(each),
            )
            for each in offers
        ],
        "nothing is offered",
    )


def _remarks(offer: OfferView) -> str:
    remarks = []
    if offer.auction is not None:
        remarks.append(f"auction until {show_time(offer.auction.closes)}")
    if offer.min_quantity is not None:
        remarks.append(f"parts from {show_quantity(offer.min_quantity, offer.basis)}")
    if offer.audience is not None:
        remarks.append("not for all")
    if offer.carrier != "electricity":
        remarks.append(offer.carrier)
    return ", ".join(remarks)


def _offer(arguments: argparse.Namespace) -> None:
    terms = _terms(arguments)

    async def work(home: Home) -> None:
        slot = await home.slot_s()
        require_slot(terms.start, slot, "--from")
        require_slot(terms.end, slot, "--to")
        full = replace(terms, asset=await _asset(home, arguments))
        record = await (home.request(full) if arguments.buy else home.offer(full))
        result = await settled(arguments, home.client, record)
        show(arguments, result, [told(result, f"{'request' if arguments.buy else 'offer'} {record}")])

    act(arguments, work)


def _terms(arguments: argparse.Namespace) -> OfferTerms:
    basis = Basis.CAPACITY if arguments.energy is None else Basis.ENERGY
    if basis is Basis.CAPACITY:
        quantity = power(arguments.capacity, "--capacity")
    else:
        quantity = energy(arguments.energy, "--energy")
    start, end = moment(arguments.start, "--from"), moment(arguments.end, "--to")
    if end <= start:
        raise UsageError("--to: the window ends before it starts; write the day as well, 'YYYY-MM-DD HH:MM'")
    valid_until = None if arguments.valid_until is None else moment(arguments.valid_until, "--valid-until")
    audience = arguments.audience
    return OfferTerms(
        quantity=quantity,
        start=start,
        end=end,
        price=money(arguments.price, "--price"),
        carrier=Carrier(arguments.carrier),
        basis=basis,
        min_quantity=quantity_of(arguments.least, basis, "--least"),
        max_w=0 if arguments.max_power is None else power(arguments.max_power, "--max-power"),
        shortfall_price=money(arguments.shortfall_price or "0", "--shortfall-price"),
        audience=None if audience is None else [public_key_of(each) for each in audience],
        valid_until=valid_until,
        auction=_auction(arguments),
    )


def quantity_of(text: str | None, basis: str, name: str) -> int | None:
    """Return Wh or W, whichever a basis counts; None for no text."""
    if text is None:
        return None
    return power(text, name) if basis == "capacity" else energy(text, name)


def _auction(arguments: argparse.Namespace) -> Auction | None:
    if arguments.auction_closes is None:
        if arguments.ceiling is not None or arguments.reserve is not None:
            raise UsageError("--ceiling and --reserve are for auctions: add --auction-closes TIME")
        return None
    if arguments.ceiling is None:
        raise UsageError("an auction needs --ceiling PRICE, above which no bid goes")
    closes = moment(arguments.auction_closes, "--auction-closes")
    return Auction(
        closes, money(arguments.ceiling, "--ceiling"), money(arguments.reserve or "0", "--reserve")
    )


def require_slot(value: int, slot_s: int, name: str) -> None:
    """Raise UsageError for a time that is no slot boundary, naming the ones before and after it."""
    rest = value % slot_s
    if rest:
        before, after = show_time(value - rest), show_time(value - rest + slot_s)
        raise UsageError(
            f"{name}: {show_time(value)} is no slot boundary; the nearest are {before} and {after}"
        )


async def _asset(home: Home, arguments: argparse.Namespace) -> bytes | None:
    """Return the asset that is named, or the only one that can supply; a buyer needs to name none."""
    own = await home.client.all_assets(AssetsQuery(owner=home.address, limit=500))
    if arguments.asset is not None:
        return bytes.fromhex(whole_id(arguments.asset, (each.asset for each in own), "asset of this member"))
    if arguments.buy:
        return None
    return bytes.fromhex(only_supplier(own, arguments.carrier))


def only_supplier(own: list[AssetView], carrier: str) -> str:
    """Return the one asset that can supply; raises LedgerError `asset_needed` where there is not just one."""
    able = [
        each for each in own if each.carrier == carrier and each.rating_w and each.kind not in _NO_SUPPLIERS
    ]
    if len(able) != 1:
        names = ", ".join(f"{show_id(each.asset)} ({each.kind})" for each in able) or "none"
        raise LedgerError(
            "asset_needed",
            f"name what supplies with --asset ID; assets of this member that can supply {carrier}: {names}",
            assets=[each.asset for each in able],
        )
    return able[0].asset


def _withdraw(arguments: argparse.Namespace) -> None:
    async def work(home: Home) -> None:
        offers = await home.client.all_offers(OffersQuery(author=home.address, limit=500))
        waiting = await home.client.all_waiting_acceptances(WaitingQuery(author=home.address, limit=500))
        known = [each.offer for each in offers] + [each.acceptance for each in waiting]
        target = whole_id(arguments.id, known, "open offer or waiting acceptance of this member")
        record = await home.withdraw(target)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "target": target}, [told(result, f"withdrawal of {target}")])

    act(arguments, work)
