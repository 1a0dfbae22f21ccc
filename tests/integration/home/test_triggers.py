"""Triggers and conditions in real automations, on what happens on a real ledger."""

from functools import partial
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import condition, trigger
from homeassistant.helpers import config_validation as cv
from homeassistant.setup import async_setup_component

from custom_components.energy_ledger.condition import CONDITIONS
from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.describe import trade_data
from custom_components.energy_ledger.events import (
    EndReason,
    async_tell,
    delivery_ended,
    delivery_started,
    shortfall_expected,
)
from custom_components.energy_ledger.matching import matches
from custom_components.energy_ledger.quantities import local_text
from custom_components.energy_ledger.trigger import TRIGGERS
from ledger_core.records.offers import Auction

from .conftest import SLOT, Street

AUTOMATION = "automation"


async def automate(hass: HomeAssistant, *triggers: dict[str, Any], **more: Any) -> None:
    """Set up an automation that tells its trigger's variables."""
    fields = ("platform", "config_entry_id", "event", "data")
    told = {name: f"{{{{ trigger.{name} }}}}" for name in fields}
    config = {
        "triggers": list(triggers),
        "actions": [{"action": "test.automation", "data": told}],
        "mode": "queued",
        **more,
    }
    assert await async_setup_component(hass, AUTOMATION, {AUTOMATION: config})
    await hass.async_block_till_done()
    assert hass.states.async_entity_ids_count(AUTOMATION) == 1
    assert all(state.state == "on" for state in hass.states.async_all(AUTOMATION))


def on(kind: str, **options: Any) -> dict[str, Any]:
    return {"trigger": f"energy_ledger.{kind}", "options": options}


async def test_offer_received(street: Street) -> None:
    await automate(street.hass, on("offer_received"))
    offer = await street.offer()
    (told,) = await street.told()
    assert told["event"] == "offer_received"
    assert told["config_entry_id"] == street.entry.entry_id
    data = told["data"]
    assert data["offer"] == offer.offer
    assert data["author"] == street.home("bert").address
    assert (data["price"], data["quantity"], data["unit"], data["total"]) == (0.2, 2.0, "kWh", 0.4)
    assert data["start"] == local_text(offer.start)
    assert data["raw"]["price"] == 200_000


async def test_own_offers_and_those_for_others_are_not_received(street: Street) -> None:
    await automate(street.hass, on("offer_received"))
    await street.offer("anna")
    await street.offer(audience=[street.world["cara"].id])
    mine = await street.offer(audience=[street.world["anna"].id])
    (told,) = await street.told()
    assert told["data"]["offer"] == mine.offer


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"price_below": 0.25}, True),
        ({"price_below": 0.2}, False),
        ({"price_above": 0.19}, True),
        ({"price_above": 0.2}, False),
        ({"min_quantity": 2}, True),
        ({"min_quantity": 2.1}, False),
        ({"max_quantity": 2}, True),
        ({"max_quantity": 1.9}, False),
        ({"side": "sell", "carrier": "electricity", "basis": "energy"}, True),
        ({"side": "buy"}, False),
        ({"carrier": "heat"}, False),
        ({"basis": "capacity"}, False),
        ({"author": ["el1nobody"]}, False),
        ({"author": []}, True),
    ],
)
def test_filters_of_offers(options: dict[str, Any], passes: bool) -> None:
    checked = TRIGGERS["offer_received"].schema({"options": options})["options"]  # type: ignore[attr-defined]
    offer = {
        "side": "sell",
        "carrier": "electricity",
        "basis": "energy",
        "author": "el1bert",
        "price": 0.2,
        "open": 2.0,
    }
    assert matches(checked, offer) is passes


async def test_filter_by_author(street: Street) -> None:
    await automate(street.hass, on("offer_received", author=[street.home("cara").address]))
    await street.offer("bert")
    offer = await street.offer("cara", asset=street.world_asset("cara battery"), quantity=500)
    (told,) = await street.told()
    assert told["data"]["offer"] == offer.offer


