"""A week of three homes in seconds: real physics, market rules, gate, metering, ledger; no clock, no socket.

Anna has PV and a battery, Bert a fuel cell, Cara only a load. Every slot: boundaries are signed, what can be
spared is offered, needs are covered from the cheapest offer on, and the gates deliver what was agreed.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from custom_components.energy_ledger.trading.gate_core import Gate
from custom_components.energy_ledger.trading.gate_model import Command, DeviceNow, Release
from custom_components.energy_ledger.trading.gate_model import World as GateWorld
from custom_components.energy_ledger.trading.meter_core import Boundaries, Sample
from ledger_core.client.views import Party
from ledger_core.community import Parameters
from ledger_core.market.buying import BuyCriteria, BuyWorld, cheapest_first, decide_buy
from ledger_core.market.reasons import Verdict
from ledger_core.market.selling import Draft, SellCriteria, answer_counter, draft
from ledger_core.market.surplus import SlotForecast, StoreNow, balance
from ledger_core.market.terms import LocalWindow, OfferTerms
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.codec import Record
from ledger_core.records.offers import Auction, Offer
from ledger_core.records.readings import Reading, Stored
from ledger_core.records.types import AssetKind, Basis, Carrier, Side
from ledger_core.rules.assemble import assemble, seal, search_nonce
from ledger_core.rules.events import TradeAgreed
from ledger_core.rules.rows import OfferRow, TradeRow
from simulator.config import build_config
from simulator.physics.home import Home as Physics
from simulator.physics.orders import BatteryOrder, FuelCellOrder, Orders
from tests.core.world import World, asset_id
from tests.integration.trades import make_trade

SLOT = 900
STEP_S = 30
PARAMETERS = Parameters(block_spacing_s=30, checkpoint_interval=30, min_difficulty_bits=1, fee=1000)
STORES = {"anna": ("battery", AssetKind.BATTERY, 5_000), "bert": ("cell", AssetKind.FUEL_CELL, 2_500)}
PRICES = {"anna": 180_000, "bert": 260_000}
CEILING = 250_000
RESERVE_PERMILLE = 200


@dataclass
class House:
    """One home: its physics, gate and meter."""

    name: str
    physics: Physics
    meter: Boundaries
    gate: Gate = field(default_factory=Gate)
    orders: Orders = field(default_factory=Orders)
    commanded: bool = False
    lost: bool = False
    """Its device is out of reach in this slot."""
    truths: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Import and export in Wh by boundary, as they physically were."""
    unasked: int = 0
    """Steps in which a command was in force without a running trade."""

    def registers(self) -> tuple[int, int]:
        watt_hours = self.physics.counters.in_wh()
        return watt_hours["import"], watt_hours["export"]

    @property
    def held(self) -> tuple[int, int]:
        """What its store holds and can hold, Wh."""
        battery, cell = self.physics.battery, self.physics.fuel_cell
        if battery is not None:
            return battery.stored_wh, battery.spec.capacity_wh
        assert cell is not None
        return cell.energy_available_wh, cell.spec.tank_mg * 1000 // cell.spec.fuel_mg_per_kwh


