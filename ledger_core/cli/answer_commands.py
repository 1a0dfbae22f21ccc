"""`energy-ledger accept`, `waiting`, `confirm`, `reject`: saying yes, bidding, agreeing on other terms."""

import argparse
from collections.abc import Awaitable, Callable

from ledger_core.cli.connection import (
    act,
    add_key,
    add_member,
    add_node,
    add_wait,
    ask,
    member_of,
    plain,
    settled,
    told,
    whole_id,
)
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.offer_commands import only_supplier, quantity_of, require_slot
from ledger_core.cli.output import show
from ledger_core.cli.quantities import (
    moment,
    money,
    show_address,
    show_id,
    show_price,
    show_quantity,
    show_time,
    show_window,
)
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.changes import NewTerms
from ledger_core.client.home import Home
from ledger_core.client.views import AssetsQuery, OffersQuery, OfferView, WaitingQuery, WaitingView


def register(program: Program) -> None:
    """Add the commands to the program."""
    accept = program.single().command(
        "accept", _accept, "accept an offer or request, bid in an auction, or propose other terms", json=True
    )
    accept.add_argument("id", metavar="ID", help="of the offer, or its first digits")
    accept.add_argument("--quantity", metavar="QUANTITY", help="a part: kWh, or kW of capacity")
    accept.add_argument("--price", help="in an auction: the bid; otherwise a price to be confirmed")
    accept.add_argument("--from", dest="start", metavar="TIME", help="another start, to be confirmed")
    accept.add_argument("--to", dest="end", metavar="TIME", help="another end, to be confirmed")
    accept.add_argument("--valid-until", metavar="TIME", help="until when other terms may be confirmed")
    accept.add_argument("--asset", metavar="ID", help="what takes part, where several can")
    for add in (add_key, add_wait, add_node):
        add(accept)

    waiting = program.single().command(
        "waiting", _waiting, "list acceptances that wait for a confirmation or an auction", json=True
    )
    add_member(waiting, "whose offers or acceptances")
    add_node(waiting)

    for name, handler, summary in (
        ("confirm", _confirm, "agree to other terms for an own offer"),
        ("reject", _reject, "refuse other terms for an own offer"),
    ):
        parser = program.single().command(name, handler, summary, json=True)
        parser.add_argument("id", metavar="ID", help="of the acceptance, or its first digits")
        for add in (add_key, add_wait, add_node):
            add(parser)


def _accept(arguments: argparse.Namespace) -> None:
    terms = _terms(arguments)

    async def work(home: Home) -> None:
        visible = await home.client.all_offers(OffersQuery(visible_to=home.address, limit=500))
        wanted = whole_id(arguments.id, (each.offer for each in visible), "offer open to this member")
        offer = next(each for each in visible if each.offer == wanted)
        quantity = quantity_of(arguments.quantity, offer.basis, "--quantity")
        slot = await home.slot_s()
        for value, name in ((terms.get("start"), "--from"), (terms.get("end"), "--to")):
            if value is not None:
                require_slot(value, slot, name)
        asset = await _taking_part(home, arguments, offer)
        what, record = await _say_yes(home, offer, terms, quantity, asset)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "kind": what, "offer": wanted}, [told(result, f"{what} {record}")])

    act(arguments, work)


def _terms(arguments: argparse.Namespace) -> NewTerms:
    terms: NewTerms = {}
    if arguments.price is not None:
        terms["price"] = money(arguments.price, "--price")
    if arguments.start is not None:
        terms["start"] = moment(arguments.start, "--from")
    if arguments.end is not None:
        terms["end"] = moment(arguments.end, "--to")
    if arguments.valid_until is not None:
        terms["valid_until"] = moment(arguments.valid_until, "--valid-until")
    return terms


async def _say_yes(
    home: Home, offer: OfferView, terms: NewTerms, quantity: int | None, asset: str | None
) -> tuple[str, str]:
    """Bid, accept or propose other terms, as offer and terms ask for; return which it was, and the record."""
    changed = terms.keys() - {"valid_until"}
    if "valid_until" in terms and (offer.auction is not None or not changed):
        raise UsageError(
            "--valid-until is for other terms of an offer with a fixed price: give them with --price, --from "
            "or --to"
        )
    if offer.auction is not None:
        if changed != {"price"}:
            raise UsageError("the offer is an auction: bid with --price, for its own window")
        return "bid", await home.bid(offer, terms["price"], quantity, asset=asset)
    if not changed:
        return "trade", await home.accept(offer, quantity, asset=asset)
    proposed: NewTerms = {**terms, "asset": asset}
    if quantity is not None:
        proposed["quantity"] = quantity
    return "proposal", await home.counter(offer, **proposed)


async def _taking_part(home: Home, arguments: argparse.Namespace, offer: OfferView) -> str | None:
    """Return the asset that is named, or for a request the only one that can supply."""
    if arguments.asset is None and offer.side == "sell":
        return None
    own = await home.client.all_assets(AssetsQuery(owner=home.address, limit=500))
    if arguments.asset is not None:
        return whole_id(arguments.asset, (each.asset for each in own), "asset of this member")
    return only_supplier(own, offer.carrier)


def _waiting(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        member = await member_of(client, arguments.member)
        mine = await client.all_waiting_acceptances(WaitingQuery(author=member, limit=500))
        others = await client.all_waiting_acceptances(WaitingQuery(offerer=member, limit=500))
        bases = {each.offer: each.basis for each in await client.all_offers()}
        currency = (await client.status()).currency
        rows = [
            _waiting_row(each, bases.get(each.offer, "energy"), currency, member) for each in others + mine
        ]
        lines = columns(("id", "by", "quantity", "window", "price", "valid until", ""), rows, "nothing waits")
        show(arguments, {"items": plain(others + mine)}, lines)

    ask(arguments, work)


def _waiting_row(each: WaitingView, basis: str, currency: str, member: str) -> tuple[str, ...]:
    if each.bid:
        remark = "bid"
    else:
        remark = "to be confirmed by the other side" if each.author.address == member else "to be answered"
    return (
        show_id(each.acceptance),
        show_address(each.author.address),
        show_quantity(each.quantity, basis),
        show_window(each.start, each.end),
        show_price(each.price, currency, basis),
        show_time(each.valid_until),
        remark,
    )


def _confirm(arguments: argparse.Namespace) -> None:
    _answer(arguments, "confirmation", lambda home, acceptance: home.confirm(acceptance))


def _reject(arguments: argparse.Namespace) -> None:
    _answer(arguments, "rejection", lambda home, acceptance: home.reject(acceptance))


def _answer(arguments: argparse.Namespace, what: str, answer: Callable[[Home, str], Awaitable[str]]) -> None:
    async def work(home: Home) -> None:
        waiting = await home.client.all_waiting_acceptances(WaitingQuery(offerer=home.address, limit=500))
        known = [each.acceptance for each in waiting if not each.bid]
        acceptance = whole_id(arguments.id, known, "acceptance that waits for this member")
        record = await answer(home, acceptance)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "acceptance": acceptance}, [told(result, f"{what} of {acceptance}")])

    act(arguments, work)
