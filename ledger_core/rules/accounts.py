"""Accounts: one currency wallet per member with holds, one energy wallet per member and carrier.

The sum of all balances and of all fees that are not final yet equals what was issued: nothing in mutual
credit, the authorities' top-ups in prepaid mode.
"""

from msgspec.structs import replace

from ledger_core.community import MoneyMode
from ledger_core.errors import RuleError
from ledger_core.records.body import Body
from ledger_core.records.codec import Record
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.types import Role
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import MoneyMoved
from ledger_core.rules.rows import AccountRow, EnergyRow, FeeRow
from ledger_core.rules.state import CHAIN
from ledger_core.units import MAX_AMOUNT

EMPTY_ACCOUNT = AccountRow(0, 0)
EMPTY_ENERGY = EnergyRow(0, 0)


def account(ctx: Context, member: bytes) -> AccountRow:
    """Return a member's account; one that never moved is empty."""
    return ctx.state.accounts.get(member, EMPTY_ACCOUNT)


def require_spendable(ctx: Context, member: bytes, amount: int) -> AccountRow:
    """Return a member's account; raises RuleError `funds_insufficient` unless it can pay an amount."""
    row = account(ctx, member)
    left = row.balance + ctx.credit_limit - row.held
    if amount > left:
        raise RuleError(
            "funds_insufficient",
            f"{amount} micro-currency are needed, {left} are left",
            member=member,
            needed=amount,
            left=left,
        )
    return row


def hold(ctx: Context, member: bytes, amount: int) -> None:
    """Set an amount aside; raises RuleError `funds_insufficient`."""
    if amount:
        row = require_spendable(ctx, member, amount)
        ctx.put(ctx.state.accounts, member, AccountRow(row.balance, row.held + amount))


def unhold(ctx: Context, member: bytes, amount: int) -> None:
    """Free an amount that is held."""
    if amount:
        row = account(ctx, member)
        ctx.put(ctx.state.accounts, member, AccountRow(row.balance, row.held - amount))


def move(ctx: Context, source: bytes, target: bytes, amount: int, *, held: int = 0) -> None:
    """Move money; `held` of the source's holds is freed at the same time."""
    if not amount and not held:
        return
    row = account(ctx, source)
    ctx.put(ctx.state.accounts, source, AccountRow(row.balance - amount, row.held - held))
    if amount:
        row = account(ctx, target)
        ctx.put(ctx.state.accounts, target, AccountRow(row.balance + amount, row.held))


def count_energy(ctx: Context, seller: bytes, buyer: bytes, carrier: str, watt_hours: int) -> None:
    """Add delivered energy to both sides' wallets."""
    if not watt_hours:
        return
    energy = ctx.state.energy
    row = energy.get((seller, carrier), EMPTY_ENERGY)
    ctx.put(energy, (seller, carrier), EnergyRow(row.sold_wh + watt_hours, row.bought_wh))
    row = energy.get((buyer, carrier), EMPTY_ENERGY)
    ctx.put(energy, (buyer, carrier), EnergyRow(row.sold_wh, row.bought_wh + watt_hours))


def charge_fee(ctx: Context, body: Body) -> int:
    """Take the community's fee from a record's author; returns it for the block's miner.

    Issuing is free: before it there is no prepaid money to pay with.
    """
    fee, payer = ctx.parameters.fee, body.author
    if isinstance(body, Transfer) and body.kind is TransferKind.ISSUE:
        return 0
    if fee:
        row = require_spendable(ctx, payer, fee)
        ctx.put(ctx.state.accounts, payer, AccountRow(row.balance - fee, row.held))
    return fee


def collect_fees(ctx: Context, miner: bytes, amount: int) -> None:
    """Keep a block's fees for its miner until the block is final."""
    if amount:
        ctx.put(ctx.state.fees, ctx.height, FeeRow(miner, amount))


def pay_final_fees(ctx: Context, final_height: int) -> None:
    """Give the miners the fees of all blocks up to a final one."""
    for height in sorted(height for height in ctx.state.fees if height <= final_height):
        row = ctx.drop(ctx.state.fees, height)
        balance = account(ctx, row.member)
        ctx.put(ctx.state.accounts, row.member, AccountRow(balance.balance + row.amount, balance.held))


def apply_transfer(ctx: Context, record: Record) -> None:
    """Pay a member; in prepaid mode also issue and redeem."""
    body = body_of(record, Transfer)
    ctx.require_role(body.author, Role.AUTHORITY if body.kind is TransferKind.ISSUE else Role.HOME)
    if body.to == body.author:
        raise RuleError("transfer_to_self", "a transfer needs two different members", member=body.to)
    if body.kind is TransferKind.PAY:
        ctx.require_role(body.to, Role.HOME)
        require_spendable(ctx, body.author, body.amount)
        move(ctx, body.author, body.to, body.amount)
    else:
        _issue_or_redeem(ctx, body)
    ctx.events.append(MoneyMoved(record.id, str(body.kind), body.author, body.to, body.amount))


def _issue_or_redeem(ctx: Context, body: Transfer) -> None:
    if ctx.parameters.money_mode is not MoneyMode.PREPAID:
        raise RuleError(
            "money_not_prepaid",
            "money is issued and redeemed in prepaid communities only",
            kind=str(body.kind),
        )
    chain = ctx.state.tip
    if body.kind is TransferKind.ISSUE:
        ctx.require_role(body.to, Role.HOME)
        issued = chain.issued + body.amount
        if issued > MAX_AMOUNT:
            raise RuleError(
                "issue_too_large", f"at most {MAX_AMOUNT} may exist", issued=issued, limit=MAX_AMOUNT
            )
        holder, change = body.to, body.amount
    else:
        ctx.require_role(body.to, Role.AUTHORITY)
        require_spendable(ctx, body.author, body.amount)
        issued = chain.issued - body.amount
        holder, change = body.author, -body.amount
    row = account(ctx, holder)
    ctx.put(ctx.state.accounts, holder, AccountRow(row.balance + change, row.held))
    ctx.put(ctx.state.chain, CHAIN, replace(chain, issued=issued))
