"""What the demo's homes agree: three ways to a trade, by the integration's actions and users' automations."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from demo.rest import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.resident import Resident
    from demo.street import Street

POSTED, COUNTERED, AUCTION = "posted price", "countered", "auction"
KINDS = (POSTED, COUNTERED, AUCTION)

SLOTS = 2
"""Slots of a window."""
MEAN_W = 3_000
"""What is sold, as mean power over a window."""
MOST_KW = 4.2
"""The most that a sale may draw: a fuel cell starts and ramps up first, and then makes up for that time."""
_LEAD_S = 45
"""An offer, its answers and their blocks fit in before the window starts."""

_ACCEPT = {
    "description": "Takes posted offers that are cheap enough",
    "mode": "queued",
    "triggers": [
        {"trigger": "energy_ledger.offer_received", "options": {"side": "sell", "price_below": 0.28}}
    ],
    "conditions": [{"condition": "template", "value_template": "{{ trigger.data.auction is none }}"}],
    "actions": [{"action": "energy_ledger.accept", "data": {"offer": "{{ trigger.data.offer }}"}}],
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
    """Let sellers deliver, and give every home the automations by which it answers."""
    sun, cell, flat = street.residents
    for seller in (sun, cell):
        await turn_on(seller, "automatic_selling")
    await cell.add_automation("Bid low for the sun", _bidding(0.22))
    await cell.add_automation("Confirm good prices", _CONFIRM)
    await flat.add_automation("Accept cheap offers", _ACCEPT)
    await flat.add_automation("Counter dear offers", _COUNTER)
    await flat.add_automation("Bid for the sun", _bidding(0.30))


async def turn_on(resident: Resident, switch: str) -> None:
    """Turn on one of the home's switches, by the end of its unique id."""
    entities = await resident.api.command("config/entity_registry/list")
    name = next(
        each["entity_id"]
        for each in entities
        if each["platform"] == "energy_ledger"
        and each["entity_id"].startswith("switch.")
        and str(each["unique_id"]).endswith(switch)
    )
    await resident.api.call("switch", "turn_on", {"entity_id": name})

    async def on() -> bool:
        return await resident.api.state(name) == "on"

    await wait_for(on, f"{name} to be on")


async def make_offers(street: Street, slot_s: int) -> list[Offer]:
    """Post three offers for the next windows, one for each way to a trade; returns them in order."""
    sun, cell, _ = street.residents
    first = next_start(slot_s)
    later = first + SLOTS * slot_s
    return [
        await _sell(POSTED, sun, "Solar battery", first, slot_s, {"price": 0.25}),
        await _sell(COUNTERED, cell, "Fuel cell", first, slot_s, {"price": 0.40}),
        await _sell(
            AUCTION,
            sun,
            "Solar battery",
            later,
            slot_s,
            {
                "price": 0.20,
                "auction_closes": _text(later - 20),
                "auction_reserve": 0.20,
                "auction_ceiling": 0.50,
            },
        ),
    ]


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
        max_power=MOST_KW,
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
