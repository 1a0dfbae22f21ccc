"""The delivery gate, sans I/O: which device may give how much now, and why not more.

No ledgered trade, no physical exchange: power is asked of a device only for sales of this home that are in
the chain with the wanted confirmations (or final), within their windows, above the device's reserve, and up
to the energy agreed for the slot. `evaluate` is called whenever something changed and at the latest when it
says; it returns what a driver has to carry out, in that order.

What counts is what leaves the home: a command covers the booked power and what the home itself draws, and is
corrected by the measured exchange with the grid. Energy of the slot that is missing is made up for with at
most a tenth more than the booked power.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ledger_core.client.views import TradeView
from ledger_core.units import energy, mean_power, share_out

from .agreed import agreed_from, agreed_in, runs_in, slot_of
from .gate_model import (
    Action,
    Block,
    Command,
    DeviceNow,
    End,
    Ended,
    Release,
    SaleView,
    Short,
    Started,
    TradeState,
    World,
)

RETRY_S = 30.0
"""A device that refused or could not be reached is asked again after this time."""
CORRECT_S = 3.0
"""A command's power is corrected at most so often."""
OUTPUT_S = 60.0
"""So long a correction waits for the device to tell what it gives since its last command."""
DEADBAND_W = 30
HELD_W = 50
"""What a store gives at least that would charge with what was sold."""
CATCH_UP_PERMILLE = 1100
RESUME_PERMILLE = 20
"""A store that reached its reserve delivers again when it is so far above it."""
UNCOUNTED_S = 60.0
"""So long, or a quarter of a slot, a delivery goes on while the home's meter is away."""
SHORTFALL_WH = 20
SHORTFALL_PERMILLE = 50


@dataclass(slots=True)
class _Sale:
    """What the gate knows of one sale, or purchase."""

    trade: TradeView
    height: int
    buying: bool = False
    """Nothing is commanded for what this home buys; its window is told all the same."""
    state: TradeState = TradeState.WAITING
    block: Block | None = None
    started: bool = False
    sent_wh: int = 0
    slot: int = -1
    slot_sent_wh: int = 0
    """Since the slot's start."""
    short_told: int = -1


_KEPT: Final = ("height", "buying", "started", "sent_wh", "slot", "slot_sent_wh", "short_told")
"""What of a sale must survive a restart."""


@dataclass(slots=True)
class _Asset:
    """What the gate has asked of one asset's device."""

    power_w: int = 0
    until: float = 0.0
    ordered_at: float = 0.0
    retry_at: float = 0.0
    block: Block | None = None
    at_reserve: bool = False
    held: bool = False
    """It charged with what was sold, and is told to give a little instead until that is delivered."""


