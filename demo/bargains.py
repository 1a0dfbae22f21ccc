"""What the demo's homes agree: three ways to a trade, by rules, by users' automations, and by auction."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from demo.rest import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from demo.resident import Resident
    from demo.street import Street

POSTED, COUNTERED, AUCTION = "posted price, by rules", "countered", "auction"
KINDS = (POSTED, COUNTERED, AUCTION)

SLOTS = 2
"""Slots of a window that is offered by hand; the selling rule offers single slots."""
MEAN_W = 3_000
"""What is sold, as mean power over a window."""
MOST_KW = 4.2
"""The most that the fuel cell may give: it starts and ramps up first, and then makes up for that time."""
_LEAD_S = 45
"""An offer, its answers and their blocks fit in before the window starts."""

_SELLING_RULE: dict[str, Any] = {
    "name": "Sell what the battery can spare",
    "price_section": {"source": "fixed", "price": 0.25},
    # A window is offered once: what is left of the battery's ten kilowatts then is below the least, and stays
    # for the auction. It reaches as far ahead as a rule needs for an offer to be seen and taken.
    "amount_section": {
        "basis": "energy",
        "min_kwh": 0.1,
        "max_kwh": 0.1,
        "hysteresis": 20,
        "window_slots": 1,
        "horizon_slots": 3,
        "parts": True,
        "grid_energy": False,
        "keep_for_home": True,
    },
    "partners_section": {"answer_requests": True, "confirm_from_floor": True, "auction": False},
    "hours_section": {},
}
_BUYING_RULE: dict[str, Any] = {
    "name": "Buy what we need",
    "price_section": {"source": "fixed", "price": 0.28, "bid": False},
    "amount_section": {"basis": "energy", "only_need": True},
    "partners_section": {"carrier": "electricity", "rate": False},
    "hours_section": {},
}
_COUNTER = {
    "description": "Proposes 0.30 where more is asked",
    "mode": "queued",
    "triggers": [{"trigger": "energy_ledger.offer_received", "options": {"side": "sell"}}],
    "conditions": [
        {
            "condition": "template",
            "value_template": "{{ trigger.data.auction is none and trigger.data.price > 0.35 }}",
        }
    ],
    "actions": [
        {"action": "energy_ledger.counter", "data": {"offer": "{{ trigger.data.offer }}", "price": 0.30}}
    ],
}
_BID = {
    "description": "Bids in every auction",
    "mode": "queued",
    "triggers": [{"trigger": "energy_ledger.offer_received", "options": {"side": "sell"}}],
    "conditions": [{"condition": "template", "value_template": "{{ trigger.data.auction is not none }}"}],
    "actions": [
        {
            "action": "energy_ledger.accept",
            "data": {"offer": "{{ trigger.data.offer }}", "price": "{{ bid }}"},
        }
    ],
}
_CONFIRM = {
    "description": "Confirms changed terms that are good enough",
    "mode": "queued",
    "triggers": [{"trigger": "energy_ledger.counter_received"}],
    "conditions": [
        {
            "condition": "template",
            "value_template": "{{ not trigger.data.bid and trigger.data.price >= 0.28 }}",
        }
    ],
    "actions": [{"action": "energy_ledger.accept", "data": {"acceptance": "{{ trigger.data.acceptance }}"}}],
}


def _bidding(price: float) -> dict[str, Any]:
    return {**_BID, "variables": {"bid": price}}


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that was made: how it is to be traded, its record and its window."""

    kind: str
    record: str
    seller: Resident
    start: int
    end: int
    slot_s: int


async def set_up(street: Street) -> None:
    """Let sellers deliver, and give every home the rules and automations by which it trades."""
    sun, cell, flat = street.residents
    battery = await sun.subentry_id("Solar battery")
    await asyncio.gather(
        sun.add_rule("sell", {**_SELLING_RULE, "device": battery}), flat.add_rule("buy", _BUYING_RULE)
    )
    for resident, switch in (
        (sun, "automatic_selling"),
        (cell, "automatic_selling"),
        (flat, "automatic_buying"),
    ):
        await turn_on(resident, switch)
    await cell.add_automation("Bid low for the sun", _bidding(0.22))
    await cell.add_automation("Confirm good prices", _CONFIRM)
    await flat.add_automation("Counter dear offers", _COUNTER)
    await flat.add_automation("Bid for the sun", _bidding(0.30))


async def reasons(street: Street) -> dict[str, str]:
    """Return by offer what the homes' rules decided about it, as the rules' sensors tell."""
    found: dict[str, list[str]] = {}
    for resident in street.residents:
        for state in (await resident.api.states()).values():
            for decided in state["attributes"].get("decisions") or ():
                if decided["verdict"] == "accept" and decided["record"] is not None:
                    # A selling rule's decision made the offer, a buying rule's is about it.
                    told = f"{resident.house.name}: {decided['reason']}"
                    for offer in {decided["record"], decided["about"]}:
                        found.setdefault(offer, []).append(told)
    return {offer: ", ".join(each) for offer, each in found.items()}


async def turn_on(resident: Resident, switch: str) -> None:
    """Turn on one of the home's switches, by the end of its unique id."""
    name = await resident.entity_id("switch", switch)
    await resident.api.call("switch", "turn_on", {"entity_id": name})

    async def on() -> bool:
        return await resident.api.state(name) == "on"

    await wait_for(on, f"{name} to be on")


async def make_offers(street: Street, slot_s: int) -> AsyncIterator[Offer]:
    """Post by hand what is to be countered and what is auctioned; the rules offer by themselves."""
    sun, cell, _ = street.residents
    start = next_start(slot_s)
    yield await _sell(COUNTERED, cell, "Fuel cell", start, slot_s, {"price": 0.40, "max_power": MOST_KW})
    terms = {
        "price": 0.20,
        "auction_closes": _text(start - 20),
        "auction_reserve": 0.20,
        "auction_ceiling": 0.50,
    }
    yield await _sell(AUCTION, sun, "Solar battery", start, slot_s, terms)


async def _sell(
    kind: str, seller: Resident, device: str, start: int, slot_s: int, terms: Mapping[str, Any]
) -> Offer:
    end = start + SLOTS * slot_s
    watt_hours = MEAN_W * (end - start) // 3600
    answer = await seller.act(
        "sell",
        device_id=await seller.device_id(device),
        quantity=watt_hours,
        unit="Wh",
        start=_text(start),
        end=_text(end),
        valid_until=_text(start - 5),
        **terms,
    )
    return Offer(kind, str(answer["record"]), seller, start, end, slot_s)


def next_start(slot_s: int, now: float | None = None) -> int:
    """Return the next slot boundary by which a trade can still be agreed, in UTC seconds."""
    earliest = int(time.time() if now is None else now) + _LEAD_S
    return -(-earliest // slot_s) * slot_s


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
