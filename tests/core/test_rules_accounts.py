"""Money: mutual credit and prepaid, holds, transfers, fees that mature with finality."""

from ledger_core.community import MoneyMode
from ledger_core.records.money import TransferKind
from ledger_core.rules.rows import AccountRow
from tests.core.actions import (
    accept,
    agree,
    issue,
    meters,
    money,
    offer,
    refusal,
    settle,
    street,
    transfer,
)


def test_issuing_costs_no_fee_or_nobody_could_ever_pay_one() -> None:
    world = street(money_mode=MoneyMode.PREPAID, fee=500)
    world.mine(issue(world, "bert", 10_000))
    assert money(world, "bert").balance == 10_000
    assert not world.state.fees
    world.mine(transfer(world, "bert", "anna", 1_000))
    assert money(world, "bert").balance == 10_000 - 1_000 - 500
    assert world.state.tip.issued == 10_000
    assert refusal(world, transfer(world, "anna", "cara", 501)).code == "funds_insufficient"


def test_mutual_credit_sums_to_zero_down_to_each_limit() -> None:
    world = street(credit_limit=1_000)
    world.mine(transfer(world, "anna", "bert", 1_000))
    assert refusal(world, transfer(world, "anna", "bert", 1)).code == "funds_insufficient"
    world.mine(transfer(world, "bert", "cara", 2_000))
    assert [money(world, name).balance for name in ("anna", "bert", "cara")] == [-1_000, -1_000, 2_000]


def test_prepaid_money_is_issued_and_redeemed() -> None:
    world = street(money_mode=MoneyMode.PREPAID)
    assert refusal(world, transfer(world, "bert", "anna", 1)).code == "funds_insufficient"
    world.mine(issue(world, "bert", 10_000))
    world.mine(transfer(world, "bert", "cara", 4_000))
    world.mine(transfer(world, "cara", "anna", 3_999, kind=TransferKind.REDEEM))
    assert [money(world, name).balance for name in ("anna", "bert", "cara")] == [0, 6_000, 1]
    assert world.state.tip.issued == 6_001
    assert (
        refusal(world, transfer(world, "cara", "anna", 2, kind=TransferKind.REDEEM)).code
        == "funds_insufficient"
    )


def test_prepaid_balances_never_fall_below_zero_by_a_trade() -> None:
    world = street(money_mode=MoneyMode.PREPAID)
    world.mine(issue(world, "bert", 800_000))
    trade = agree(world)
    assert (money(world, "bert").balance, money(world, "bert").held) == (800_000, 800_000)
    assert refusal(world, transfer(world, "bert", "cara", 1)).code == "funds_insufficient"
    meters(world, {"anna": [1_000] * 4}, {"bert": [1_000] * 4})
    settle(world)
    assert trade.id in world.state.closed
    assert money(world, "bert") == AccountRow(0, 0)
    assert money(world, "anna").balance == 800_000


def test_held_money_can_not_be_spent_twice() -> None:
    world = street(credit_limit=1_000_000)
    agree(world)
    error = refusal(world, transfer(world, "bert", "cara", 200_001))
    assert (error.code, error.details["left"]) == ("funds_insufficient", 200_000)


def test_fee_is_taken_from_offers_acceptances_and_payments_alone() -> None:
    world = street(fee=100)
    assert not world.state.fees
    offered = offer(world)
    world.mine(offered)
    world.mine(accept(world, "bert", offered))
    world.mine(transfer(world, "cara", "anna", 1))
    assert [money(world, name).balance for name in ("anna", "bert", "cara")] == [-99, -100, -101]
    assert [row.amount for row in world.state.fees.values()] == [100, 100, 100]


def test_refused_record_costs_no_fee() -> None:
    world = street(fee=100)
    assert refusal(world, offer(world, quantity=10_001)).code == "power_unavailable"
    assert money(world, "anna").balance == 0


def test_fee_must_be_left_after_what_is_held() -> None:
    world = street(fee=100, credit_limit=800_099)
    offered = offer(world)
    world.mine(offered)
    error = refusal(world, accept(world, "bert", offered))
    assert (error.code, error.details["left"]) == ("funds_insufficient", 799_999)