async def test_counter_received(street: Street) -> None:
    await automate(street.hass, on("counter_received", price_above=0.1))
    offer = await street.offer("anna")
    await street.home("bert").counter(offer, price=50_000)
    acceptance = await street.home("cara").counter(offer, price=150_000, quantity=800)
    await street.node.mine()
    (told,) = await street.told()
    data = told["data"]
    assert (data["acceptance"], data["price"], data["quantity"]) == (acceptance, 0.15, 0.8)
    assert (data["unit"], data["bid"], data["own"]) == ("kWh", False, False)


async def test_a_trade_from_its_agreement_to_its_settlement(street: Street) -> None:
    await automate(
        street.hass,
        on("trade_agreed", role="buyer", min_quantity=1),
        on("trade_agreed", role="seller"),
        on("slot_settled", disputed=True),
        on("slot_settled", disputed=False),
        on("shortfall", stage="settled"),
        on("shortfall", stage="expected"),
    )
    trade = await street.buy()
    (agreed,) = await street.told()
    data = agreed["data"]
    assert (data["trade"], data["role"], data["quantity"]) == (trade.trade, "buyer", 1.0)
    assert data["partner"] == street.home("bert").address
    await street.settle(trade, exported=500, imported=300)
    told = await street.told(5)
    kinds = [each["event"] for each in told]
    assert kinds == ["trade_agreed", "slot_settled", "shortfall", "slot_settled", "shortfall"]
    settled = told[1]["data"]
    assert (settled["agreed_kwh"], settled["sent_kwh"], settled["received_kwh"]) == (0.5, 0.5, 0.3)
    assert (settled["delivered_kwh"], settled["missing_kwh"], settled["paid"]) == (0.3, 0.2, 0.06)
    assert (settled["difference_kwh"], settled["price"]) == (0.2, 0.2)
    assert (settled["agreed_amount"], settled["difference_amount"]) == (0.1, 0.04)
    assert settled["slot_end"] == local_text(trade.start + SLOT)
    assert told[2]["data"]["stage"] == "settled"


async def test_a_trade_terminated_by_the_other_side(street: Street) -> None:
    await automate(street.hass, on("trade_terminated", own=False), on("trade_terminated", own=True))
    trade = await street.buy()
    await street.home("bert").terminate(trade.trade, compensation=200_000)
    await street.node.mine()
    (told,) = await street.told()
    assert told["data"]["by"] == street.home("bert").address
    assert told["data"]["compensation"] == 0.2
    assert told["data"]["end"] == local_text(trade.start)


async def test_deliveries(street: Street) -> None:
    await automate(
        street.hass,
        on("delivery_started", role="buyer"),
        on("delivery_ended", reason="reserve_reached"),
        on("shortfall", stage="expected", partner=[street.home("bert").address]),
    )
    trade = await street.buy()
    home = street.world["anna"].id.hex()
    tell = (
        delivery_started(trade, home, trade.start, "device"),
        shortfall_expected(trade, home, trade.start + 60, trade.start + SLOT, 500, 350),
        delivery_ended(trade, home, trade.end, EndReason.WINDOW_ENDED, 900),
        delivery_ended(trade, home, trade.end, EndReason.RESERVE_REACHED, 900),
    )
    for event in tell:
        async_tell(street.hass, street.entry.entry_id, event)
    started, short, ended = await street.told(3)
    assert (started["event"], started["data"]["device"]) == ("delivery_started", "device")
    assert (short["data"]["agreed_kwh"], short["data"]["missing_kwh"]) == (0.5, 0.15)
    assert (ended["data"]["reason"], ended["data"]["sent_kwh"]) == ("reserve_reached", 0.9)


def has_balance(street: Street, micro: int) -> bool:
    return bool(street.view.account.balance == micro)


