"""`energy-ledger balance` and `energy-ledger transfer`: a member's money."""

import argparse
from typing import Any

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
)
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import show, table
from ledger_core.cli.quantities import money, show_address, show_energy, show_money
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.bodies import id_of
from ledger_core.client.home import Home
from ledger_core.client.views import AccountView
from ledger_core.keys import address
from ledger_core.records.money import TransferKind


def register(program: Program) -> None:
    """Add the commands to the program."""
    balance = program.single().command(
        "balance", _balance, "tell a member's money, energy and reputation", json=True
    )
    whose = balance.add_mutually_exclusive_group()
    add_member(whose, "whose account")
    whose.add_argument("--all", action="store_true", help="everybody's, in a table")
    add_node(balance)

    transfer = program.single().command("transfer", _transfer, "pay a member", json=True)
    transfer.add_argument("to", metavar="KEY", help="who gets it: an address, a public key or a key file")
    transfer.add_argument("amount", metavar="AMOUNT", help="such as 12.50")
    transfer.add_argument(
        "--reference", metavar="ID", help="what it is for: a trade's id, an invoice's SHA-256"
    )
    kind = transfer.add_mutually_exclusive_group()
    kind.add_argument("--issue", action="store_true", help="as an authority: top a prepaid member up")
    kind.add_argument("--redeem", action="store_true", help="give prepaid money back to an authority")
    for add in (add_key, add_wait, add_node):
        add(transfer)


def _balance(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        currency = (await client.status()).currency
        if arguments.all:
            accounts = await client.all_accounts()
            show(arguments, {"items": plain(accounts)}, _accounts(accounts, currency))
            return
        account = await client.account(await member_of(client, arguments.member))
        show(arguments, plain(account), table(account_rows(account, currency)))

    ask(arguments, work)


def account_rows(account: AccountView, currency: str) -> dict[str, object]:
    """Return an account by name, for people."""
    known = account.reputation
    score = known.mean_score_tenths
    rows: dict[str, object] = {
        "member": account.member.address,
        "balance": show_money(account.balance, currency),
        "held": f"{show_money(account.held, currency)} for trades and bids under way",
        "spendable": show_money(account.spendable, currency),
    }
    if account.fees_waiting:
        rows["fees"] = f"{show_money(account.fees_waiting, currency)} of mined fees that are not final yet"
    for each in account.energy:
        rows[each.carrier] = f"sold {show_energy(each.sold_wh)}, bought {show_energy(each.bought_wh)}"
    rows["delivered"] = (
        f"{known.delivered_permille / 10:g} % of what was agreed lately" if known.agreed_wh else "nothing yet"
    )
    rows["score"] = "-" if score is None else f"{score / 10:g} of 10, by {known.scores} scores"
    return rows


def _accounts(accounts: list[AccountView], currency: str) -> list[str]:
    return columns(
        ("member", "balance", "held", "spendable"),
        [
            (
                show_address(each.member.address),
                show_money(each.balance, currency),
                show_money(each.held, currency),
                show_money(each.spendable, currency),
            )
            for each in accounts
        ],
        "no members",
    )


def _transfer(arguments: argparse.Namespace) -> None:
    to, amount = public_key_of(arguments.to), money(arguments.amount, "AMOUNT")
    if not amount:
        raise UsageError("AMOUNT: nothing would be paid")
    reference = None if arguments.reference is None else id_of(arguments.reference)
    kind = TransferKind.PAY
    if arguments.issue or arguments.redeem:
        kind = TransferKind.ISSUE if arguments.issue else TransferKind.REDEEM

    async def work(home: Home) -> None:
        # A mistyped key that is a key nevertheless must not be paid.
        await home.client.member(to.hex())
        record = await home.transfer(to, amount, kind=kind, reference=reference)
        result: dict[str, Any] = await settled(arguments, home.client, record)
        currency = (await home.client.status()).currency
        line = told(result, f"{show_money(amount, currency)} to {address(to)} ({record})")
        show(arguments, {**result, "to": address(to), "amount": amount}, [line])

    act(arguments, work)
