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
    price = None if arguments.price is None else money(arguments.price, "--price")
    start = None if arguments.start is None else moment(arguments.start, "--from")
    end = None if arguments.end is None else moment(arguments.end, "--to")
    until = None if arguments.valid_until is None else moment(arguments.valid_until, "--valid-until")

    async def work(home: Home) -> None:
        visible = await home.client.all_offers(OffersQuery(visible_to=home.address, limit=500))
        wanted = whole_id(arguments.id, (each.offer for each in visible), "offer open to this member")
        offer = next(each for each in visible if each.offer == wanted)
        quantity = quantity_of(arguments.quantity, offer.basis, "--quantity")
        slot = await home.slot_s()
        for value, name in ((start, "--from"), (end, "--to")):
            if value is not None:
                require_slot(value, slot, name)
        asset = await _taking_part(home, arguments, offer)
        if offer.auction is not None:
            if price is None or start is not None or end is not None:
                raise UsageError("the offer is an auction: bid with --price, for its own window")
            what, record = "bid", await home.bid(offer, price, quantity, asset=asset)
        elif price is None and start is None and end is None:
            what, record = "trade", await home.accept(offer, quantity, asset=asset)
        else:
            terms: NewTerms = {"asset": asset}
            given = {"price": price, "start": start, "end": end, "quantity": quantity, "valid_until": until}
            terms.update({name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
            what, record = "proposal", await home.counter(offer, **terms)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "kind": what, "offer": wanted}, [told(result, f"{what} {record}")])

    act(arguments, work)


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
