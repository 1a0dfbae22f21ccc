"""Another home of the community, without a Home Assistant: it joins by an invitation, and offers energy."""

import asyncio
import time
from typing import TYPE_CHECKING

from ledger_core.client import NodeClient
from ledger_core.client.bodies import AssetTerms, OfferTerms
from ledger_core.client.home import Home
from ledger_core.client.local import local_api
from ledger_core.client.waiting import wait_for_record
from ledger_core.keys import SoftwareSigner
from ledger_core.records.types import AssetKind, Role

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_core.client.views import TradeView

_ROOF_W = 8_000
_CONNECTION_W = 17_000


class Neighbour:
    """A member that acts through the walk's own node. Use it as an async context manager."""

    def __init__(self, client: NodeClient) -> None:
        """Take a client of the community's node; it is closed with this object."""
        self._client = client
        self._home = Home(client, SoftwareSigner.generate())
        self._meter, self._roof = Home.new_asset_id(), Home.new_asset_id()

    @classmethod
    async def beside(cls, config_dir: Path) -> Neighbour:
        """Return a neighbour that asks the node of the Home Assistant with this configuration."""
        folder = next(each.parent for each in (config_dir / "energy_ledger").glob("*/genesis"))
        api = await asyncio.to_thread(local_api, folder)
        return cls(NodeClient(api.url, api.token))

    async def __aenter__(self) -> Neighbour:
        """Give this neighbour."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._client.close()

    async def join(self, invitation: str) -> None:
        """Become a member, with a meter and a solar roof on the ledger."""
        await self._in_chain(await self._home.join(invitation, "Next door", roles=int(Role.HOME)))
        meter = AssetTerms(
            asset=self._meter,
            kind=AssetKind.METER,
            rating_w=_CONNECTION_W,
            meter_key=SoftwareSigner.generate().public_key,
        )
        await self._in_chain(await self._home.register_asset(meter))
        roof = AssetTerms(asset=self._roof, kind=AssetKind.PV, rating_w=_ROOF_W, meter=self._meter)
        await self._in_chain(await self._home.register_asset(roof))

    async def offer(self, quantity_wh: int, price: int) -> str:
        """Offer energy in the slot after the next, at micro-currency per kWh; return the offer's id."""
        slot_s = await self._home.slot_s()
        start = (int(time.time()) // slot_s + 2) * slot_s
        terms = OfferTerms(
            quantity=quantity_wh, start=start, end=start + slot_s, price=price, asset=self._roof
        )
        return await self._home.offer(terms)

    async def trade_of(self, offer: str) -> TradeView | None:
        """Return the trade that came of an offer, once it is in the chain."""
        return next((each for each in await self._client.all_trades() if each.offer == offer), None)

    async def _in_chain(self, record: str) -> None:
        await wait_for_record(self._client, record, timeout_s=120)
