"""What is told: once each, whatever the chain and the connection do; and how errors and numbers are put."""

from decimal import Decimal
from typing import Any

import pytest
from homeassistant.core import callback
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from msgspec.structs import replace

from custom_components.energy_ledger import announcer as announcer_module
from custom_components.energy_ledger.actions.fields import number
from custom_components.energy_ledger.announcer import Announcer
from custom_components.energy_ledger.events import BUS_EVENT, HomeEvent, async_listen
from custom_components.energy_ledger.ledger import RESYNC
from custom_components.energy_ledger.matching import matches
from custom_components.energy_ledger.observers import async_remove_observed
from custom_components.energy_ledger.proofs import check_proof
from custom_components.energy_ledger.quantities import micro_from_money, w_from_kw, wh_from_kwh, whole
from custom_components.energy_ledger.refusals import refusal_of
from custom_components.energy_ledger.trading_settings import async_load_settings
from ledger_core.client import RefusedError, TimedOutError, UnreachableError
from ledger_core.client.views import EventView
from ledger_core.errors import RecordError

from .conftest import Street


def event(name: str, **data: Any) -> EventView:
    return EventView(cursor="1-" + "0" * 16, event=name, height=1, block="aa" * 32, time=7, data=data)


@pytest.fixture
def announcer(street: Street) -> Announcer:
    """One of its own, which hears what the test tells it."""
    return Announcer(street.hass, street.entry)


@pytest.fixture
def heard(street: Street) -> list[HomeEvent]:
    found: list[HomeEvent] = []

    @callback
    def take(event: HomeEvent) -> None:
        found.append(event)

    async_listen(street.hass, street.entry.entry_id, take)
    return found


def agreed(street: Street, trade: str, seller: str = "bert", buyer: str = "anna") -> EventView:
    return event(
        "trade_agreed",
        trade=trade,
        offer="ab" * 32,
        origin="acceptance",
        seller=street.world[seller].id.hex(),
        buyer=street.world[buyer].id.hex(),
        asset="cd" * 16,
        basis="energy",
        quantity=1000,
        watts=2000,
        start=1_800_000_000,
        end=1_800_001_800,
        price=200_000,
    )


async def test_a_trade_that_was_over_before_it_was_heard_of(
    street: Street, announcer: Announcer, heard: list[HomeEvent]
) -> None:
    """After a long absence agreement and settlement come together: nothing is lost."""
    announcer._take(agreed(street, "11" * 32))
    announcer._take(agreed(street, "22" * 32, seller="bert", buyer="cara"))
    sides = {"seller": street.world["bert"].id.hex(), "buyer": street.world["anna"].id.hex()}
    announcer._take(event("trade_closed", trade="11" * 32, delivered_wh=900, paid=180_000, **sides))
    others = {**sides, "buyer": street.world["cara"].id.hex()}
    announcer._take(event("trade_closed", trade="22" * 32, delivered_wh=900, paid=180_000, **others))
    announcer._take(event("slot_settled", trade="22" * 32, slot_end=1, delivered_wh=0, agreed_wh=0, **others))
    first, second = heard
    assert (first.kind, first.data["carrier"], first.data["total"]) == ("trade_agreed", None, 0.2)
    assert (first.data["role"], first.data["partner"]) == ("buyer", street.home("bert").address)
    assert (second.kind, second.data["delivered_kwh"]) == ("trade_closed", 0.9)


