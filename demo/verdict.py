"""The end of a run: was it delivered and paid, is it settled everywhere alike, do physics and books agree?"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.rest import RestError, wait_for
from demo.table import clock
from ledger_core.units import amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from demo.journal import Deal, Line
    from demo.resident import Resident
    from demo.street import Street
    from ledger_core.client.views import AccountView

LEAST_DELIVERED_PERMILLE = 900
"""Every kind of deal delivers at least so much of what was agreed; that it was agreed alone shows nothing."""
REGISTERS_WH = 2
"""Meters tell whole watt-hours, so the difference of two registers can be one off either way."""
SECONDS_TO_BOOK = 10
BOUNDARY_S = 1
"""A sample so near to a boundary counts as the boundary's own (`MEASURED_S` of the integration)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was checked: what was found, and whether it is as it should be."""

    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A home's energy in one direction and slot: the books' sum against what physically flowed, in Wh."""

    home: str
    direction: str
    slot_end: int
    slot_s: int
    booked_wh: int | None
    """None: a reading is missing."""
    agreed_wh: int
    physical_wh: int

    @property
    def expected_wh(self) -> int:
        """What the books should hold: what flowed, at most what was agreed."""
        return min(self.physical_wh, self.agreed_wh)

    @property
    def tolerance_wh(self) -> int:
        """What metering may err: whole watt-hours, and at each end of the slot what flows in a second."""
        return REGISTERS_WH + 2 * BOUNDARY_S * max(self.physical_wh, self.agreed_wh) // self.slot_s

    @property
    def agrees(self) -> bool:
        """Whether both are equal as far as metering can tell."""
        return self.booked_wh is not None and abs(self.booked_wh - self.expected_wh) <= self.tolerance_wh

    @property
    def finding(self) -> Finding:
        """Return it in words."""
        booked = "no reading" if self.booked_wh is None else f"{self.booked_wh} Wh"
        mark = "agrees with" if self.agrees else "DIFFERS FROM"
        return Finding(
            f"{self.home:16} {clock(self.slot_end)}  {self.direction} {booked} of {self.agreed_wh} agreed "
            f"{mark} {self.physical_wh} Wh that its simulator counted (± {self.tolerance_wh})",
            self.agrees,
        )


def compare(street: Street, deals: Sequence[Deal]) -> list[Comparison]:
    """Compare every settled slot with the simulators' own counters."""
    found = []
    by_address = {each.address: each for each in street.residents}
    for direction, counter in (("sent", "export"), ("received", "import")):
        for resident in street.residents:
            for slot_end in sorted({end for deal in deals for end in deal.slot_ends}):
                lines = [
                    line
                    for deal in deals
                    if (deal.offer.seller if direction == "sent" else by_address.get(deal.buyer)) is resident
                    for line in deal.settled
                    if line.slot_end == slot_end
                ]
                if not lines:
                    continue
                booked = [line.sent_wh if direction == "sent" else line.received_wh for line in lines]
                slot_s = deals[0].offer.slot_s
                found.append(
                    Comparison(
                        resident.house.name,
                        direction,
                        slot_end,
                        slot_s,
                        _sum(booked),
                        sum(line.agreed_wh for line in lines),
                        _flowed(resident, counter, slot_end, slot_s),
                    )
                )
    return found


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _flowed(resident: Resident, counter: str, slot_end: int, slot_s: int) -> int:
    """Return the Wh that a simulated home's counter grew by in a slot."""
    at = {boundary.time_s: boundary.energy_wh[counter] for boundary in resident.simulated.boundaries}
    return at[slot_end] - at[slot_end - slot_s]


def judge(deals: Sequence[Deal]) -> list[Finding]:
    """Check that each deal was settled and paid as it was agreed, and that each kind was delivered."""
    kinds = list(dict.fromkeys(deal.offer.kind for deal in deals))
    delivered = [_delivered(kind, [deal for deal in deals if deal.offer.kind == kind]) for kind in kinds]
    return delivered + [finding for deal in deals for finding in _judged(deal)]


