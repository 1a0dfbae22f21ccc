"""Sensors of the home (money, energy, market) and of its node (chain, mining)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import PERCENTAGE, EntityCategory, UnitOfEnergy
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.typing import StateType

from ledger_core.client import ClientError
from ledger_core.client.views import AccountView, EnergyView
from ledger_core.records.types import Carrier

from .. import prices
from ..books import Books
from ..const import CONF_CURRENCY
from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity, NodeEntity
from ..ledger import LedgerView
from ..node_state import MINING_STATES, VOTING_STATES, mining_state, voting_state
from ..prices import Price
from ..quantities import kilo, money, now_s


@dataclass(frozen=True, kw_only=True)
class HomeSensorDescription(SensorEntityDescription):
    """A sensor of the home; its value follows from the ledger, the home's key and the time."""

    value: Callable[[LedgerView, str, int], StateType]
    attributes: Callable[[LedgerView, str, int], Mapping[str, Any]] | None = None
    per: str | None = None
    """The unit is the community's currency; with this, per that unit."""
    in_currency: bool = False


@dataclass(frozen=True, kw_only=True)
class NodeSensorDescription(SensorEntityDescription):
    """A sensor of the node."""

    value: Callable[[LedgerView], StateType]
    attributes: Callable[[LedgerView], Mapping[str, Any]] | None = None


def _of_account(read: Callable[[AccountView], StateType]) -> Callable[[LedgerView, str, int], StateType]:
    def value(view: LedgerView, _home: str, _now: int) -> StateType:
        return None if view.account is None else read(view.account)

    return value


def _energy(carrier: Carrier, read: Callable[[EnergyView], int]) -> Callable[[AccountView], StateType]:
    def value(account: AccountView) -> StateType:
        return kilo(sum(read(each) for each in account.energy if each.carrier == carrier.value))

    return value


def _price(found: Price | None) -> StateType:
    return None if found is None else money(found.micro)


def _source(found: Price | None) -> Mapping[str, Any]:
    return {"source": None if found is None else found.source}


def _own_offers(view: LedgerView, home: str, _now: int) -> int:
    return sum(offer.author.key == home for offer in view.offers)


def _offers_to_me(view: LedgerView, home: str, now: int) -> int:
    return sum(prices.open_to(offer, home) and offer.start > now for offer in view.offers)


def _active_trades(view: LedgerView, _home: str, now: int) -> int:
    return sum(trade.end > now for trade in view.trades)


def _score(account: AccountView) -> StateType:
    tenths = account.reputation.mean_score_tenths
    return None if tenths is None else tenths / 10


def _reliability(account: AccountView) -> StateType:
    # Without any sale the ledger tells what it takes for granted of newcomers: nothing about this home.
    known = account.reputation
    return known.delivered_permille / 10 if known.agreed_wh else None


MONEY = (
    HomeSensorDescription(
        key="balance",
        translation_key="balance",
        device_class=SensorDeviceClass.MONETARY,
        state_class=SensorStateClass.TOTAL,
        in_currency=True,
        suggested_display_precision=2,
        value=_of_account(lambda account: money(account.balance)),
    ),
    HomeSensorDescription(
        key="held",
        translation_key="held",
        device_class=SensorDeviceClass.MONETARY,
        in_currency=True,
        suggested_display_precision=2,
        value=_of_account(lambda account: money(account.held)),
    ),
    HomeSensorDescription(
        key="spendable",
        translation_key="spendable",
        device_class=SensorDeviceClass.MONETARY,
        in_currency=True,
        suggested_display_precision=2,
        value=_of_account(lambda account: money(account.spendable)),
    ),
    HomeSensorDescription(
        key="fees_waiting",
        translation_key="fees_waiting",
        device_class=SensorDeviceClass.MONETARY,
        in_currency=True,
        suggested_display_precision=2,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=_of_account(lambda account: money(account.fees_waiting)),
    ),
)

MARKET = (
    HomeSensorDescription(
        key="open_offers",
        translation_key="open_offers",
        state_class=SensorStateClass.MEASUREMENT,
        value=_own_offers,
    ),
    HomeSensorDescription(
        key="offers_received",
        translation_key="offers_received",
        state_class=SensorStateClass.MEASUREMENT,
        value=_offers_to_me,
    ),
    HomeSensorDescription(
        key="active_trades",
        translation_key="active_trades",
        state_class=SensorStateClass.MEASUREMENT,
        value=_active_trades,
    ),
    HomeSensorDescription(
        key="sell_price",
        translation_key="sell_price",
        state_class=SensorStateClass.MEASUREMENT,
        in_currency=True,
        per=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=3,
        value=lambda view, home, now: _price(prices.sell_price(view, home, now)),
        attributes=lambda view, home, now: _source(prices.sell_price(view, home, now)),
    ),
    HomeSensorDescription(
        key="buy_price",
        translation_key="buy_price",
        state_class=SensorStateClass.MEASUREMENT,
        in_currency=True,
        per=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=3,
        value=lambda view, home, now: _price(prices.buy_price(view, home, now)),
        attributes=lambda view, home, now: _source(prices.buy_price(view, home, now)),
    ),
    HomeSensorDescription(
        key="score",
        translation_key="score",
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=_of_account(_score),
        attributes=lambda view, _home, _now: {
            "scores": 0 if view.account is None else view.account.reputation.scores
        },
    ),
    HomeSensorDescription(
        key="reliability",
        translation_key="reliability",
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=_of_account(_reliability),
    ),
)

