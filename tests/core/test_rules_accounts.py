"""Money: mutual credit and prepaid, holds, transfers, fees that mature with finality."""

from ledger_core.community import MoneyMode
from tests.core.actions import issue, money, refusal, street, transfer


def test_issuing_costs_no_fee_or_nobody_could_ever_pay_one() -> None:
    world = street(money_mode=MoneyMode.PREPAID, fee=500)
    world.mine(issue(world, "bert", 10_000))
    assert money(world, "bert").balance == 10_000
    assert not world.state.fees
    world.mine(transfer(world, "bert", "anna", 1_000))
    assert money(world, "bert").balance == 10_000 - 1_000 - 500
    assert world.state.tip.issued == 10_000
    assert refusal(world, transfer(world, "anna", "cara", 501)).code == "funds_insufficient"
