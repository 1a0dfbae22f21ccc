"""The actions against a real node: what is signed and answered, and every refusal in the user's words."""

from datetime import timedelta
from typing import Any

import probatio as vol
import pytest
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockUser  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.quantities import local_text
from custom_components.energy_ledger.services import ACTIONS
from ledger_core.keys import address
from ledger_core.records.invitations import decode_link
from ledger_core.records.offers import Auction
from tests.core.world import asset_id

from .conftest import SLOT, Street


async def refused(street: Street, action: str, key: str, **fields: Any) -> str:
    """Call an action that must be refused for that reason; returns the message."""
    with pytest.raises(ServiceValidationError) as caught:
        await street.call(action, **fields)
    assert caught.value.translation_domain == DOMAIN
    assert caught.value.translation_key == key
    message = str(caught.value)
    assert message
    assert "{" not in message
    assert message != key
    return message


async def test_sell(street: Street) -> None:
    answer = await street.call("sell", quantity=1.5, price=0.21, min_quantity=0.5, duration={"minutes": 30})
    await street.node.mine()
    await street.until(lambda: answer["record"] in street.offers)
    offer = street.offers[answer["record"]]
    assert (offer.side, offer.quantity, offer.price, offer.min_quantity) == ("sell", 1500, 210_000, 500)
    assert offer.asset == asset_id("anna pv").hex()
    assert offer.end - offer.start == 2 * SLOT
    assert answer["quantity"] == 1.5
    assert (answer["unit"], answer["total"]) == ("kWh", 0.315)
    assert (answer["start"], answer["valid_until"]) == (local_text(offer.start), local_text(offer.start))


async def test_a_computed_quantity_is_exact(street: Street) -> None:
    """0.1 + 0.2 kWh is 300 Wh, and 0.29 is a price of exactly 290000."""
    answer = await street.call("sell", quantity=0.1 + 0.2, price=0.29)
    await street.node.mine()
    await street.until(lambda: answer["record"] in street.offers)
    assert street.offers[answer["record"]].quantity == 300
    assert street.offers[answer["record"]].price == 290_000


async def test_sell_power_to_some_in_an_auction(street: Street) -> None:
    start = street.start(8)
    answer = await street.call(
        "sell",
        asset=asset_id("anna pv").hex().upper(),
        quantity=3,
        unit="kW",
        price=0.05,
        start=dt_util.utc_from_timestamp(start).isoformat(),
        end=dt_util.utc_from_timestamp(start + SLOT).isoformat(),
        audience=[street.home("bert").address],
        auction_closes=dt_util.utc_from_timestamp(start - 600).isoformat(),
        auction_ceiling=0.1,
        auction_reserve=0.01,
    )
    await street.node.mine()
    await street.until(lambda: answer["record"] in street.offers)
    offer = street.offers[answer["record"]]
    assert (offer.basis, offer.quantity, offer.start) == ("capacity", 3000, start)
    assert offer.auction is not None
    assert (offer.auction.ceiling, offer.auction.reserve) == (100_000, 10_000)
    assert [each.key for each in offer.audience or ()] == [street.world["bert"].id.hex()]
    assert (answer["unit"], answer["total"]) == ("kW", 0.0375)


async def test_buy_then_list(street: Street) -> None:
    answer = await street.call("buy", quantity=500, unit="Wh", price=0.3, max_power=2)
    await street.node.mine()
    await street.until(lambda: answer["record"] in street.offers)
    assert street.offers[answer["record"]].side == "buy"
    assert street.offers[answer["record"]].max_w == 2000
    theirs = await street.offer(price=150_000)
    every = (await street.call("list_offers"))["offers"]
    assert [offer["offer"] for offer in every] == [theirs.offer, answer["record"]]
    assert every[0]["price"] == 0.15
    assert every[0]["raw"]["price"] == 150_000
    assert [o["offer"] for o in (await street.call("list_offers", own=True))["offers"]] == [answer["record"]]
    assert (await street.call("list_offers", max_price=0.1))["offers"] == []
    assert (await street.call("list_offers", side="sell", carrier="heat"))["offers"] == []


async def test_accept_a_part_and_list_the_trade(street: Street) -> None:
    offer = await street.offer()
    answer = await street.call("accept", offer=offer.offer, quantity=0.5)
    trade = await street.agreed(answer["record"])
    assert (trade.quantity, trade.buyer.key) == (500, street.world["anna"].id.hex())
    listed = (await street.call("list_trades", role="buyer"))["trades"]
    assert [each["trade"] for each in listed] == [trade.trade]
    assert (listed[0]["quantity"], listed[0]["partner"]) == (0.5, street.home("bert").address)
    assert (await street.call("list_trades", role="seller"))["trades"] == []
    assert (await street.call("list_trades", running=True))["trades"] == []
    assert len((await street.call("list_trades", running=False))["trades"]) == 1