async def test_told_once_after_a_fork(
    street: Street, announcer: Announcer, heard: list[HomeEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        announcer._take(agreed(street, "11" * 32))
        announcer._take(event("block_undone", hash="aa" * 32, height=1))
    assert len(heard) == 1
    monkeypatch.setattr(announcer_module, "REMEMBERED", 2)
    for name in ("22", "33", "11"):
        announcer._take(agreed(street, name * 32))
    assert [each.data["trade"][:2] for each in heard] == ["11", "22", "33", "11"]


async def test_after_missed_events(street: Street, announcer: Announcer, heard: list[HomeEvent]) -> None:
    """What came meanwhile and is still there is told; at the very start nothing is known to be new."""
    old = await street.offer()
    announcer._take(event(RESYNC))
    assert heard[-1].data["offer"] == old.offer  # told by the entry's own announcer alone
    assert len(heard) == 1
    own = await street.offer("anna")
    new = await street.offer(price=100_000)
    trade = await street.agreed(await street.home("anna").accept(new, 1_000))
    heard.clear()
    announcer._take(event(RESYNC))
    assert [(each.kind, each.data.get("trade") or each.data["offer"]) for each in heard] == [
        ("offer_received", new.offer),
        ("trade_agreed", trade.trade),
    ]
    assert own.offer not in [each.data["offer"] for each in heard]
    announcer._take(event(RESYNC))
    assert len(heard) == 2


async def test_what_concerns_others_is_not_told(
    street: Street, announcer: Announcer, heard: list[HomeEvent]
) -> None:
    bert, cara = street.world["bert"].id.hex(), street.world["cara"].id.hex()
    announcer._take(event("offer_opened", offer="11" * 32, author=bert))
    announcer._take(event("offer_closed", offer="11" * 32, author=bert, reason="withdrawn"))
    announcer._take(
        event("acceptance_waits", acceptance="22" * 32, author=cara, offer="11" * 32, offerer=bert, bid=False)
    )
    announcer._take(
        event("acceptance_ended", acceptance="22" * 32, author=cara, offer="11" * 32, reason="rejected")
    )
    announcer._take(event("trade_terminated", trade="33" * 32, by=bert, end=1, compensation=0))
    announcer._take(event("checkpoint_final", height=1, hash="aa" * 32))
    assert heard == []


async def test_what_ended_while_home_assistant_was_away_is_told(
    street: Street, heard: list[HomeEvent]
) -> None:
    """Nothing of it is left at the node, so what was open is kept."""
    trade = await street.buy()
    own = await street.offer("anna")
    foreign = await street.offer(price=300_000)
    anna, bert, cara = (street.home(name) for name in ("anna", "bert", "cara"))
    counter = await cara.counter(own, price=1)
    await street.node.mine()
    await street.until(lambda: street.view.waiting)
    assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    heard.clear()
    for record in (
        bert.terminate(trade.trade, compensation=200_000),
        bert.withdraw(foreign.offer),
        anna.reject(counter),
    ):
        await record
    await street.node.mine()
    assert await street.hass.config_entries.async_setup(street.entry.entry_id)
    kinds = {"trade_terminated", "offer_closed", "counter_ended", "trade_closed"}
    await street.until(lambda: kinds <= {each.kind.value for each in heard})
    told = {each.kind.value: each.data for each in heard}
    assert told["trade_terminated"]["trade"] == trade.trade
    assert (told["trade_terminated"]["reason"], told["trade_terminated"]["role"]) == ("partner", "buyer")
    assert told["offer_closed"]["offer"] == foreign.offer
    assert told["counter_ended"]["acceptance"] == counter
    # What has ended is not kept any longer.
    entry_id = street.entry.entry_id
    assert await street.hass.config_entries.async_unload(entry_id)
    kept = await announcer_module._store(street.hass, entry_id).async_load()
    assert kept is not None
    assert kept["trades"] == {}
    assert own.offer in kept["offers"]
    assert foreign.offer not in kept["offers"]
    await async_remove_observed(street.hass, entry_id)
    assert await announcer_module._store(street.hass, entry_id).async_load() is None


async def test_a_file_of_another_version_is_no_obstacle(
    street: Street, hass_storage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    entry_id = street.entry.entry_id
    await street.offer()
    assert await street.hass.config_entries.async_unload(entry_id)
    hass_storage[f"energy_ledger.announced.{entry_id}"]["data"]["trades"] = {"aa": {"trade": 1}}
    assert await street.hass.config_entries.async_setup(entry_id)
    assert "what was open is not known any more" in caplog.text


async def test_the_bus_event_is_small(street: Street) -> None:
    told: list[Any] = []
    street.hass.bus.async_listen(BUS_EVENT, told.append)
    await street.offer()
    await street.until(lambda: told)
    assert told[0].data["type"] == "offer_received"
    assert "raw" not in told[0].data


async def test_nothing_is_kept_of_a_removed_entry(street: Street) -> None:
    settings = street.data.settings
    await settings.async_change(automatic_buying=True)
    await settings.async_change(automatic_buying=True)
    await async_remove_observed(street.hass, street.entry.entry_id)
    again = await async_load_settings(street.hass, street.entry.entry_id, "EUR")
    assert again.limits.automatic_buying is False


@pytest.mark.parametrize(
    ("value", "factor", "wanted"),
    [(0.29, 1000, 290), ("1.0005", 1000, 1001), (Decimal("2.4"), 1, 2), (-0.0005, 1000, -1), (7, 1, 7)],
)
def test_numbers_are_exact(value: Any, factor: int, wanted: int) -> None:
    assert whole(value, factor) == wanted


@pytest.mark.parametrize("value", ["abc", float("inf"), float("nan"), ""])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        whole(value, 1)
    with pytest.raises(ServiceValidationError) as caught:
        number(value, 1, "price")
    assert caught.value.translation_key == "number_invalid"


def test_units() -> None:
    assert (wh_from_kwh(1.5), w_from_kw(0.1), micro_from_money("0.000001")) == (1500, 100, 1)


@pytest.mark.parametrize(
    ("error", "kind", "key"),
    [
        (UnreachableError("unreachable", "no way"), HomeAssistantError, "node_away"),
        (TimedOutError("timeout", "late", record="ab"), HomeAssistantError, "record_uncertain"),
        (RefusedError("busy", "later", 503), HomeAssistantError, "node_away"),
        (RefusedError("own_offer", "no", 409), ServiceValidationError, "refused_own_offer"),
        (RefusedError("something_new", "no", 409), ServiceValidationError, "refused"),
        (RefusedError("bid_above_ceiling", "no figures", 409), ServiceValidationError, "refused"),
    ],
)
def test_errors_in_the_users_words(error: Any, kind: type[Exception], key: str) -> None:
    found = refusal_of(error)
    assert type(found) is kind
    assert found.translation_key == key


def test_a_quantity_of_an_unknown_unit_stays_as_it_is() -> None:
    error = RefusedError("quantity_exceeds_open", "no", 409)
    error.details = {"left": 500, "wanted": 700}
    assert refusal_of(error).translation_placeholders == {"left": "500", "wanted": "700"}
    assert refusal_of(error, "kW").translation_placeholders == {"left": "0.5 kW", "wanted": "0.7 kW"}


def test_filters_of_what_lacks_figures() -> None:
    assert not matches({"price_below": 1}, {})
    assert not matches({"price_above": 1}, {})
    assert not matches({"min_quantity": 1}, {})
    assert matches({"max_quantity": 1}, {})
    assert matches({"something_else": 1}, {})


async def test_a_proof_for_another_block(street: Street) -> None:
    offer = await street.offer()
    proof = await street.data.client.proof(offer.offer)
    chain_id = await street.data.home.chain_id()
    check_proof(proof, chain_id, offer.offer, proof.block)
    for wrong in (
        (proof, chain_id, offer.offer, "00" * 32),
        (proof, chain_id, "00" * 32, proof.block),
        (replace(proof, index=proof.index + 1), chain_id, offer.offer, proof.block),
    ):
        with pytest.raises(RecordError) as caught:
            check_proof(*wrong)
        assert caught.value.code == "proof_invalid"
    with pytest.raises(RecordError):
        check_proof(proof, bytes(32), offer.offer, proof.block)
