"""What a simulated home could sell or buy in a window, by the ledger and by its own forecast."""

from collections.abc import Iterable

from msgspec import Struct

from ledger_core.records.types import AssetKind
from ledger_core.rules.availability import booked_trades, energy_left, power_left
from ledger_core.rules.state import EXPORT, IMPORT, SUPPLY
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.weather import DAY
from ledger_core.units import energy

LEAST_W = 150
"""Nobody trades less."""


class Supply(Struct, frozen=True):
    """Something a home could sell in a window."""

    asset: bytes
    kind: AssetKind
    watts: int
    watt_hours: int


def supplies(home: Home, desk: Desk, start: int, end: int) -> list[Supply]:
    """Return what a home could sell in a window, within its forecast, its stores and its connection."""
    left_out = _connection_left(home, desk, EXPORT, start, end)
    found = []
    slot = desk.state.parameters.slot_s
    if home.pv is not None:
        watts = home.expected_net(start, end, slot) * 7 // 10
        asset = desk.state.assets[home.pv]
        left, _ = power_left(asset, booked_trades(desk.ctx, home.pv, SUPPLY), start, end)
        watts = min(watts - (asset.rating_w - left), left, left_out)
        if watts >= LEAST_W:
            found.append(Supply(home.pv, AssetKind.PV, watts, energy(watts, end - start)))
    for store in home.stores:
        hour = start % DAY // 3600
        if store.kind is AssetKind.BATTERY and 8 <= hour < 16:
            # What the sun brings by day goes into the battery, for the evening.
            continue
        stored = min(energy_left(desk.ctx, store.asset) or 0, store.energy_wh) - store.reserve_wh
        asset = desk.state.assets[store.asset]
        left, _ = power_left(asset, booked_trades(desk.ctx, store.asset, SUPPLY), start, end)
        # Some of the power stays for the home's own use.
        watts = min(left * 7 // 10, left_out, max(stored, 0) * 3600 // (end - start))
        if watts >= LEAST_W:
            found.append(Supply(store.asset, store.kind, watts, energy(watts, end - start)))
    return found


def needed_w(home: Home, desk: Desk, start: int, end: int) -> int:
    """Return the mean power in W that a home is still sure to need in a window; not above its connection."""
    slot = desk.state.parameters.slot_s
    bought = _mean_booked(home, desk, start, end, slot)
    wanted = -home.expected_net(start, end, slot) * 7 // 10 - bought
    return min(wanted, _connection_left(home, desk, IMPORT, start, end))


def _connection_left(home: Home, desk: Desk, direction: str, start: int, end: int) -> int:
    meter = desk.state.assets[home.meter]
    return power_left(meter, booked_trades(desk.ctx, home.meter, direction), start, end)[0]


def _mean_booked(home: Home, desk: Desk, start: int, end: int, slot: int) -> int:
    trades = booked_trades(desk.ctx, home.meter, IMPORT)
    moments = range(start, end, slot)
    used: Iterable[int] = (
        trade.watts for time in moments for trade in trades if trade.start <= time < trade.end
    )
    return sum(used) // len(moments)
