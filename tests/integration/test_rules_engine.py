"""Rules at work: counters, auctions, requests, conditions, lost races, pauses; each says why."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.trading.notebook import Answer
from custom_components.energy_ledger.trading.rule_state import Decided, RuleState, RuleStatus
from ledger_core.client import RefusedError, TimedOutError
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.client.views import EventView
from ledger_core.market.reasons import Reason, Verdict
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker, wait_until
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

AMOUNT = {"min_kwh": 0.1, "max_kwh": 0.5, "horizon_slots": 1, "keep_for_home": False}


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a battery, Bert with a load; both trade by themselves."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        await found.turn_on("anna", "bert")
        yield found


async def sell(homes: Street, price: dict[str, Any], **sections: Any) -> str:
    """Give Anna a selling rule."""
    battery = homes.subentry("anna", "anna battery")
    data = {"device": battery, "price_section": price, "amount_section": AMOUNT, **sections}
    return await homes.add_rule("anna", "sell", data)


async def buy(homes: Street, price: dict[str, Any], **sections: Any) -> str:
    """Give Bert a buying rule."""
    return await homes.add_rule("bert", "buy", {"price_section": price, **sections})


def state(homes: Street, home: str) -> RuleState:
    (found,) = homes.trading(home).rules.values()
    return found


def last(homes: Street, home: str) -> Decided:
    found = state(homes, home).last()
    assert found is not None
    return found


async def step(homes: Street) -> None:
    """Everybody looks, and a block is mined."""
    await homes.look()
    await homes.mine()


async def test_a_little_too_dear_is_countered_and_confirmed(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.30, "floor": 0.20})
    await buy(homes, {"source": "fixed", "price": 0.25, "counter": 30})
    await step(homes)
    await step(homes)
    assert last(homes, "bert").decision.verdict is Verdict.COUNTER
    await step(homes)
    assert last(homes, "anna").decision.verdict is Verdict.CONFIRM
    (trade,) = homes.entries["bert"].runtime_data.ledger.data.trades
    assert (trade.origin, trade.price) == ("countered", 250_000)


async def test_below_the_floor_a_counter_is_rejected_and_not_repeated(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.30, "floor": 0.28})
    await buy(homes, {"source": "fixed", "price": 0.25, "counter": 30})
    await step(homes)
    await step(homes)
    await step(homes)
    assert last(homes, "anna").decision.reason is Reason.PRICE_BELOW_FLOOR
    await step(homes)
    assert last(homes, "bert").decision.reason is Reason.COUNTERED_BEFORE
    assert not homes.entries["bert"].runtime_data.ledger.data.waiting


async def test_a_counter_is_taken_back_when_buying_is_switched_off(homes: Street) -> None:
    await buy(homes, {"source": "fixed", "price": 0.25, "counter": 30})
    anna = homes.entries["anna"].runtime_data
    battery = anna.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // 900 * 900 + 2700
    await anna.home.offer(
        OfferTerms(quantity=200, start=start, end=start + 900, price=270_000, asset=battery)
    )
    await homes.mine()
    await step(homes)
    bert = homes.entries["bert"].runtime_data
    assert [waiting.price for waiting in bert.ledger.data.waiting] == [250_000]
    assert bert.settings is not None
    await bert.settings.async_change(automatic_buying=False)
    await step(homes)
    assert not bert.ledger.data.waiting


async def test_an_auction_is_bid_for_and_awarded(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.20, "floor": 0.10}, partners_section={"auction": True})
    await buy(homes, {"source": "fixed", "price": 0.22})
    await step(homes)
    (offer,) = homes.entries["bert"].runtime_data.ledger.data.offers
    assert offer.auction is not None
    assert (offer.auction.reserve, offer.auction.closes) == (100_000, offer.start - 60)
    await step(homes)
    assert last(homes, "bert").decision.verdict is Verdict.BID
    await homes.until_time(offer.auction.closes)
    (trade,) = homes.entries["anna"].runtime_data.ledger.data.trades
    assert (trade.origin, trade.price) == ("auction", 220_000)


async def test_a_request_is_supplied(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.20})
    start = homes.now // 900 * 900 + 2700
    bert = homes.entries["bert"].runtime_data.home
    await bert.request(
        OfferTerms(quantity=300, start=start, end=start + 900, price=210_000, min_quantity=100)
    )
    await homes.mine()
    await step(homes)
    (trade,) = homes.entries["bert"].runtime_data.ledger.data.trades
    assert (trade.quantity, trade.price) == (300, 210_000)


async def test_conditions_decide_with_the_offer_in_view(homes: Street) -> None:
    homes.hass.states.async_set("binary_sensor.car", "off")
    await sell(homes, {"source": "fixed", "price": 0.20})
    await buy(
        homes,
        {"source": "fixed", "price": 0.25},
        conditions=[
            {"condition": "state", "entity_id": "binary_sensor.car", "state": "on"},
            {"condition": "template", "value_template": "{{ offer.price == 0.2 and quantity_kwh > 0.1 }}"},
        ],
    )
    await step(homes)
    await step(homes)
    assert last(homes, "bert").decision.reason is Reason.CONDITIONS_NOT_MET
    homes.hass.states.async_set("binary_sensor.car", "on")
    await step(homes)
    assert last(homes, "bert").decision.verdict is Verdict.ACCEPT
    assert len(homes.entries["bert"].runtime_data.ledger.data.trades) == 1


async def test_a_lost_race_is_noted_and_the_next_offer_tried(homes: Street) -> None:
    await buy(homes, {"source": "fixed", "price": 0.25}, amount_section={"only_need": False})
    anna = homes.entries["anna"].runtime_data.home
    battery = homes.entries["anna"].runtime_data.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // 900 * 900 + 2700
    for price in (100_000, 150_000):
        await anna.offer(OfferTerms(quantity=200, start=start, end=start + 900, price=price, asset=battery))
    await homes.mine()
    # The cheaper one is taken back, which Bert's home does not know yet.
    cheap = min(homes.entries["bert"].runtime_data.ledger.data.offers, key=lambda offer: offer.price)
    await anna.withdraw(cheap.offer)
    await homes.look()
    await homes.mine()
    trades = homes.entries["bert"].runtime_data.ledger.data.trades
    assert 150_000 in [trade.price for trade in trades]


async def test_what_is_wanted_is_bought_once(homes: Street) -> None:
    """Bert draws 500 Wh in a slot; two offers of 500 Wh each do not make it 1000."""
    await buy(homes, {"source": "fixed", "price": 0.25})
    anna = homes.entries["anna"].runtime_data.home
    battery = homes.entries["anna"].runtime_data.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // 900 * 900 + 2700
    for price in (100_000, 150_000):
        terms = OfferTerms(
            quantity=500, start=start, end=start + 900, price=price, asset=battery, min_quantity=1
        )
        await anna.offer(terms)
    await homes.mine()
    await step(homes)
    await step(homes)
    trades = homes.entries["bert"].runtime_data.ledger.data.trades
    assert [(trade.quantity, trade.price) for trade in trades] == [(500, 100_000)]
    assert last(homes, "bert").decision.reason is Reason.NOTHING_NEEDED


async def test_a_rule_that_can_not_know_its_price_pauses_and_says_why(homes: Street) -> None:
    hass = homes.hass
    hass.states.async_set("sensor.price", "unavailable")
    cases: list[tuple[dict[str, Any], str, bool]] = [
        ({"source": "entity", "price_entity": "sensor.price"}, "entity_unavailable", False),
        ({"source": "entity", "price_entity": "sensor.gone"}, "entity_missing", True),
        ({"source": "template", "price_template": "{{ states('sensor.price') }}"}, "template_no_price", True),
        ({"source": "template", "price_template": "{{ 1 / 0 }}"}, "template_failed", True),
        ({"source": "fixed", "price": 1, "floor": 2, "ceiling": 1}, "floor_above_ceiling", True),
    ]
    names = [await sell(homes, price) for price, _, _ in cases]
    await step(homes)
    rules, issues = homes.trading("anna").rules, ir.async_get(hass)
    for name, (_, problem, repair) in zip(names, cases, strict=True):
        assert (rules[name].status, rules[name].problem) == (RuleStatus.PAUSED, problem)
        assert (issues.async_get_issue(DOMAIN, f"rule_paused_{name}") is not None) is repair
    assert not homes.entries["anna"].runtime_data.ledger.data.offers
    shown = hass.states.get("sensor.anna_sell_rule_state")
    assert shown is not None
    assert (shown.state, shown.attributes["reason"]) == ("paused", "entity_unavailable")
    hass.states.async_set("sensor.price", "0.2")
    hass.states.async_set("sensor.gone", "20", {"unit_of_measurement": "ct/kWh"})
    await homes.look()
    for name in names[:3]:
        assert (rules[name].status, rules[name].price) == (RuleStatus.ACTIVE, 200_000)
        assert issues.async_get_issue(DOMAIN, f"rule_paused_{name}") is None


async def test_a_removed_device_and_one_that_is_away(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.2}, device="nothing")
    await homes.look()
    assert state(homes, "anna").problem == "device_missing"


async def test_a_silent_device_sells_nothing(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.2})
    homes.hass.states.async_set("sensor.anna_soc", "unavailable")
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
    await homes.look()
    assert state(homes, "anna").problem in ("device_away", "level_unknown", "consumption_unknown")


async def test_an_implausible_meter_stops_selling(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.2})
    homes.node.world.now += 5
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=99_000, surplus_w=-301)
    await homes.look()
    pause = homes.trading("anna").metering.pause
    assert pause is not None
    assert (pause.problem, pause.before_wh, pause.after_wh) == ("meter_jump", 2000, 99_000)
    assert state(homes, "anna").problem == "meter_paused"
    entry_id = homes.entries["anna"].entry_id
    assert ir.async_get(homes.hass).async_get_issue(DOMAIN, f"meter_implausible_{entry_id}") is not None
    await homes.mine()
    assert not homes.entries["anna"].runtime_data.ledger.data.offers


async def test_an_offer_follows_the_world_without_flapping(homes: Street) -> None:
    hass = homes.hass
    hass.states.async_set("sensor.price", "0.20")
    await sell(homes, {"source": "entity", "price_entity": "sensor.price"})
    await step(homes)
    ledger = homes.entries["anna"].runtime_data.ledger
    (first,) = ledger.data.offers
    hass.states.async_set("sensor.price", "0.21")
    await step(homes)
    assert [offer.offer for offer in ledger.data.offers] == [first.offer], "near enough"
    hass.states.async_set("sensor.price", "0.30")
    await step(homes)
    assert [offer.offer for offer in ledger.data.offers] == [first.offer], "too soon to replace it"
    homes.node.world.now += 300
    await step(homes)
    await step(homes)
    assert [offer.price for offer in ledger.data.offers] == [300_000]


async def test_rules_that_can_not_be_read_are_paused(homes: Street) -> None:
    nonsense = await buy(homes, {"source": "nonsense"})
    odd = await buy(
        homes, {"source": "fixed", "price": 1}, conditions=[{"condition": "no_such_thing.at_all"}]
    )
    await homes.look()
    rules = homes.trading("bert").rules
    assert (rules[nonsense].status, rules[nonsense].problem) == (RuleStatus.PAUSED, "rule_invalid")
    assert (rules[odd].status, rules[odd].problem) == (RuleStatus.PAUSED, "conditions_invalid")


async def test_an_answer_that_may_have_arrived_is_not_given_twice(homes: Street) -> None:
    await sell(homes, {"source": "fixed", "price": 0.20})
    await buy(homes, {"source": "fixed", "price": 0.25})
    await step(homes)
    unsure = TimedOutError("timeout", "the node did not answer in time", record="ab" * 32)
    with patch.object(Home, "accept", side_effect=unsure) as accept:
        await homes.look()
        await homes.look()
    assert accept.call_count == 1
    assert last(homes, "bert").refused == "timeout"


async def test_a_purchase_is_rated_by_what_was_delivered_if_its_rule_says_so(homes: Street) -> None:
    wishes = await buy(homes, {"source": "fixed", "price": 0.25}, partners_section={"rate": True})
    other = await buy(homes, {"source": "fixed", "price": 0.25})
    engine = homes.trading("bert")
    # By hand, by a rule that scores nobody, and by one that scores.
    for trade, rule in (("6" * 64, None), ("7" * 64, other), ("8" * 64, wishes)):
        if rule is not None:
            engine._desk.notebook.pages.answers[f"offer {trade}"] = Answer(
                rule=rule,
                record=trade,
                kind="accept",
                energy_wh=500,
                cost=1,
                start=homes.now - 1800,
                end=homes.now - 900,
                at=homes.now - 3600,
                day="2026-11-21",
            )
    with patch.object(Home, "rate", side_effect=RefusedError("trade_unknown", "gone", 409)) as rate:
        for trade in ("6" * 64, "7" * 64, "8" * 64):
            settle(homes, trade)
        await homes.hass.async_block_till_done(wait_background_tasks=False)
        await wait_until(lambda: rate.call_count)
    rate.assert_called_once_with("8" * 64, 6)


def settle(homes: Street, trade: str) -> None:
    """Tell Bert that of 500 Wh that he bought 300 came."""
    line = {
        "trade": trade,
        "slot_end": homes.now,
        "seller": "9" * 64,
        "buyer": homes.node.world["bert"].id.hex(),
        "agreed_wh": 500,
        "sent_wh": 300,
        "received_wh": 300,
        "delivered_wh": 300,
        "paid": 1,
        "shortfall_paid": 0,
        "disputed": False,
    }
    for kind in ("slot_settled", "trade_closed"):
        homes.trading("bert")._on_event(
            EventView(cursor="1-" + "0" * 16, event=kind, height=1, block=None, time=homes.now, data=line)
        )
