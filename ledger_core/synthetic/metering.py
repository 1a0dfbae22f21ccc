"""Slot ends: the energy of the slot, and the reading that tells it."""

from collections.abc import Callable
from functools import partial

from ledger_core.records.readings import Quality, Reading, ReadingRow
from ledger_core.records.types import Basis
from ledger_core.rules.rows import TradeRow
from ledger_core.rules.state import EXPORT, IMPORT, SUPPLY, State
from ledger_core.rules.trades import slot_agreed
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home, Promised
from ledger_core.synthetic.street import Street
from ledger_core.units import SECONDS_PER_HOUR, mean_power

LATE_PERMILLE = 8
"""Slots with a trade whose reading a home sends only after they were settled."""


class Metering:
    """Lets slots pass home by home."""

    def __init__(self, street: Street, then: Callable[[Home, Desk], None]) -> None:
        self._street = street
        self._then = then
        self._held_back: dict[int, int] = {}
        """Until when a home is late with its reading, by its index."""
        self._waited_for: dict[int, int] = {}
        """The earliest slot end with a trade that a home has not published, by its index."""

    def start(self, home: Home, boundary: int) -> None:
        """Begin with a meter's first boundary."""
        home.import_ws = home.chance.between(0, 10**7) * SECONDS_PER_HOUR
        home.export_ws = home.chance.between(0, 10**7) * SECONDS_PER_HOUR if home.pv is not None else 0
        self._plan(home, boundary)

    def _plan(self, home: Home, boundary: int) -> None:
        delay = home.chance.between(1, max(self._street.slot_s // 6, 1))
        self._street.agenda.at(boundary + delay, partial(self._end_slot, home, boundary))

    def _end_slot(self, home: Home, boundary: int, desk: Desk) -> None:
        street = self._street
        traded = False
        if boundary == home.since:
            first = ReadingRow(
                boundary,
                home.import_ws // SECONDS_PER_HOUR,
                home.export_ws // SECONDS_PER_HOUR,
                Quality.MEASURED,
            )
            home.unpublished.append(first)
        else:
            asked = self._promised(desk.state, home, boundary)
            home.run(boundary, street.slot_s, asked)
            traded = asked.traded
        if traded and home.index not in self._held_back and home.chance.permille(LATE_PERMILLE):
            self._held_back[home.index] = boundary + 4 * street.slot_s
        if traded:
            self._waited_for.setdefault(home.index, boundary)
        if self._due(home, boundary):
            self._publish(home, desk)
        self._plan(home, boundary + street.slot_s)
        self._then(home, desk)

    def _due(self, home: Home, boundary: int) -> bool:
        """Return whether to publish: slots with a trade within the grace, two at a time, others later."""
        until = self._held_back.get(home.index)
        if until is not None:
            if boundary < until:
                return False
            del self._held_back[home.index]
            return True
        waited_for = self._waited_for.get(home.index)
        if waited_for is not None and boundary > waited_for:
            return True
        return len(home.unpublished) >= self._street.config.reading_batch

    def _publish(self, home: Home, desk: Desk) -> None:
        rows, home.unpublished = home.unpublished, []
        self._waited_for.pop(home.index, None)
        desk.submit(
            self._street.record(
                desk,
                home,
                Reading,
                by=home.meter_key,
                meter=home.meter,
                rows=tuple(rows),
                stored=tuple(store.stored() for store in home.stores),
            )
        )

    def _promised(self, state: State, home: Home, slot_end: int) -> Promised:
        """Return what a home's trades asked of it in the slot that ends at a boundary."""
        result = Promised()
        for store in home.stores:
            trades = _running(state, store.asset, SUPPLY, slot_end)
            result.stores_w[store.asset] = sum(self._power(trade, slot_end) for trade in trades)
        if home.pv is not None:
            trades = _running(state, home.pv, SUPPLY, slot_end)
            result.sold_w = sum(self._power(trade, slot_end) for trade in trades)
        bought = _running(state, home.meter, IMPORT, slot_end)
        result.bought_w = sum(self._power(trade, slot_end) for trade in bought)
        result.traded = bool(bought or _running(state, home.meter, EXPORT, slot_end))
        return result

    def _power(self, trade: TradeRow, slot_end: int) -> int:
        """Return the mean power that a trade is about in a slot: of reserved power, what the buyer wants."""
        slot = self._street.slot_s
        watts = mean_power(slot_agreed(trade, slot_end, slot), slot)
        if trade.basis is Basis.CAPACITY:
            wanted = -self._street.by_id[trade.buyer].expected_net(slot_end - slot, slot_end, slot)
            return min(watts, max(wanted, 0))
        return watts


def _running(state: State, subject: bytes, direction: str, slot_end: int) -> list[TradeRow]:
    trades = [state.trades[trade_id] for trade_id in state.booked.get((subject, direction), ())]
    return [trade for trade in trades if trade.start < slot_end <= trade.end]
