"""The end of a run: are the trades settled everywhere alike, and do physics and books agree?"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo.rest import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.journal import Deal
    from demo.resident import Resident
    from demo.street import Street

# A meter's registers are polled every two seconds and interpolated to the boundary.
RESOLUTION_WH = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """A home's energy in one direction and slot: the books' sum against what physically flowed, in Wh."""

    home: str
    direction: str
    slot_end: int
    booked_wh: int
    agreed_wh: int
    physical_wh: int

    @property
    def expected_wh(self) -> int:
        """What the books should hold: what flowed, at most what was agreed."""
        return min(self.physical_wh, self.agreed_wh)

    @property
    def agrees(self) -> bool:
        """Whether both are equal within the meter's resolution."""
        return abs(self.booked_wh - self.expected_wh) <= RESOLUTION_WH


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
                if lines:
                    booked = [line.sent_wh if direction == "sent" else line.received_wh for line in lines]
                    found.append(
                        Comparison(
                            resident.house.name,
                            direction,
                            slot_end,
                            sum(value or 0 for value in booked),
                            sum(line.agreed_wh for line in lines),
                            _flowed(resident, counter, slot_end, deals[0].offer.slot_s),
                        )
                    )
    return found


def _flowed(resident: Resident, counter: str, slot_end: int, slot_s: int) -> int:
    """Return the Wh that a simulated home's counter grew by in a slot."""
    at = {boundary.time_s: boundary.energy_wh[counter] for boundary in resident.simulated.boundaries}
    return at[slot_end] - at[slot_end - slot_s]


async def equal_state_hashes(street: Street) -> tuple[int, str]:
    """Return a height and the state hash that every node has after it; raises RestError if there is none."""
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
    return agreed


async def money_sums_to_zero(resident: Resident) -> bool:
    """Return whether the balances of the whole community, as a home's node has them, sum to zero."""
    accounts = await (await resident.node()).all_accounts()
    return sum(account.balance for account in accounts) == 0