async def test_a_call_without_response(street: Street) -> None:
    offer = await street.offer()
    await street.hass.services.async_call(DOMAIN, "accept", {"offer": offer.offer}, blocking=True)
    await street.node.mine()
    await street.until(lambda: street.trades)
    assert next(iter(street.trades.values())).quantity == 2_000


async def test_counter_reject_and_confirm(street: Street) -> None:
    offer = await street.offer("bert")
    mine = await street.call("counter", offer=offer.offer, price=0.15, quantity=1)
    assert (mine["price"], mine["quantity"]) == (0.15, 1.0)
    await street.node.mine()
    await street.until(lambda: street.view.waiting)
    (waiting,) = (await street.call("list_offers"))["waiting"]
    assert (waiting["acceptance"], waiting["own"], waiting["unit"]) == (mine["record"], True, "kWh")
    await street.call("withdraw", target=mine["record"])
    await street.node.mine()
    await street.until(lambda: not street.view.waiting)

    sold = await street.call("sell", quantity=1, price=0.3)
    await street.node.mine()
    await street.until(lambda: sold["record"] in street.offers)
    own = street.offers[sold["record"]]
    first = await street.home("bert").counter(own, price=250_000)
    second = await street.home("cara").counter(own, price=260_000)
    await street.node.mine()
    await street.until(lambda: len(street.view.waiting) == 2)
    await street.call("reject", acceptance=first)
    answer = await street.call("accept", acceptance=second)
    assert answer["price"] == 0.26
    trade = await street.agreed(second)
    assert (trade.price, trade.buyer.key) == (260_000, street.world["cara"].id.hex())


async def test_counter_with_another_window(street: Street) -> None:
    offer = await street.offer()
    end = dt_util.utc_from_timestamp(offer.start + SLOT)
    answer = await street.call("counter", offer=offer.offer, end=end.isoformat())
    assert answer["end"] == local_text(offer.start + SLOT)
    answer = await street.call(
        "counter",
        offer=offer.offer,
        duration=timedelta(minutes=15),
        quantity=0.4,
        valid_until=dt_util.utc_from_timestamp(offer.start - 60).isoformat(),
    )
    await street.node.mine()
    await street.until(lambda: len(street.view.waiting) == 2)
    found = next(each for each in street.view.waiting if each.acceptance == answer["record"])
    assert (found.quantity, found.valid_until) == (400, offer.start - 60)


async def test_bid(street: Street) -> None:
    start = street.start(8)
    offer = await street.offer(
        start=start, end=start + SLOT, quantity=500, auction=Auction(start - 3600, 400_000, 100_000)
    )
    await refused(street, "accept", "refused_offer_is_auction", offer=offer.offer)
    message = await refused(street, "accept", "refused_bid_above_ceiling", offer=offer.offer, price=0.5)
    assert "0.4" in message
    answer = await street.call("accept", offer=offer.offer, price=0.25)
    await street.node.mine()
    await street.until(lambda: street.view.waiting)
    assert street.view.waiting[0].price == 250_000
    assert street.view.waiting[0].bid
    assert answer["price"] == 0.25
    await refused(street, "withdraw", "refused_bid_binding", target=answer["record"])


async def test_withdraw_terminate_and_rate(street: Street) -> None:
    sold = await street.call("sell", quantity=1, price=0.3)
    await street.node.mine()
    await street.until(lambda: sold["record"] in street.offers)
    await street.call("withdraw", target=sold["record"])
    await street.node.mine()
    await street.until(lambda: sold["record"] not in street.offers)

    trade = await street.buy()
    message = await refused(street, "terminate", "refused_compensation_too_low", trade=trade.trade)
    assert "at least 0.2;" in message
    answer = await street.call("terminate", trade=trade.trade, compensation=0.2)
    assert answer["compensation"] == 0.2
    await street.node.mine()
    await street.until(lambda: trade.trade not in street.trades)

    other = await street.buy(start=street.start(3), end=street.start(5))
    end = dt_util.utc_from_timestamp(other.start + SLOT)
    shorter = await street.call("terminate", trade=other.trade, end=end.isoformat(), compensation=0.1)
    assert shorter["end"] == local_text(other.start + SLOT)
    await street.node.mine()
    await street.until(lambda: street.trades[other.trade].end == other.start + SLOT)
    await street.settle(street.trades[other.trade], 1_000, 1_000)
    await street.call("rate", trade=other.trade, score=9)
    await street.node.mine()
    account = await street.data.client.account(street.home("bert").address)
    assert account.reputation.mean_score_tenths == 90
    await refused(street, "rate", "refused_already_scored", trade=other.trade, score=1)