async def test_balance_below(street: Street) -> None:
    await automate(street.hass, on("balance_below", balance=-1))
    for amount, expected in ((600_000, 0), (600_000, 1), (600_000, 1)):
        await street.home("anna").transfer(street.world["bert"].id, amount)
        before = street.view.account.balance
        await street.node.mine()
        await street.until(partial(has_balance, street, before - amount))
        assert len(street.calls) == expected
    (told,) = await street.told()
    assert told["data"] == {"balance": -1.2, "before": -0.6, "limit": -1.0}
    await street.home("bert").transfer(street.world["anna"].id, 1_800_000)
    await street.node.mine()
    await street.until(lambda: street.view.account.balance == 0)
    assert await street.hass.config_entries.async_reload(street.entry.entry_id)
    await street.hass.async_block_till_done()
    await street.home("anna").transfer(street.world["bert"].id, 1_500_000)
    await street.node.mine()
    assert len(await street.told(2)) == 2
    await street.hass.services.async_call(AUTOMATION, "turn_off", {"entity_id": "all"}, blocking=True)
    await street.home("bert").transfer(street.world["anna"].id, 1_500_000)
    await street.home("anna").transfer(street.world["bert"].id, 1)
    await street.node.mine()
    await street.until(lambda: street.view.account.balance == -1)
    assert len(street.calls) == 2


async def test_an_automation_set_up_before_the_home(street: Street) -> None:
    """Home Assistant starts automations and entries in any order; nothing of either is lost."""
    assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    await automate(street.hass, on("offer_received"), on("balance_below", balance=-1))
    assert await street.hass.config_entries.async_setup(street.entry.entry_id)
    offer = await street.offer()
    (told,) = await street.told()
    assert told["data"]["offer"] == offer.offer
    await street.home("anna").transfer(street.world["bert"].id, 2_000_000)
    await street.node.mine()
    assert (await street.told(2))[1]["event"] == "balance_below"


async def test_another_home_is_not_meant(street: Street, node: Any, make_entry: Any) -> None:
    other = await make_entry(node, "bert")
    await automate(
        street.hass,
        on("offer_received", config_entry_id=other.entry_id),
        on("balance_below", balance=1, config_entry_id=other.entry_id),
    )
    await street.offer("bert")
    offer = await street.offer("anna")
    (told,) = await street.told()
    assert (told["data"]["offer"], told["config_entry_id"]) == (offer.offer, other.entry_id)


@pytest.mark.parametrize(
    "config",
    [
        on("offer_received", side="steal"),
        on("offer_received", price_below="cheap"),
        on("balance_below"),
        on("delivery_ended", reason="boredom"),
        on("offer_received", config_entry_id="unknown"),
        on("offer_received", colour="red"),
    ],
)
async def test_a_trigger_with_wrong_options(hass: HomeAssistant, config: dict[str, Any]) -> None:
    import voluptuous as vol

    assert await async_setup_component(hass, DOMAIN, {})
    assert await async_setup_component(hass, AUTOMATION, {})
    with pytest.raises(vol.Invalid):
        await trigger.async_validate_trigger_config(hass, cv.TRIGGER_SCHEMA([config]))


async def check(hass: HomeAssistant, name: str, variables: Any = None, **options: Any) -> bool:
    config = {"condition": f"energy_ledger.{name}", "options": options}
    checker = await condition.async_from_config(
        hass, await condition.async_validate_condition_config(hass, config)
    )
    try:
        return bool(checker.async_check(variables=variables))
    finally:
        checker.async_unload()


