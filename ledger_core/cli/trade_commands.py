"""`energy-ledger trades` and `terminate`: what is agreed and under way, and ending it early."""

import argparse

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
from ledger_core.cli.frame import Program
from ledger_core.cli.offer_commands import require_slot
from ledger_core.cli.output import show
from ledger_core.cli.quantities import (
    moment,
    money,
    show_address,
    show_energy,
    show_id,
    show_money,
    show_price,
    show_quantity,
    show_window,
)
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.home import Home
from ledger_core.client.views import TradesQuery, TradeView


def register(program: Program) -> None:
    """Add the commands to the program."""
    trades = program.single().command("trades", _trades, "list trades that are not settled yet", json=True)
    whose = trades.add_mutually_exclusive_group()
    add_member(whose, "whose trades")
    whose.add_argument("--all", action="store_true", help="everybody's")
    add_node(trades)

    end = program.single().command("terminate", _terminate, "end a trade early", json=True)
    end.add_argument("id", metavar="ID", help="of the trade, or its first digits")
    end.add_argument("--end", metavar="TIME", help="the new end (otherwise the next slot boundary)")
    end.add_argument(
        "--compensation", metavar="AMOUNT", default="0", help="paid to the other side (otherwise 0)"
    )
    for add in (add_key, add_wait, add_node):
        add(end)


def _trades(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        member = None if arguments.all else await member_of(client, arguments.member)
        trades = await client.all_trades(TradesQuery(member=member, limit=500))
        trades.sort(key=lambda each: (each.start, each.trade))
        currency = (await client.status()).currency
        show(arguments, {"items": plain(trades)}, trade_table(trades, currency, member))

    ask(arguments, work)


def trade_table(trades: list[TradeView], currency: str, member: str | None) -> list[str]:
    """Return trades as lines, as a member sees them; without a member with both sides."""
    return columns(
        ("id", "side", "with", "quantity", "window", "price", "delivered", "paid", ""),
        [
            (
                show_id(each.trade),
                *_sides(each, member),
                show_quantity(each.quantity, each.basis),
                show_window(each.start, each.end),
                show_price(each.price, currency, each.basis),
                show_energy(each.delivered_wh),
                show_money(each.paid, currency),
                "ended early" if each.end != each.agreed_end else "",
            )
            for each in trades
        ],
        "no trades",
    )


def _sides(trade: TradeView, member: str | None) -> tuple[str, str]:
    seller, buyer = show_address(trade.seller.address), show_address(trade.buyer.address)
    if member is None:
        return "sale", f"{seller} > {buyer}"
    return ("sells", buyer) if trade.seller.address == member else ("buys", seller)


def _terminate(arguments: argparse.Namespace) -> None:
    compensation = money(arguments.compensation, "--compensation")
    end = None if arguments.end is None else moment(arguments.end, "--end")

    async def work(home: Home) -> None:
        if end is not None:
            require_slot(end, await home.slot_s(), "--end")
        own = await home.client.all_trades(TradesQuery(member=home.address, limit=500))
        trade = whole_id(arguments.id, (each.trade for each in own), "trade of this member")
        record = await home.terminate(trade, end, compensation)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "trade": trade}, [told(result, f"end of the trade {trade}")])

    act(arguments, work)