async def test_transfer(street: Street) -> None:
    trade = await street.buy()
    answer = await street.call(
        "transfer", to=street.home("cara").address, amount=1.234567, reference=trade.trade
    )
    assert answer["amount"] == 1.234567
    await street.node.mine()
    account = await street.data.client.account(street.home("cara").address)
    assert account.balance == 1_234_567
    message = await refused(
        street, "transfer", "refused_funds_insufficient", to=street.home("cara").address, amount=100
    )
    assert "100" in message
    await refused(street, "transfer", "address_invalid", to="el1qqq", amount=1)
    right = address(street.world["cara"].id)
    mistyped = right[:-1] + ("p" if right[-1] == "q" else "q")
    await refused(street, "transfer", "address_invalid", to=mistyped, amount=1)


async def test_get_record_with_its_proof(street: Street) -> None:
    offer = await street.offer()
    answer = await street.call("get_record", record=offer.offer)
    assert answer["verified"] is True
    assert answer["record"]["kind"] == "offer"
    assert answer["proof"]["height"] == answer["record"]["height"]
    again = await street.call("get_record", record=offer.offer, height=answer["record"]["height"])
    assert again == answer
    waiting = await street.call("sell", quantity=1, price=0.3)
    answer = await street.call("get_record", record=waiting["record"])
    assert (answer["verified"], answer["proof"], answer["record"]["state"]) == (False, None, "waiting")
    await refused(street, "get_record", "refused_record_unknown", record="ab" * 32)


