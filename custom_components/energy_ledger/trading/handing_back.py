"""Hands back what can't be delivered, early: by ending the rest of the trade, where that is the cheaper way.

A sale whose device is lost, refuses or has reached its reserve for a while will not be delivered. The rest
of it, from the next slot boundary on that a block can still reach, can be ended: the other side is told at
once, and buys elsewhere. Ending alone costs what the community asks (a part of the rest's price). Letting it
come to the shortfall costs the shortfall price. The cheaper one is taken; ending, when both cost the same.
"""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final

from homeassistant.core import HomeAssistant

from ledger_core.client.views import TradeView
from ledger_core.errors import LedgerError
from ledger_core.records.types import AssetKind
from ledger_core.units import amount

from ..data import EnergyLedgerEntry
from ..events import async_tell, shortfall_expected
from .agreed import agreed_from, agreed_in, slot_of
from .gate import DeliveryGate
from .gate_model import Block, DeviceNow, SaleView, TradeState
from .notebook import HandedBack, Notebook

_LOGGER = logging.getLogger(__name__)

PATIENCE_S: Final = 60
"""A device may be away so long before its sales are given up; in short slots a quarter of one."""
LASTING: Final = frozenset(
    {Block.RESERVE, Block.DEVICE_LOST, Block.REFUSED, Block.NO_DEVICE, Block.METER_AWAY}
)
"""Why a sale is given up; a node that is away, or a switch that is off, is no such reason."""
FEED_IN: Final = frozenset({AssetKind.PV.value, AssetKind.WIND.value})
"""What delivers by itself, whether it can be reached or not."""


def lasting_reason(sale: SaleView, device: DeviceNow | None, kind: str) -> Block | None:
    """Return why a sale can't be delivered as things stand; None: it can, or nobody knows otherwise."""
    if sale.block is Block.METER_AWAY:
        return sale.block
    if kind in FEED_IN and (device is None or not device.commandable):
        return None
    if sale.state is TradeState.BLOCKED:
        return sale.block if sale.block in LASTING else None
    if sale.state is TradeState.DELIVERING:
        return None
    if device is None:
        return Block.NO_DEVICE
    if not device.reachable:
        return Block.DEVICE_LOST
    level, reserve = device.level_permille, device.reserve_permille
    return Block.RESERVE if level is not None and reserve is not None and level <= reserve else None


def new_end(trade: TradeView, now: float, slot_s: int) -> int | None:
    """Return the earliest end that a block can still take; None: nothing of the trade would be left out."""
    boundary = slot_of(now, slot_s) + slot_s
    if boundary - now < slot_s / 10:  # the record must get into a block before
        boundary += slot_s
    end = max(boundary, trade.start)
    return end if end < trade.end else None


@dataclass(frozen=True, slots=True)
class Costs:
    """What the rest of a trade costs that can't be delivered; Wh and micro-currency."""

    energy_wh: int
    ending: int
    shortfall: int
    extra: int
    """What the user would add so that the other side knows early."""

    @property
    def worth_ending(self) -> bool:
        """Whether ending costs no more than the shortfall, and what the user adds."""
        return self.ending <= self.shortfall + self.extra


def costs(trade: TradeView, end: int, slot_s: int, permille: int, extra_price: int) -> Costs:
    """Return what both ways cost; `permille` is the community's part for ending alone."""
    rest = agreed_from(trade, end, slot_s)
    return Costs(
        rest,
        -(-amount(rest, trade.price) * permille // 1000),
        amount(rest, trade.shortfall_price),
        amount(rest, extra_price),
    )


@dataclass(slots=True)
class _Failing:
    reason: Block
    since: float
    told: bool = False


@dataclass(slots=True)
class HandingBack:
    """Watches over the sales of one home, those in their window and those of the next slot."""

    hass: HomeAssistant
    entry: EnergyLedgerEntry
    gate: DeliveryGate
    notebook: Notebook
    _failing: dict[str, _Failing] = field(default_factory=dict)
    _permille: int | None = None

    async def async_look(self, now: float) -> None:
        """End what can't be delivered, once it lasts. Raises ClientError."""
        data = self.entry.runtime_data
        if data.settings is None or not data.settings.limits.automatic_selling:
            self._failing.clear()
            return
        world = self.gate.world(now)
        kinds = {asset.asset: asset.kind for asset in data.ledger.data.assets}
        failing: dict[str, _Failing] = {}
        for sale in self.gate.sales:
            trade = sale.trade
            if trade.seller.key != world.home or not trade.start - world.slot_s <= now < trade.end:
                continue
            reason = lasting_reason(sale, world.devices.get(trade.asset), kinds.get(trade.asset, ""))
            if reason is None:
                continue
            known = self._failing.get(trade.trade)
            row = failing[trade.trade] = _Failing(reason, now) if known is None else known
            row.reason = reason
            if now - row.since >= min(PATIENCE_S, world.slot_s / 4):
                await self._give_up(trade, row, now, world.slot_s, data.settings.limits.hand_back_price)
        self._failing = failing

    async def _give_up(self, trade: TradeView, row: _Failing, now: float, slot_s: int, extra: int) -> None:
        if now < trade.start and not row.told:
            # The gate tells of what runs; of what is still to come it knows nothing.
            row.told = True
            agreed = agreed_in(trade, trade.start, slot_s)
            event = shortfall_expected(
                trade,
                self.gate.home,
                int(now),
                trade.start + slot_s,
                agreed,
                expected_wh=0,
                reason=row.reason.value,
            )
            async_tell(self.hass, self.entry.entry_id, event)
        end = new_end(trade, now, slot_s)
        known = self.notebook.pages.handed_back.get(trade.trade)
        if known is not None and now < known.end:
            home = self.entry.runtime_data.home
            # What may not have arrived is sent again as it was signed: it counts once.
            if known.record in home.unsent and await self._send(home.resubmit(known.record)) is None:
                del self.notebook.pages.handed_back[trade.trade]
            return
        if end is None:
            return
        price = costs(trade, end, slot_s, await self._asked_permille(), extra)
        if not price.worth_ending:
            _LOGGER.debug("%s: ending costs %s, the shortfall %s", trade.trade, price.ending, price.shortfall)
            return
        home = self.entry.runtime_data.home
        record = await self._send(home.terminate(trade.trade, end, price.ending))
        if record is not None:
            self.notebook.pages.handed_back[trade.trade] = HandedBack(
                record=record, reason=row.reason.value, end=end, at=int(now), compensation=price.ending
            )

    async def _send(self, sending: Awaitable[str]) -> str | None:
        """Return the id of a record that was sent, or may have been; None: it was not."""
        try:
            return await sending
        except LedgerError as error:
            _LOGGER.warning("%s: the rest of a trade was not ended: %s", self.entry.title, error)
            record = error.details.get("record")
            return None if record is None else str(record)

    async def _asked_permille(self) -> int:
        """Return the part of the rest's price that ending alone costs in this community."""
        if self._permille is None:
            community = await self.entry.runtime_data.client.community()
            self._permille = int(community.parameters["termination_permille"])
        return self._permille