def _delivered(kind: str, deals: Sequence[Deal]) -> Finding:
    """Check that the deals of a kind delivered what they agreed, but for a tenth."""
    agreed = sum(deal.agreed_wh for deal in deals)
    delivered = sum(line.delivered_wh for deal in deals for line in deal.settled)
    least = agreed * LEAST_DELIVERED_PERMILLE // 1000
    enough = agreed > 0 and delivered >= least
    wanted = "" if enough else f": TOO LITTLE, at least {least} Wh are wanted"
    return Finding(f"{kind:22} delivered {delivered} Wh of {agreed} agreed{wanted}", enough)


def _judged(deal: Deal) -> Iterator[Finding]:
    what = f"{deal.offer.kind:22}"
    if not deal.done:
        yield Finding(f"{what} NOT SETTLED alike at both homes: {deal.stage}", good=False)
    for line in deal.settled:
        if (wrong := _wrong(line, deal.price_micro)) is not None:
            yield Finding(f"{what} {clock(line.slot_end)}  {wrong}", good=False)


def _wrong(line: Line, price_micro: int) -> str | None:
    """Return what is wrong with a settled slot's figures; None: nothing."""
    if line.sent_wh is None or line.received_wh is None:
        return "NO READING of " + ("the seller" if line.sent_wh is None else "the buyer")
    if line.delivered_wh != min(line.sent_wh, line.received_wh, line.agreed_wh):
        return (
            f"delivered {line.delivered_wh} Wh IS NOT the least of {line.sent_wh} sent, "
            f"{line.received_wh} received and {line.agreed_wh} agreed"
        )
    if line.paid_micro != amount(line.delivered_wh, price_micro):
        return f"paid {line.paid_micro / 1e6:.6f} IS NOT {line.delivered_wh} Wh at {price_micro / 1e6:g}"
    return None


async def equal_state_hashes(street: Street) -> Finding:
    """Wait until every node has the same state; raises RestError if that never happens."""
    agreed = (0, "")

    async def equal() -> bool:
        nonlocal agreed
        nodes = [await each.node() for each in street.residents]
        views = await asyncio.gather(*(node.state_hash() for node in nodes))
        if len({(view.as_of.hash, view.state_hash) for view in views}) != 1:
            return False
        agreed = (views[0].as_of.height, views[0].state_hash)
        return True

    await wait_for(equal, "equal state hashes at all homes")
    height, state_hash = agreed
    return Finding(f"every node has the state hash {state_hash[:16]}… after block {height}", good=True)


async def accounts(street: Street, deals: Sequence[Deal]) -> list[Finding]:
    """Compare the ledger's accounts, as the founder's node has them, with all that was settled so far."""
    found: list[Finding] = []

    async def equal() -> bool:
        found[:] = _compared(street, await (await street.founder.node()).all_accounts(), deals)
        return all(finding.good for finding in found)

    with contextlib.suppress(RestError):
        # Homes trade on: a slot may settle just now.
        await wait_for(equal, "the accounts to be as the trades settled", SECONDS_TO_BOOK)
    return found


def _compared(street: Street, told: Sequence[AccountView], deals: Sequence[Deal]) -> list[Finding]:
    balances = {account.member.address: account.balance for account in told}
    earned: Counter[str] = Counter()
    for deal in deals:
        paid = sum(line.paid_micro for line in deal.settled)
        earned[deal.offer.seller.address] += paid
        earned[deal.buyer] -= paid
    zero = sum(balances.values()) == 0
    found = [Finding(f"all balances together are {'zero' if zero else 'NOT ZERO'}", zero)]
    for resident in street.residents:
        balance, settled = balances.get(resident.address, 0), earned[resident.address]
        mark = "as its trades settled" if balance == settled else f"NOT {settled / 1e6:.6f} as they settled"
        text = f"{resident.house.name:16} has {balance / 1e6:.6f} EUR in the ledger, {mark}"
        found.append(Finding(text, balance == settled))
    return found