async def test_offer_matches(street: Street) -> None:
    assert await async_setup_component(street.hass, AUTOMATION, {})
    hass = street.hass
    assert not await check(hass, "offer_matches")
    await street.offer()
    assert await check(hass, "offer_matches", price_below=0.3)
    assert not await check(hass, "offer_matches", price_below=0.1)
    given = {"offer": "ab", "price": 0.05, "open": 1.0, "side": "sell"}
    assert await check(hass, "offer_matches", {"offer": given}, price_below=0.1)
    assert await check(hass, "offer_matches", {"trigger": {"data": given}}, price_below=0.1)
    assert not await check(hass, "offer_matches", {"trigger": {"data": given}}, side="buy")
    assert await check(hass, "offer_matches", {"trigger": {"data": {"trade": 1}}}, price_below=0.3)
    # A trade or a counter is not the offer that it is of: then any open offer may match.
    bought = await street.agreed(await street.home("anna").accept(await street.offer(price=100_000), 2_000))
    trade = {**trade_data(bought, street.world["anna"].id.hex())}
    assert not await check(hass, "offer_matches", {"trigger": {"data": trade}}, price_below=0.15)
    counter = {"offer": "ab", "acceptance": "cd", "price": 0.05, "quantity": 1.0}
    assert not await check(hass, "offer_matches", {"trigger": {"data": counter}}, price_below=0.15)
    assert await check(hass, "offer_matches", {"trigger": {"data": counter}}, price_below=0.3)


async def test_trading_now(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await async_setup_component(street.hass, AUTOMATION, {})
    trade = await street.buy()
    assert not await check(street.hass, "trading_now")
    monkeypatch.setattr("custom_components.energy_ledger.condition.now_s", lambda: trade.start)
    assert await check(street.hass, "trading_now")
    assert await check(street.hass, "trading_now", role="buyer")
    assert not await check(street.hass, "trading_now", role="seller")


async def test_balance_above(street: Street) -> None:
    assert await async_setup_component(street.hass, AUTOMATION, {})
    assert await check(street.hass, "balance_above", balance=-1)
    assert not await check(street.hass, "balance_above", balance=0)
    assert not await check(street.hass, "balance_above", balance=-1, config_entry_id=await unloaded(street))


async def unloaded(street: Street) -> str:
    """The entry, which is not loaded any more."""
    assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    return str(street.entry.entry_id)


async def test_an_automation_accepts_what_a_condition_lets_through(street: Street) -> None:
    """Trigger, condition and action of this integration together make a trade."""
    await automate(
        street.hass,
        on("offer_received"),
        conditions=[{"condition": "energy_ledger.offer_matches", "options": {"price_below": 0.15}}],
        actions=[{"action": "energy_ledger.accept", "data": {"offer": "{{ trigger.data.offer }}"}}],
    )
    await street.offer()
    cheap = await street.offer(price=100_000)
    runs = street.hass.states.async_all(AUTOMATION)[0].entity_id

    def ran() -> bool:
        state = street.hass.states.get(runs)
        return state is not None and state.attributes["last_triggered"] is not None

    await street.until(ran)
    await street.node.mine()
    await street.until(lambda: street.trades)
    assert [trade.offer for trade in street.trades.values()] == [cheap.offer]


async def test_a_bid_is_told_to_the_offerer(street: Street) -> None:
    await automate(street.hass, on("counter_received"))
    start = street.start(8)
    offer = await street.offer(
        "anna", start=start, end=start + SLOT, auction=Auction(start - 3600, 400_000, 100_000)
    )
    await street.home("bert").bid(offer, 300_000)
    await street.node.mine()
    (told,) = await street.told()
    assert (told["data"]["bid"], told["data"]["price"]) == (True, 0.3)


async def test_all_are_registered(street: Street) -> None:
    assert await async_setup_component(street.hass, AUTOMATION, {})
    triggers = await trigger.async_get_all_descriptions(street.hass)
    assert {f"energy_ledger.{name}" for name in TRIGGERS} <= set(triggers)
    assert all(triggers[f"energy_ledger.{name}"] for name in TRIGGERS)
    conditions = await condition.async_get_all_descriptions(street.hass)
    assert all(conditions[f"energy_ledger.{name}"] for name in CONDITIONS)
