"""The demo's street: three residents, their community, and what they agree between each other."""

import asyncio
from typing import TYPE_CHECKING

from demo.houses import HOUSES
from demo.resident import Resident

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMUNITY = "Linden Street"
SLOT_S = 60
GRACE_S = 60
# The shortest that the forms allow: slots of a minute, a block a second, a minute for readings to arrive.
TERMS = {
    "slot_s": str(SLOT_S),
    "block_spacing_s": 1,
    "checkpoint_interval": 10,
    "grace_s": GRACE_S // 60,  # the form asks for minutes
    "money_mode": "mutual_credit",
    "credit_limit": 50,
    "asset_approval": "owner",
}


class Street:
    """Three homes of one community on this machine; `say` is told every step."""

    def __init__(self, folder: Path, packages: Path | None, say: Callable[[str], None]) -> None:
        """Prepare three homes below a folder."""
        self.residents = tuple(Resident(house, folder / house.key, packages) for house in HOUSES)
        self._say = say

    @property
    def founder(self) -> Resident:
        """The home that founds the community and invites the others."""
        return self.residents[0]

    async def start(self) -> None:
        """Start the homes, found the community, let the others join, add the devices."""
        self._say("starting three Home Assistants with their devices")
        await asyncio.gather(*(each.start() for each in self.residents))
        self._say(f"{self.founder.house.owner} founds the community {COMMUNITY!r}")
        await self.founder.found(COMMUNITY, TERMS)
        others = self.residents[1:]
        self._say(f"{' and '.join(each.house.owner for each in others)} join by invitations")
        invitations = [await self.founder.invite() for _ in others]
        await asyncio.gather(*map(Resident.join, others, invitations, strict=True))
        self._say("everybody adds the devices of the house")
        await asyncio.gather(*(each.add_devices() for each in self.residents))
        await asyncio.gather(*(each.wait_assets() for each in self.residents))

    async def stop(self) -> None:
        """End everything, also what did not start as it should."""
        await asyncio.gather(*(each.stop() for each in self.residents), return_exceptions=True)
