"""One home of a simulated street: its keys, what it owns, and the energy that flows through its meter.

Energies are kept in watt seconds (3600 of them are 1 Wh), so that nothing is lost to rounding.
"""

from dataclasses import dataclass, field
from hashlib import sha256

from ledger_core.keys import SoftwareSigner
from ledger_core.records.readings import Quality, ReadingRow, Stored
from ledger_core.records.types import AssetKind
from ledger_core.synthetic.chance import Chance
from ledger_core.synthetic.weather import Weather, habit
from ledger_core.units import SECONDS_PER_HOUR

CHARGE_EFFICIENCY = 950
"""Per mille of the charged energy that a battery gives back."""

WH_PER_GRAM = 16
"""Electric Wh that a fuel cell makes of a gram of hydrogen (half of its lower heating value)."""


@dataclass(slots=True)
class Store:
    """A battery, or a fuel cell with its tank."""

    asset: bytes
    kind: AssetKind
    rating_w: int
    capacity_wh: int
    content_ws: int
    """Watt seconds that it can still give."""

    @property
    def energy_wh(self) -> int:
        """Whole Wh that it can still give."""
        return self.content_ws // SECONDS_PER_HOUR

    @property
    def reserve_wh(self) -> int:
        """What a home keeps for itself."""
        return self.capacity_wh // 5

    def draw(self, watts: int, seconds: int, floor_wh: int = 0) -> int:
        """Take energy out for a time; returns the power that it gave."""
        room = max(self.content_ws - floor_wh * SECONDS_PER_HOUR, 0)
        given = max(min(watts, self.rating_w, room // seconds), 0)
        self.content_ws -= given * seconds
        return given

    def charge(self, watts: int, seconds: int) -> int:
        """Store energy for a time; returns the power that it took."""
        room = self.capacity_wh * SECONDS_PER_HOUR - self.content_ws
        taken = max(min(watts, self.rating_w, room * 1000 // CHARGE_EFFICIENCY // seconds), 0)
        self.content_ws += taken * seconds * CHARGE_EFFICIENCY // 1000
        return taken

    def stored(self) -> Stored:
        """Return what a reading says of it."""
        fuel = self.energy_wh // WH_PER_GRAM if self.kind is AssetKind.FUEL_CELL else None
        return Stored(self.asset, self.energy_wh, fuel)


@dataclass(slots=True)
class Promised:
    """What a home's trades ask of it in one slot: mean powers in W."""

    sold_w: int = 0
    """Of the solar generator."""
    stores_w: dict[bytes, int] = field(default_factory=dict)
    bought_w: int = 0
    traded: bool = False
    """Whether any trade is settled by the meter in this slot."""


class Home:
    """A member with its node, its meter and its devices."""

    def __init__(self, index: int, chance: Chance, weather: Weather) -> None:
        self.index = index
        self.chance = chance
        self._weather = weather
        self.key = SoftwareSigner(chance.child("member").octets(32))
        self.node = SoftwareSigner(chance.child("node").octets(32))
        self.meter_key = SoftwareSigner(chance.child("meter").octets(32))
        self.id = self.key.public_key
        self.name_hash = sha256(f"home {index + 1}".encode()).digest()
        self.meter = self._asset_id("meter")
        self.load = self._asset_id("load")
        self.mean_load_w = chance.between(300, 1200)
        self.pv = self._asset_id("pv") if index % 3 != 1 else None
        self.pv_w = chance.between(40, 120) * 100 if self.pv is not None else 0
        self.pv_steps: list[tuple[int, int]] = []
        """Announced changes of the generator's power: from when, W."""
        self.stores: list[Store] = self._make_stores()
        self.connection_w = max(17_250, self.pv_w + sum(store.rating_w for store in self.stores) + 2_000)
        self.since: int | None = None
        """First boundary of the meter; None before it is registered."""
        self.import_ws = 0
        self.export_ws = 0
        self.unpublished: list[ReadingRow] = []

    def _asset_id(self, name: str) -> bytes:
        return self.chance.child("asset", name).octets(16)

    def _make_stores(self) -> list[Store]:
        stores = []
        if self.index % 2 == 0:
            capacity = self.chance.between(5, 15) * 1000
            stores.append(
                Store(
                    self._asset_id("battery"),
                    AssetKind.BATTERY,
                    capacity // 2,
                    capacity,
                    capacity // 2 * 3600,
                )
            )
        if self.index % 5 == 1:
            rating = self.chance.between(15, 50) * 100
            capacity = rating * 24
            stores.append(
                Store(self._asset_id("fuel cell"), AssetKind.FUEL_CELL, rating, capacity, capacity * 3600)
            )
        return sorted(stores, key=_asset)

    @property
    def assets(self) -> tuple[bytes, ...]:
        """Ids of everything that can supply."""
        own = tuple(store.asset for store in self.stores)
        return own if self.pv is None else (self.pv, *own)

    def pv_limit(self, time: int) -> int:
        """Return the solar generator's power that can be had at best, W."""
        watts = self.pv_w
        for start, limit in self.pv_steps:
            if start <= time:
                watts = limit
        return watts

    def expected_pv(self, time: int) -> int:
        """Return the solar power to be expected, W."""
        return self.pv_limit(time) * self._weather.pv(time) // 1000

    def expected_load(self, time: int) -> int:
        """Return the use to be expected, W."""
        return self.mean_load_w * habit(time) // 1000

    def expected_net(self, start: int, end: int, slot_s: int) -> int:
        """Return the mean of solar power less use over a window, W; below zero the home needs energy."""
        middles = range(start + slot_s // 2, end, slot_s)
        total = sum(self.expected_pv(time) - self.expected_load(time) for time in middles)
        return total // len(middles)

    def run(self, slot_end: int, slot_s: int, promised: Promised) -> None:
        """Let a slot pass: sun, use, stores, and what is left at the meter."""
        chance = self.chance
        middle = slot_end - slot_s // 2
        pv_w = self.expected_pv(middle) * chance.between(850, 1100) // 1000
        pv_w = min(pv_w, self.pv_limit(middle))
        load_w = self.expected_load(middle) * chance.between(700, 1300) // 1000
        if chance.permille(60):
            load_w += chance.between(500, 2500)
        fails = promised.traded and chance.permille(15)
        if fails:
            pv_w = pv_w * chance.below(500) // 1000
        own = pv_w - load_w
        given = self._balance(own, slot_s, promised)
        if not fails:
            given += self._deliver(max(-own - promised.bought_w - given, 0), slot_s, promised)
        net = own + given
        if net >= 0:
            self.export_ws += min(net, self.connection_w) * slot_s
        else:
            self.import_ws += min(-net, self.connection_w) * slot_s
        self._refuel()
        quality = Quality.INTERPOLATED if chance.permille(50) else Quality.MEASURED
        self.unpublished.append(
            ReadingRow(
                slot_end, self.import_ws // SECONDS_PER_HOUR, self.export_ws // SECONDS_PER_HOUR, quality
            )
        )

    def _deliver(self, own_use: int, slot_s: int, promised: Promised) -> int:
        """Have the stores give what they sold, and carry the home's own use besides; returns the power."""
        given = 0
        for store in self.stores:
            sold = promised.stores_w.get(store.asset, 0)
            if sold:
                power = store.draw(sold + own_use, slot_s)
                own_use = max(own_use - max(power - sold, 0), 0)
                given += power
        return given

    def _balance(self, net: int, slot_s: int, promised: Promised) -> int:
        """Have the battery take what is not sold, or give what was not bought; returns the power it gave."""
        battery = next((store for store in self.stores if store.kind is AssetKind.BATTERY), None)
        if battery is None or promised.stores_w.get(battery.asset):
            return 0
        if net > promised.sold_w:
            return -battery.charge(net - promised.sold_w, slot_s)
        if -net > promised.bought_w:
            return battery.draw(-net - promised.bought_w, slot_s, battery.reserve_wh)
        return 0

    def _refuel(self) -> None:
        for store in self.stores:
            if store.kind is AssetKind.FUEL_CELL and store.energy_wh < store.reserve_wh:
                store.content_ws = store.capacity_wh * SECONDS_PER_HOUR


def _asset(store: Store) -> bytes:
    return store.asset
