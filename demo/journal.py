"""What happened in the demo, as the homes' Home Assistants told it: trades, deliveries and settlements."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from demo.bargains import POSTED, Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.resident import Resident


@dataclass(frozen=True, slots=True)
class Line:
    """A settled slot of a trade; Wh and micro-currency, None where no reading was there."""

    slot_end: int
    agreed_wh: int
    sent_wh: int | None
    received_wh: int | None
    delivered_wh: int
    paid_micro: int
    disputed: bool


@dataclass(slots=True)
class Deal:
    """One offer and what became of it. `lines` are by the home that told them and by slot."""

    offer: Offer
    trade: str = ""
    buyer: str = ""
    agreed_wh: int = 0
    price_micro: int = 0
    delivering: bool | None = None
    """None: not begun yet; False: ended."""
    lines: dict[str, dict[int, Line]] = field(default_factory=dict)
    why: str = ""
    """What the homes' rules decided, where it was rules."""

    @property
    def slots(self) -> int:
        """Slots of the window."""
        return len(self.slot_ends)

    @property
    def slot_ends(self) -> list[int]:
        """The ends of the window's slots, in UTC seconds."""
        first = self.offer.start + self.offer.slot_s
        return list(range(first, self.offer.end + 1, self.offer.slot_s))

    @property
    def settled(self) -> list[Line]:
        """The lines as the seller was told them, in order of the slots."""
        return [line for _, line in sorted(self.lines.get(self.offer.seller.house.key, {}).items())]

    @property
    def done(self) -> bool:
        """Whether every slot is settled, and both homes were told the same."""
        told = list(self.lines.values())
        return len(told) == 2 and len(told[0]) == self.slots and told[0] == told[1]

    @property
    def stage(self) -> str:
        """How far it is, in a word."""
        if self.done:
            return "settled"
        if self.settled:
            return f"settled {len(self.settled)} of {self.slots}"
        if self.delivering is not None:
            return "delivering" if self.delivering else "delivered, being metered"
        return "agreed" if self.trade else "offered"


class Journal:
    """Hears every home's events; `changed` is called after each that matters."""

    def __init__(self, changed: Callable[[], None], slot_s: int) -> None:
        """Begin with nothing, in a community with such slots."""
        self.deals: list[Deal] = []
        self._slot_s = slot_s
        self._changed = changed

    def add(self, offer: Offer) -> None:
        """Follow an offer that was posted by hand."""
        self.deals.append(Deal(offer))
        self._changed()

    def heard(self, resident: Resident, event: dict[str, Any]) -> None:
        """Take an event of a home: its kind under `type`, its fields beside it."""
        kind = event["type"]
        if kind == "trade_agreed":
            self._agreed(resident, event)
        deal = next((each for each in self.deals if each.trade and each.trade == event.get("trade")), None)
        if deal is None:
            return
        if kind == "delivery_started":
            deal.delivering = True
        elif kind == "delivery_ended":
            deal.delivering = False
        elif kind == "slot_settled":
            line = line_of(event)
            deal.lines.setdefault(resident.house.key, {})[line.slot_end] = line
        self._changed()

    def _agreed(self, resident: Resident, event: dict[str, Any]) -> None:
        deal = next((each for each in self.deals if each.offer.record == event["offer"]), None)
        if deal is None and resident.address == event["seller"]:
            # Nobody posted it by hand: the seller's rule did.
            start, end = seconds(event["start"]), seconds(event["end"])
            deal = Deal(Offer(POSTED, event["offer"], resident, start, end, self._slot_s))
            self.deals.append(deal)
        if deal is not None and not deal.trade:
            deal.trade = event["trade"]
            deal.buyer = event["buyer"]
            deal.agreed_wh = round(event["quantity"] * 1000)
            deal.price_micro = round(event["price"] * 1_000_000)


def line_of(event: dict[str, Any]) -> Line:
    """Return a settled slot of an event in people's units."""
    return Line(
        slot_end=seconds(event["slot_end"]),
        agreed_wh=_wh(event["agreed_kwh"]) or 0,
        sent_wh=_wh(event["sent_kwh"]),
        received_wh=_wh(event["received_kwh"]),
        delivered_wh=_wh(event["delivered_kwh"]) or 0,
        paid_micro=round(event["paid"] * 1_000_000),
        disputed=bool(event["disputed"]),
    )


def seconds(text: str) -> int:
    """Return UTC seconds of a time with its offset."""
    return int(datetime.fromisoformat(text).timestamp())


def _wh(kilowatt_hours: float | None) -> int | None:
    return None if kilowatt_hours is None else round(kilowatt_hours * 1000)
