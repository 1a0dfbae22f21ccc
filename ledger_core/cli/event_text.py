"""What happened, in a sentence: the events of a node's stream for people."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ledger_core.cli.quantities import (
    show_address,
    show_energy,
    show_id,
    show_money,
    show_power,
    show_price,
    show_quantity,
    show_time,
    show_window,
)
from ledger_core.cli.record_view import role_names
from ledger_core.cli.refusal_text import people_text
from ledger_core.client.views import EventView
from ledger_core.keys import address

type Data = Mapping[str, Any]

PARTIES: Final = ("member", "owner", "author", "offerer", "seller", "buyer", "by", "source", "target")
"""Fields of events that name members."""


def concerns(event: EventView, member: str) -> bool:
    """Tell whether an event names a member (key in hexadecimal)."""
    return any(event.data.get(name) == member for name in PARTIES)


def event_line(event: EventView, currency: str) -> str | None:
    """Return what happened as a sentence; None for what is only of the chain's own interest."""
    describe = _TEXTS.get(event.event)
    return None if describe is None else describe(event.data, currency)


def _who(key: str | None) -> str:
    return "-" if key is None else show_address(address(bytes.fromhex(key)))


def _member(data: Data, _: str) -> str:
    roles = ", ".join(role_names(data["roles"]))
    if data["admitted"]:
        return f"{_who(data['member'])} joined as {roles}"
    return f"{_who(data['member'])} is {roles} now" if roles else f"{_who(data['member'])} was revoked"


def _asset(data: Data, _: str) -> str:
    state = f"gives up to {show_power(data['rating_w'])}" if data["rating_w"] else "is retired"
    return f"asset {show_id(data['asset'])} of {_who(data['owner'])} {state}"


def _trade(data: Data, currency: str) -> str:
    return (
        f"trade {show_id(data['trade'])}: {_who(data['seller'])} sells "
        f"{show_quantity(data['quantity'], data['basis'])} to {_who(data['buyer'])}, "
        f"{show_window(data['start'], data['end'])}, {show_price(data['price'], currency, data['basis'])}"
    )


def _slot(data: Data, currency: str) -> str:
    text = (
        f"settled until {show_time(data['slot_end'])} of trade {show_id(data['trade'])}: agreed "
        f"{show_energy(data['agreed_wh'])}, sent {show_energy(data['sent_wh'])}, received "
        f"{show_energy(data['received_wh'])}, delivered {show_energy(data['delivered_wh'])}, paid "
        f"{show_money(data['paid'], currency)}"
    )
    if data["shortfall_paid"]:
        text += f", {show_money(data['shortfall_paid'], currency)} back for what was missing"
    return text + (", disputed" if data["disputed"] else "")


def _waits(data: Data, _: str) -> str:
    what = "bids" if data["bid"] else "proposes other terms"
    return f"{_who(data['author'])} {what} for offer {show_id(data['offer'])}: {show_id(data['acceptance'])}"


def _why(data: Data) -> str:
    return people_text(data["code"], data["message"])


def _money(data: Data, currency: str) -> str:
    verb = {"pay": "pays", "issue": "issues", "redeem": "redeems"}[data["kind"]]
    return f"{_who(data['source'])} {verb} {show_money(data['amount'], currency)} to {_who(data['target'])}"


_TEXTS: Final[Mapping[str, Callable[[Data, str], str]]] = {
    "member_changed": _member,
    "asset_changed": _asset,
    "offer_opened": lambda data, _: f"offer {show_id(data['offer'])} by {_who(data['author'])}",
    "offer_closed": lambda data, _: f"offer {show_id(data['offer'])} closed: {data['reason']}",
    "acceptance_waits": _waits,
    "acceptance_ended": lambda data, _: f"{show_id(data['acceptance'])} ended: {data['reason']}",
    "trade_agreed": _trade,
    "trade_terminated": lambda data, currency: (
        f"trade {show_id(data['trade'])} ends at {show_time(data['end'])}, by {_who(data['by'])} for "
        f"{show_money(data['compensation'], currency)}"
    ),
    "slot_settled": _slot,
    "trade_closed": lambda data, currency: (
        f"trade {show_id(data['trade'])} is done: {show_energy(data['delivered_wh'])} delivered, "
        f"{show_money(data['paid'], currency)} paid"
    ),
    "money_moved": _money,
    "score_given": lambda data, _: (
        f"{_who(data['by'])} gives {_who(data['member'])} {data['score']} of 10 for trade "
        f"{show_id(data['trade'])}"
    ),
    "node_punished": lambda data, _: f"{_who(data['member'])} lost the role node: {data['offence']}",
    "checkpoint_final": lambda data, _: f"block {data['height']} is final",
    "record_contested": lambda data, _: f"record {show_id(data['record'])} is beaten: {_why(data)}",
    "record_lost": lambda data, _: f"record {show_id(data['record'])} became impossible: {_why(data)}",
    "voting_stopped": lambda data, _: f"the node votes no more: {data['reason']}",
    "branch_parted": lambda data, _: f"other blocks are final to the node {_who(data['node'])}",
    "clock_doubted": lambda data, _: f"the node doubts its clock: {data['reason']}",
    "clock_trusted": lambda _data, _: "the node trusts its clock again",
    "resync": lambda data, _: f"events before block {data['height']} are missing",
    "snapshot_adopted": lambda data, _: f"the chain goes on from a snapshot at block {data['height']}",
}