class Week:
    """The street; `run` a number of slots."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.world = World(parameters=PARAMETERS)
        self.events: list[Any] = []
        self.refused: list[str] = []
        self.houses = {name: self._house(name, seed + n) for n, name in enumerate(("anna", "bert", "cara"))}
        world = self.world
        self.mine(*(world.meter_record(name) for name in self.houses))
        records = []
        for name, (what, kind, rating) in STORES.items():
            held, capacity = self.houses[name].held
            records.append(world.asset_record(name, what, kind, rating, energy_wh=held, capacity_wh=capacity))
        self.mine(*records)
        world.now = -(-world.now // SLOT) * SLOT
        for house in self.houses.values():
            while house.physics.time_s < world.now:
                house.physics.step(Orders(), STEP_S)
            self._sample(house)

    def _house(self, name: str, seed: int) -> House:
        parts = {"pv": name == "anna", "battery": name == "anna", "fuel_cell": name == "bert"}
        link = {"name": "meter", "transport": "tcp", "devices": [{"profile": "eastron_sdm630"}]}
        config = build_config({"seed": seed, "links": [link], **parts}, now_s=self.world.now)
        return House(name, Physics(config.spec, self.world.now), Boundaries(SLOT, 20_000))

    # --- chain ------------------------------------------------------------------------------------------

    def mine(self, *records: Record) -> None:
        """Mine what the rules take, half a minute later."""
        world = self.world
        world.now += 30
        key = world["anna"].node
        template = assemble(world.state, records, (), key.public_key, world.now)
        self.refused += [refusal.code for _, refusal in template.refused]
        header = search_nonce(template.header)
        assert header is not None
        events = world.apply(seal(header, template.body, key)).events
        self.events += events
        for event in events:
            if isinstance(event, TradeAgreed):
                for house in self.houses.values():
                    house.gate.note_agreed(event.trade.hex(), world.state.tip.height)

    # --- a slot -----------------------------------------------------------------------------------------

    def run(self, slots: int) -> None:
        """Live some slots, and go on until all of them are settled."""
        for _ in range(slots):
            start = self.world.now
            self._trade(start)
            self._live(start)
            self.world.now = start + SLOT
        self.mine(*self._readings())
        self.world.now += PARAMETERS.grace_s + 2 * SLOT
        self.mine()

    def _trade(self, start: int) -> None:
        """Sell for the slot after this one: offers, answers, answers to these."""
        self.mine(*self._readings(), *self._offers(start + SLOT))
        self.mine(*self._purchases(start + SLOT))
        self.mine(*self._answers())
        if any(offer.auction is not None for offer in self.world.state.offers.values()):
            self.world.now = start + 300
            self.mine()

    def _readings(self) -> list[Record]:
        """Hand in the boundaries that wait; now and then one is lost for good."""
        records = []
        for name, house in self.houses.items():
            rows = tuple(house.meter.pending)
            if not rows:
                continue
            house.meter.confirm(rows[-1].end)
            if self.chance.random() < 0.01:
                continue
            stored: tuple[Stored, ...] = ()
            if name in STORES:
                stored = (Stored(asset_id(f"{name} {STORES[name][0]}"), house.held[0], None),)
            home = self.world[name]
            records.append(
                self.world.make(Reading, home.meter_key, meter=home.meter, rows=rows, stored=stored)
            )
        return records

    def _booked(self, name: str, slot: int, *, buying: bool = False) -> int:
        me = self.world[name].id
        return sum(
            trade.quantity if trade.basis is Basis.ENERGY else trade.watts // 4
            for trade in self.world.state.trades.values()
            if (trade.buyer if buying else trade.seller) == me and trade.start == slot
        )

    def _forecast(self, name: str, slot: int) -> list[SlotForecast]:
        """The next slots are taken to be as the moment is."""
        house = self.houses[name]
        flows = house.physics.flows
        return [
            SlotForecast(
                start=start,
                generation_wh=flows.pv_w // 4,
                load_wh=flows.load_w // 4,
                sold_wh=self._booked(name, start),
                bought_wh=self._booked(name, start, buying=True),
            )
            for start in (slot, slot + SLOT)
        ]

    def _offers(self, slot: int) -> list[Record]:
        records = []
        number = slot // SLOT
        for name, (what, _, rating) in STORES.items():
            held, capacity = self.houses[name].held
            store = StoreNow(
                held_wh=held,
                capacity_wh=capacity,
                reserve_wh=capacity * RESERVE_PERMILLE // 1000,
                max_w=rating,
                keeps_for_home=name == "anna",
            )
            plan = balance(self._forecast(name, slot), store, SLOT)
            basis = Basis.CAPACITY if name == "bert" and number % 5 == 0 else Basis.ENERGY
            rule = SellCriteria(basis=basis, max_wh=500)
            window = (slot, slot + SLOT)
            assert plan.store is not None
            stored = min(plan.store.free_wh, plan.slots[0].room_wh)
            found = draft(rule, window, LocalWindow(0, 0, 15), stored, PRICES[name])
            if isinstance(found, Draft):
                records.append(self._offer(name, what, found, basis, number))
        return records

    def _offer(self, name: str, what: str, found: Draft, basis: Basis, number: int) -> Record:
        auction = None
        if name == "bert" and number % 7 == 0:
            auction = Auction(found.start - 660, 300_000, 150_000)
        return self.world.make(
            Offer,
            self.world[name].key,
            side=Side.SELL,
            asset=asset_id(f"{name} {what}"),
            carrier=Carrier.ELECTRICITY,
            basis=basis,
            quantity=found.quantity,
            min_quantity=10,
            max_w=0,
            start=found.start,
            end=found.end,
            price=found.price,
            shortfall_price=40_000,
            audience=None,
            valid_until=found.start,
            auction=auction,
        )

    def _terms(self, name: bytes, row: OfferRow) -> OfferTerms:
        names = (field for field in OfferTerms.__struct_fields__ if field != "id")
        return OfferTerms(id=name, **{field: getattr(row, field) for field in names})

    def _purchases(self, slot: int) -> list[Record]:
        """Cover each home's need from the cheapest offer on."""
        records = []
        left: dict[bytes, int] = {}
        for name in ("cara", "anna"):
            home = self.world[name]
            store = None
            if name == "anna":
                held, capacity = self.houses[name].held
                store = StoreNow(
                    held_wh=held, capacity_wh=capacity, reserve_wh=capacity // 5, max_w=STORES[name][2]
                )
            need = balance(self._forecast(name, slot), store, SLOT).slots[0].need_wh
            rule = BuyCriteria(min_wh=10, counter_permille=300, basis=None)
            offers = [self._terms(each, row) for each, row in self.world.state.offers.items()]
            for offer in cheapest_first(offers):
                if left.get(offer.id, offer.open) != offer.open:
                    continue
                decision = decide_buy(
                    rule,
                    offer,
                    BuyWorld(
                        now=self.world.now,
                        me=home.id,
                        window=LocalWindow(0, 0, 15),
                        ceiling=CEILING,
                        need_wh=need,
                    ),
                )
                if decision.verdict not in (Verdict.ACCEPT, Verdict.COUNTER, Verdict.BID):
                    continue
                left[offer.id] = offer.open - decision.quantity
                need -= offer.energy_of(decision.quantity)
                records.append(
                    self.world.make(
                        Acceptance,
                        home.key,
                        offer=offer.id,
                        asset=None,
                        quantity=decision.quantity,
                        start=offer.start,
                        end=offer.end,
                        price=decision.price,
                        valid_until=offer.start,
                    )
                )
        return records

    def _answers(self) -> list[Record]:
        """Confirm changed terms that are at the floor, reject the others."""
        records = []
        state = self.world.state
        for name, row in state.waiting.items():
            offer = state.offers[row.offer]
            if offer.auction is not None:
                continue
            author = next(home for home in self.world.homes.values() if home.id == offer.author)
            # One in eight asks for more than usual.
            floor = PRICES["bert"] if self.chance.random() < 0.125 else 200_000
            terms = self._terms(row.offer, offer)
            answer = answer_counter(SellCriteria(), terms, row.quantity, row.price, floor, offer.price)
            kind = Confirmation if answer.verdict is Verdict.CONFIRM else Rejection
            records.append(self.world.make(kind, author.key, acceptance=name))
        return records

    # --- physics ----------------------------------------------------------------------------------------

    def _live(self, start: int) -> None:
        trades = [self._view(name, row) for name, row in self.world.state.trades.items()]
        for house in self.houses.values():
            house.lost = self.chance.random() < 0.02
            if house.physics.fuel_cell is not None and start % 86_400 == 0:
                house.physics.fuel_cell.refuel(house.physics.fuel_cell.spec.tank_mg)
            key = self.world[house.name].id.hex()
            mine = tuple(trade for trade in trades if key in (trade.seller.key, trade.buyer.key))
            for now in range(start, start + SLOT, STEP_S):
                self._drive(house, key, mine, now)
                selling = any(t.seller.key == key and t.start <= now < t.end for t in mine)
                house.unasked += house.commanded and not selling
                house.physics.step(house.orders, STEP_S)
                if now % 60 == 0 or now + STEP_S == start + SLOT:
                    self._sample(house)
            self._drive(house, key, mine, start + SLOT)
            house.truths[start + SLOT] = house.registers()

    def _sample(self, house: House) -> None:
        house.meter.take(Sample(float(house.physics.time_s), *house.registers()))

    def _drive(self, house: House, key: str, mine: tuple[Any, ...], now: int) -> None:
        """Have the gate look, and carry out what it says."""
        flows = house.physics.flows
        imported, exported = house.registers()
        tip = self.world.state.tip
        world = GateWorld(
            now=float(now),
            slot_s=SLOT,
            home=key,
            enabled=True,
            trades=mine,
            tip=tip.height,
            final=tip.final,
            known_until=None,
            devices=self._device(house),
            surplus_w=flows.export_w - flows.import_w,
            measured_at=float(now),
            exported_wh=exported,
            imported_wh=imported,
        )
        for action in house.gate.evaluate(world):
            if isinstance(action, Command):
                cell = house.physics.fuel_cell is not None
                power = action.power_w
                house.orders = (
                    Orders(fuel_cell=FuelCellOrder(run=True, power_w=power))
                    if cell
                    else Orders(battery=BatteryOrder.discharge(power))
                )
                house.commanded = True
            elif isinstance(action, Release):
                house.orders, house.commanded = Orders(), False

    def _device(self, house: House) -> dict[str, DeviceNow]:
        if house.name not in STORES:
            return {}
        what, _, rating = STORES[house.name]
        held, capacity = house.held
        flows = house.physics.flows
        output = flows.fuel_cell_ac_w if house.name == "bert" else flows.discharge_w - flows.charge_w
        device = DeviceNow(
            commandable=True,
            reachable=not house.lost,
            max_w=rating,
            output_w=output,
            level_permille=held * 1000 // capacity,
            reserve_permille=RESERVE_PERMILLE,
        )
        return {asset_id(f"{house.name} {what}").hex(): device}

    @staticmethod
    def _view(name: bytes, row: TradeRow) -> Any:
        return make_trade(
            trade=name.hex(),
            offer=row.offer.hex(),
            origin=row.origin,
            seller=Party(key=row.seller.hex(), address=row.seller.hex()),
            buyer=Party(key=row.buyer.hex(), address=row.buyer.hex()),
            asset=row.asset.hex(),
            basis=row.basis.value,
            quantity=row.quantity,
            watts=row.watts,
            start=row.start,
            end=row.end,
            agreed_end=row.agreed_end,
            price=row.price,
        )