NODE = (
    NodeSensorDescription(
        key="height",
        translation_key="height",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda view: view.status.tip.height,
    ),
    NodeSensorDescription(
        key="final_height",
        translation_key="final_height",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda view: view.status.final,
    ),
    NodeSensorDescription(
        key="peers",
        translation_key="peers",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda view: view.status.peers,
    ),
    NodeSensorDescription(
        key="waiting_records",
        translation_key="waiting_records",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda view: view.status.waiting_records,
    ),
    NodeSensorDescription(
        key="mining_state",
        translation_key="mining_state",
        device_class=SensorDeviceClass.ENUM,
        options=list(MINING_STATES),
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda view: mining_state(view.status.mining_hold),
        attributes=lambda view: {"reason": view.status.mining_blocked},
    ),
    NodeSensorDescription(
        key="voting_state",
        translation_key="voting_state",
        device_class=SensorDeviceClass.ENUM,
        options=list(VOTING_STATES),
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda view: voting_state(view.status.voting_hold),
        attributes=lambda view: {"reason": view.status.voting_blocked},
    ),
)


def _energy_descriptions() -> Iterable[HomeSensorDescription]:
    directions: tuple[tuple[str, Callable[[EnergyView], int]], ...] = (
        ("sold", lambda energy: energy.sold_wh),
        ("bought", lambda energy: energy.bought_wh),
    )
    for carrier in Carrier:
        for direction, read in directions:
            yield HomeSensorDescription(
                key=f"{carrier.value}_{direction}",
                translation_key=f"{carrier.value}_{direction}",
                device_class=SensorDeviceClass.ENERGY,
                state_class=SensorStateClass.TOTAL_INCREASING,
                native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
                suggested_display_precision=2,
                # A street trades electricity; who trades more knows where to find the others.
                entity_registry_enabled_default=carrier is Carrier.ELECTRICITY,
                value=_of_account(_energy(carrier, read)),
            )


ENERGY = tuple(_energy_descriptions())


class HomeSensor(LedgerEntity, SensorEntity):
    """A figure of the home; without a value until the home is a member."""

    entity_description: HomeSensorDescription

    def __init__(self, entry: EnergyLedgerEntry, description: HomeSensorDescription) -> None:
        """Make the sensor of a description."""
        super().__init__(entry, description.key, description)
        self._home = entry.runtime_data.key.signer.public_key.hex()
        if description.in_currency:
            currency = str(entry.data[CONF_CURRENCY])
            per = description.per
            self._attr_native_unit_of_measurement = currency if per is None else f"{currency}/{per}"

    @property
    def native_value(self) -> StateType:
        """The figure."""
        return self.entity_description.value(self.coordinator.data, self._home, now_s())

    @property
    def extra_state_attributes(self) -> Mapping[str, Any] | None:
        """What explains the figure."""
        explain = self.entity_description.attributes
        return None if explain is None else explain(self.coordinator.data, self._home, now_s())


class NodeSensor(NodeEntity, SensorEntity):
    """A figure of the node."""

    entity_description: NodeSensorDescription

    def __init__(self, entry: EnergyLedgerEntry, description: NodeSensorDescription) -> None:
        """Make the sensor of a description."""
        super().__init__(entry, description.key, description)

    @property
    def native_value(self) -> StateType:
        """The figure."""
        return self.entity_description.value(self.coordinator.data)

    @property
    def extra_state_attributes(self) -> Mapping[str, Any] | None:
        """What explains the figure."""
        explain = self.entity_description.attributes
        return None if explain is None else explain(self.coordinator.data)


class TurnoverSensor(LedgerEntity, SensorEntity):
    """What the home earned or spent since it keeps books."""

    _attr_device_class = SensorDeviceClass.MONETARY
    # Money can be corrected when a block is undone; the class allows no other state class anyway.
    _attr_state_class = SensorStateClass.TOTAL
    _attr_suggested_display_precision = 2

    def __init__(self, entry: EnergyLedgerEntry, books: Books, key: str) -> None:
        """Show one of the books' sums: `earned` or `spent`."""
        super().__init__(entry, f"money_{key}")
        self._books = books
        self._field = key
        self._attr_translation_key = f"money_{key}"
        self._attr_native_unit_of_measurement = str(entry.data[CONF_CURRENCY])

    async def async_added_to_hass(self) -> None:
        """Follow the books."""
        await super().async_added_to_hass()
        self.async_on_remove(self._books.async_listen(self.async_write_ha_state))

    @property
    def native_value(self) -> StateType:
        """The sum in units of currency."""
        return money(getattr(self._books.total(), self._field))


class HashRate(NodeEntity, SensorEntity):
    """How fast the node mines; asked of the node while somebody wants to see it."""

    _attr_translation_key = "hash_rate"
    _attr_native_unit_of_measurement = "H/s"
    _attr_state_class = SensorStateClass.MEASUREMENT
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_entity_registry_enabled_default = False
    _attr_suggested_display_precision = 0
    _attr_should_poll = True

    def __init__(self, entry: EnergyLedgerEntry) -> None:
        """Ask the entry's node."""
        super().__init__(entry, "hash_rate")
        self._client = entry.runtime_data.client

    async def async_added_to_hass(self) -> None:
        """Ask for the first time."""
        await super().async_added_to_hass()
        await self.async_update()

    async def async_update(self) -> None:
        """Ask; while the node is away nothing is known."""
        try:
            self._attr_native_value = (await self._client.mining()).rate
        except ClientError:
            self._attr_native_value = None


def _turnover(entry: EnergyLedgerEntry) -> list[Entity]:
    books = entry.runtime_data.books
    return [] if books is None else [TurnoverSensor(entry, books, key) for key in ("earned", "spent")]


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the sensors of an entry's home and node."""
    of_home = [HomeSensor(entry, description) for description in (*MONEY, *ENERGY, *MARKET)]
    of_node = [NodeSensor(entry, description) for description in NODE]
    return [*of_home, *of_node, HashRate(entry), *_turnover(entry)]