@dataclass(slots=True)
class Gate:
    """The gate of one home. `confirmations`: blocks including the trade's own; None: only when final."""

    confirmations: int | None = 2
    sales: dict[str, _Sale] = field(default_factory=dict)
    assets: dict[str, _Asset] = field(default_factory=dict)
    heights: dict[str, int] = field(default_factory=dict)
    """Block of agreement by trade, where an event told it."""
    _registers: tuple[int | None, int | None] = (None, None)
    """What the meter told last of export and import, Wh."""

    # --- what the driver tells --------------------------------------------------------------------------

    def note_agreed(self, trade: str, height: int) -> None:
        """A block of this height made a trade binding."""
        self.heights[trade] = height
        if trade in self.sales:
            self.sales[trade].height = height

    def note_failed(self, asset: str, reason: Block, now: float) -> None:
        """A command was refused, did not get through, or ended by itself."""
        row = self.assets.setdefault(asset, _Asset())
        row.power_w = 0
        row.block = reason
        row.retry_at = now + RETRY_S
        row.at_reserve = row.at_reserve or reason is Block.RESERVE

    def kept(self) -> dict[str, Any]:
        """Return what must survive a restart, JSON-friendly."""
        sales = {name: {field: getattr(sale, field) for field in _KEPT} for name, sale in self.sales.items()}
        return {"sales": sales, "registers": list(self._registers)}

    def restore(self, kept: Mapping[str, Any], trades: Iterable[TradeView]) -> None:
        """Go on from what `kept` gave before a restart, with the trades that there are now."""
        sales = kept.get("sales", {})
        for trade in trades:
            row = sales.get(trade.trade)
            if row is not None:
                self.sales[trade.trade] = _Sale(trade, **row)
        exported, imported = kept.get("registers", (None, None))
        self._registers = (exported, imported)

    def views(self, tip: int) -> list[SaleView]:
        """Return how every sale stands, earliest window first."""
        ordered = sorted(self.sales.values(), key=lambda sale: (sale.trade.start, sale.trade.trade))
        return [
            SaleView(sale.trade, sale.state, sale.block, sale.sent_wh, max(tip - sale.height + 1, 0))
            for sale in ordered
        ]

    # --- deciding ---------------------------------------------------------------------------------------

    def evaluate(self, world: World) -> list[Action]:
        """Return what has to be done now."""
        actions: list[Action] = []
        self._count(world)
        self._follow(world, actions)
        slot = slot_of(world.now, world.slot_s)
        due: dict[str, list[_Sale]] = {}
        for sale in self.sales.values():
            self._judge(sale, slot, world)
            if sale.state is TradeState.DELIVERING and not sale.buying:
                due.setdefault(sale.trade.asset, []).append(sale)
        for asset in sorted(due.keys() | self.assets.keys()):
            self._drive(asset, due.get(asset, []), world, actions)
        for sale in self.sales.values():
            self._tell(sale, slot, world, actions)
        return actions

    def next_due(self, world: World) -> float:
        """Return when `evaluate` must be called again even if nothing changes."""
        slot_end = slot_of(world.now, world.slot_s) + world.slot_s
        times = [float(slot_end)]
        times += [row.retry_at for row in self.assets.values() if row.retry_at > world.now]
        times += [
            at for at in (world.known_until, _counted_until(world)) if at is not None and at > world.now
        ]
        return min(times)

    def release_all(self, reason: End) -> list[Action]:
        """Return what ends everything now: unloading, stopping."""
        actions: list[Action] = [Release(name, reason) for name, row in self.assets.items() if row.power_w]
        for sale in self.sales.values():
            if sale.started:
                actions.append(Ended(sale.trade, reason, sale.sent_wh))
                sale.started = False
        self.assets.clear()
        return actions

    # --- energy -----------------------------------------------------------------------------------------

    def _count(self, world: World) -> None:
        """Share what the meter counted since the last look over the sales of the slot it belongs to."""
        before = self._registers
        now = (world.exported_wh, world.imported_wh)
        self._registers = (
            now[0] if now[0] is not None else before[0],
            now[1] if now[1] is not None else before[1],
        )
        for buying in (False, True):
            old, new = before[buying], now[buying]
            if old is not None and new is not None and new > old:
                self._share(new - old, buying, world.slot_s)

    def _share(self, watt_hours: int, buying: bool, slot_s: int) -> None:
        # As the ledger will: all that flowed within a slot counts, whether it was asked for or not.
        open_sales = [
            sale for sale in self.sales.values() if sale.buying is buying and runs_in(sale.trade, sale.slot)
        ]
        open_sales.sort(key=lambda sale: sale.trade.trade)
        claims = [max(agreed_in(sale.trade, sale.slot, slot_s) - sale.slot_sent_wh, 0) for sale in open_sales]
        shares = share_out(watt_hours, claims, [sale.trade.trade.encode() for sale in open_sales])
        for sale, share in zip(open_sales, shares, strict=True):
            sale.slot_sent_wh += share
            sale.sent_wh += share

    # --- sales ------------------------------------------------------------------------------------------

    def _follow(self, world: World, actions: list[Action]) -> None:
        """Take over the chain's view: new sales, changed ends, sales that are gone."""
        mine = {
            trade.trade: trade for trade in world.trades if world.home in (trade.seller.key, trade.buyer.key)
        }
        for name in [name for name in self.sales if name not in mine]:
            sale = self.sales.pop(name)
            self.heights.pop(name, None)
            if sale.started:
                over = world.now >= sale.trade.end
                actions.append(Ended(sale.trade, End.WINDOW if over else End.TERMINATED, sale.sent_wh))
        for name, trade in mine.items():
            known = self.sales.get(name)
            if known is None:
                # Nobody told its block: it stands in the chain up to the tip, so it is counted from there.
                height = self.heights.get(name, world.tip)
                self.sales[name] = _Sale(trade, height, trade.buyer.key == world.home)
            else:
                known.trade = trade

    def _judge(self, sale: _Sale, slot: int, world: World) -> None:
        """Say how a sale stands, apart from what its device can do."""
        trade = sale.trade
        if sale.slot != slot:
            sale.slot, sale.slot_sent_wh = slot, 0
        sale.block = None
        if not trade.start <= world.now < trade.end:
            sale.state = TradeState.DELIVERED if world.now >= trade.end else TradeState.WAITING
        elif not self._confirmed(sale, world):
            sale.state = TradeState.UNCONFIRMED
        elif not world.enabled and not sale.buying:
            sale.state, sale.block = TradeState.BLOCKED, Block.DRY_RUN
        elif world.known_until is not None and world.now >= world.known_until:
            sale.state, sale.block = TradeState.BLOCKED, Block.NODE_AWAY
        elif not sale.buying and (until := _counted_until(world)) is not None and world.now >= until:
            # What nobody counts is given away: the ledger pays for readings.
            sale.state, sale.block = TradeState.BLOCKED, Block.METER_AWAY
        elif sale.slot_sent_wh >= agreed_in(trade, slot, world.slot_s):
            sale.state = TradeState.DELIVERED
        else:
            sale.state = TradeState.DELIVERING

    def _confirmed(self, sale: _Sale, world: World) -> bool:
        if sale.height <= world.final:
            return True
        return self.confirmations is not None and world.tip - sale.height + 1 >= self.confirmations

    # --- devices ----------------------------------------------------------------------------------------

    def _drive(self, asset: str, sales: list[_Sale], world: World, actions: list[Action]) -> None:
        """Command, correct or release one asset's device."""
        row = self.assets.setdefault(asset, _Asset())
        device = world.devices.get(asset)
        block = self._blocked(row, device, world)
        if block is not None:
            for sale in sales:
                sale.state, sale.block = TradeState.BLOCKED, block
            sales = []
        if not sales or device is None or not device.commandable:
            if row.power_w:
                actions.append(Release(asset, str(block or self._why(asset, world))))
                row.power_w = 0
            row.held = False
            return
        row.block = None
        target = sum(self._target(sale, world) for sale in sales)
        # Never far ahead: a device that hears no more of us stops by itself.
        slot_end = slot_of(world.now, world.slot_s) + world.slot_s
        until = float(min(slot_end + world.slot_s, *(sale.trade.end for sale in sales)))
        power = self._power(row, device, target, world)
        if power <= 0:
            if row.power_w:
                actions.append(Release(asset, "the home gives enough without it"))
                row.power_w = 0
            return
        if self._worth(row, device, power, until, target, world):
            row.power_w, row.until, row.ordered_at = power, until, world.now
            actions.append(Command(asset, power, until, device.reserve_permille))

    def _why(self, asset: str, world: World) -> str:
        """Say why nothing is asked of a device any more."""
        sales = [sale for sale in self.sales.values() if sale.trade.asset == asset and sale.started]
        for sale in sales:
            if sale.block is not None:
                return sale.block
            if sale.state is TradeState.DELIVERED and world.now < sale.trade.end:
                return End.ENERGY
        return End.WINDOW if sales else End.TERMINATED

    def _blocked(self, row: _Asset, device: DeviceNow | None, world: World) -> Block | None:
        if device is None:
            return Block.NO_DEVICE
        if not device.reachable:
            return Block.DEVICE_LOST
        if row.retry_at > world.now:
            return row.block
        level, reserve = device.level_permille, device.reserve_permille
        if level is not None and reserve is not None:
            row.at_reserve = level <= reserve or (row.at_reserve and level < reserve + RESUME_PERMILLE)
            if row.at_reserve:
                return Block.RESERVE
        return None

    def _target(self, sale: _Sale, world: World) -> int:
        """Return the power that a sale needs to leave the home now, near what is booked."""
        trade = sale.trade
        agreed = agreed_in(trade, sale.slot, world.slot_s)
        if world.exported_wh is None:  # nobody counts what leaves: evenly over the slot
            return mean_power(agreed, world.slot_s)
        left_wh = agreed - sale.slot_sent_wh
        left_s = max(sale.slot + world.slot_s - world.now, 1.0)
        needed = int(left_wh * 3600 / left_s)
        return min(max(needed, trade.watts * (2000 - CATCH_UP_PERMILLE) // 1000), _most(trade.watts))

    def _power(self, row: _Asset, device: DeviceNow, target: int, world: World) -> int:
        """Return the power to command, so that the target leaves the home."""
        wanted = target
        if world.surplus_w is not None:
            all_targets = sum(
                self._target(sale, world)
                for sale in self.sales.values()
                if sale.state is TradeState.DELIVERING and not sale.buying
            )
            output = device.output_w if device.output_w is not None else row.power_w
            gap = all_targets - world.surplus_w
            wanted = output + gap * target // max(all_targets, 1)
            # A store that takes what was sold: were it let go as soon as that leaves the home, it would take
            # it again.
            row.held = row.held or (output < 0 < gap)
            if row.held:
                wanted = max(wanted, HELD_W)
        return min(wanted, device.max_w)

    def _worth(
        self, row: _Asset, device: DeviceNow, power: int, until: float, target: int, world: World
    ) -> bool:
        """Whether a command is new, or differs enough from what is in force and was measured since."""
        if not row.power_w or row.until != until:
            return True
        # Meter and device are read one after the other: an output from before the command and an exchange
        # from after it would take the command back.
        waited = world.now - row.ordered_at
        if device.output_w is not None and waited - device.output_age_s <= 0.5 and waited < OUTPUT_S:
            return False
        if world.now - row.ordered_at < CORRECT_S or world.measured_at <= row.ordered_at + 0.5:
            return False
        return abs(power - row.power_w) > max(DEADBAND_W, target * 30 // 1000)

    # --- telling ----------------------------------------------------------------------------------------

    def _tell(self, sale: _Sale, slot: int, world: World, actions: list[Action]) -> None:
        """Tell when a delivery begins, ends, or will fall short."""
        trade = sale.trade
        if sale.state is TradeState.DELIVERING and not sale.started:
            sale.started = True
            actions.append(Started(trade))
        elif sale.started and sale.state is TradeState.BLOCKED:
            sale.started = False
            actions.append(Ended(trade, _END_OF.get(sale.block, End.STOPPED), sale.sent_wh))
        elif sale.started and world.now >= trade.end:
            sale.started = False
            agreed = agreed_from(trade, trade.start, world.slot_s)
            actions.append(Ended(trade, End.ENERGY if sale.sent_wh >= agreed else End.WINDOW, sale.sent_wh))
        self._tell_short(sale, slot, world, actions)

    def _tell_short(self, sale: _Sale, slot: int, world: World, actions: list[Action]) -> None:
        """Tell once in a slot that its energy will not be reached, as soon as that can be seen."""
        if (
            sale.buying
            or sale.short_told == slot
            or sale.state not in (TradeState.BLOCKED, TradeState.DELIVERING)
        ):
            return
        agreed = agreed_in(sale.trade, slot, world.slot_s)
        expected = sale.slot_sent_wh
        if sale.state is TradeState.DELIVERING:
            if world.exported_wh is None:
                return
            left_s = max(int(slot + world.slot_s - world.now), 0)
            expected += energy(_most(sale.trade.watts), left_s)
        if agreed - expected > max(SHORTFALL_WH, agreed * SHORTFALL_PERMILLE // 1000):
            sale.short_told = slot
            actions.append(Short(sale.trade, slot + world.slot_s, agreed, expected, sale.block))


def _counted_until(world: World) -> float | None:
    """Return until when deliveries may go on without a meter that counts them; None: it does."""
    if world.uncounted_since is None:
        return None
    return world.uncounted_since + min(UNCOUNTED_S, world.slot_s / 4)


def _most(watts: int) -> int:
    return watts * CATCH_UP_PERMILLE // 1000


_END_OF: Final[dict[Block | None, End]] = {
    Block.RESERVE: End.RESERVE,
    Block.DEVICE_LOST: End.LOST,
    Block.REFUSED: End.LOST,
    Block.NO_DEVICE: End.LOST,
    Block.METER_AWAY: End.METER_AWAY,
}