async def test_a_wrong_proof_is_noticed(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that proves another record, another block, or nothing at all."""
    one, other = await street.offer(), await street.offer(price=100_000)
    client = street.data.client
    honest = client.proof
    of_other = await honest(other.offer)

    async def lie(_record: str, _height: int | None = None) -> Any:
        return of_other

    monkeypatch.setattr(client, "proof", lie)
    await refused(street, "get_record", "proof_invalid", record=one.offer)

    of_one = await honest(one.offer)

    async def forge(_record: str, _height: int | None = None) -> Any:
        from msgspec.structs import replace

        return replace(of_one, branch=[*of_one.branch, "00" * 32])

    monkeypatch.setattr(client, "proof", forge)
    message = await refused(street, "get_record", "proof_invalid", record=one.offer)
    assert "branch" in message


async def test_invite(street: Street) -> None:
    answer = await street.call(
        "invite", roles=["home"], valid_for={"days": 1}, addresses=["192.168.1.5:7946"]
    )
    link = decode_link(answer["invitation"])
    assert link.invitation.roles == 1
    assert link.addresses == ("192.168.1.5:7946",)
    assert dt_util.parse_datetime(answer["expires"]) is not None


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("invite", {}),
        ("transfer", {"to": "el1", "amount": 1}),
    ],
)
async def test_money_and_membership_are_for_administrators(
    street: Street, hass_read_only_user: MockUser, action: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(Unauthorized):
        await street.hass.services.async_call(
            DOMAIN,
            action,
            fields,
            blocking=True,
            return_response=True,
            context=Context(user_id=hass_read_only_user.id),
        )


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("accept", "refused_offer_unknown", {"offer": "ab" * 32}),
    ("accept", "offer_or_acceptance_needed", {}),
    ("accept", "refused_acceptance_unknown", {"acceptance": "ab" * 32}),
    ("reject", "refused_acceptance_unknown", {"acceptance": "ab" * 32}),
    ("counter", "refused_offer_unknown", {"offer": "ab" * 32, "price": 1}),
    ("withdraw", "refused_target_unknown", {"target": "ab" * 32}),
    ("terminate", "refused_trade_unknown", {"trade": "ab" * 32}),
    ("rate", "refused_trade_not_settled", {"trade": "ab" * 32, "score": 3}),
    ("sell", "asset_not_own", {"quantity": 1, "price": 1, "asset": "ab" * 16}),
    ("sell", "device_no_asset", {"quantity": 1, "price": 1, "device_id": "unknown"}),
    ("sell", "quantity_too_small", {"quantity": 0.1, "unit": "Wh", "price": 1}),
    ("sell", "auction_incomplete", {"quantity": 1, "price": 1, "auction_ceiling": 1}),
    ("sell", "max_power_of_capacity", {"quantity": 1, "price": 1, "unit": "kW", "max_power": 1}),
    ("sell", "duration_not_slots", {"quantity": 1, "price": 1, "duration": {"minutes": 10}}),
    ("sell", "duration_not_slots", {"quantity": 1, "price": 1, "duration": {"minutes": 0}}),
    ("sell", "not_on_slot", {"quantity": 1, "price": 1, "start": "2030-01-01T10:07:00"}),
    ("sell", "refused_window_started", {"quantity": 1, "price": 1, "start": "2020-01-01T10:00:00"}),
    (
        "sell",
        "window_empty",
        {"quantity": 1, "price": 1, "start": "2030-01-01T10:00:00", "end": "2030-01-01T09:45:00"},
    ),
    ("sell", "refused_window_too_far", {"quantity": 1, "price": 1, "start": "2035-01-01T10:00:00"}),
    ("sell", "refused_power_unavailable", {"quantity": 11, "unit": "kW", "price": 1}),
    ("sell", "refused_minimum_above_quantity", {"quantity": 1, "min_quantity": 2, "price": 1}),
    ("buy", "refused_meter_missing", {"quantity": 1, "price": 1, "carrier": "heat"}),
    ("buy", "address_invalid", {"quantity": 1, "price": 1, "audience": ["bert"]}),
]


async def test_refused_in_the_users_words(street: Street) -> None:
    for action, key, fields in REFUSED:
        await refused(street, action, key, **fields)


async def test_refused_of_an_offer(street: Street) -> None:
    offer = await street.offer()
    message = await refused(street, "accept", "unit_wrong", offer=offer.offer, quantity=1, unit="kW")
    assert "kWh" in message
    message = await refused(street, "accept", "refused_quantity_exceeds_open", offer=offer.offer, quantity=5)
    assert "2 kWh" in message
    message = await refused(
        street, "accept", "refused_below_minimum_fill", offer=offer.offer, quantity=50, unit="Wh"
    )
    assert "0.1 kWh" in message
    await refused(street, "accept", "price_not_offered", offer=offer.offer, price=0.1)
    await refused(street, "counter", "refused_terms_unchanged", offer=offer.offer, price=0.2)
    own = await street.call("sell", quantity=1, price=0.3)
    await street.node.mine()
    await street.until(lambda: own["record"] in street.offers)
    await refused(street, "accept", "refused_own_offer", offer=own["record"])


async def test_two_assets_need_a_choice(street: Street) -> None:
    record = street.world.asset_record("anna", "second pv")
    await street.data.client.submit(record.envelope)
    await street.node.mine()
    await street.until(lambda: len(street.view.assets) == 3)
    message = await refused(street, "sell", "asset_needed", quantity=1, price=1)
    assert asset_id("anna pv").hex() in message


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("sell", {"quantity": 0, "price": 1}),
        ("sell", {"quantity": 1, "price": -1}),
        ("sell", {"quantity": 1, "price": float("nan")}),
        ("sell", {"quantity": 1, "price": 1, "unit": "MJ"}),
        ("sell", {"quantity": 1, "price": 1, "carrier": "coal"}),
        ("sell", {"quantity": 1}),
        ("accept", {"offer": "not an id"}),
        ("rate", {"trade": "ab" * 32, "score": 11}),
        ("list_offers", {"side": "steal"}),
        ("invite", {"roles": []}),
        ("get_record", {"record": "ab" * 32, "height": 0}),
        ("list_trades", {"unknown": 1}),
    ],
)
def test_the_schema_refuses(action: str, fields: dict[str, Any]) -> None:
    with pytest.raises(vol.Invalid):
        ACTIONS[action].schema(fields)


async def test_a_node_that_is_away(street: Street) -> None:
    """What was signed may have arrived: the message names the record."""
    await street.node.server.close()
    with pytest.raises(HomeAssistantError) as caught:
        await street.call("sell", quantity=1, price=0.3)
    assert caught.value.translation_key in ("record_uncertain", "node_away")
    with pytest.raises(HomeAssistantError) as caught:
        await street.call("get_record", record="ab" * 32)
    assert caught.value.translation_key == "node_away"


async def test_actions_without_a_home(hass: HomeAssistant) -> None:
    from homeassistant.setup import async_setup_component

    assert await async_setup_component(hass, DOMAIN, {})
    with pytest.raises(ServiceValidationError):
        await hass.services.async_call(DOMAIN, "list_offers", {}, blocking=True, return_response=True)
