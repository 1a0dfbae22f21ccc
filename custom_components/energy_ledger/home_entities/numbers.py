"""Numbers of the home: the limits that every trading rule keeps."""

from dataclasses import dataclass

from homeassistant.components.number import NumberEntity, NumberEntityDescription, NumberMode
from homeassistant.const import PERCENTAGE, EntityCategory, UnitOfEnergy
from homeassistant.helpers.entity import Entity

from ledger_core.units import MAX_PRICE, MICRO

from ..const import CONF_CURRENCY
from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity
from ..quantities import whole
from ..trading_settings import Limits, TradingSettings


@dataclass(frozen=True, kw_only=True)
class LimitDescription(NumberEntityDescription):
    """A limit; `factor` times the shown number is what is kept."""

    factor: int
    of_price: bool = False


def _price(key: str) -> LimitDescription:
    return LimitDescription(
        key=key,
        translation_key=key,
        native_min_value=0,
        native_max_value=MAX_PRICE / MICRO,
        native_step=0.001,
        mode=NumberMode.BOX,
        entity_category=EntityCategory.CONFIG,
        factor=MICRO,
        of_price=True,
    )


LIMITS = (
    LimitDescription(
        key="reserve_permille",
        translation_key="reserve",
        native_unit_of_measurement=PERCENTAGE,
        native_min_value=0,
        native_max_value=100,
        native_step=1,
        mode=NumberMode.SLIDER,
        entity_category=EntityCategory.CONFIG,
        factor=10,
    ),
    _price("price_floor"),
    _price("price_ceiling"),
    _price("hand_back_price"),
    LimitDescription(
        key="confirmations",
        translation_key="confirmations",
        native_min_value=1,
        native_max_value=100,
        native_step=1,
        mode=NumberMode.BOX,
        entity_category=EntityCategory.CONFIG,
        factor=1,
    ),
)


class LimitNumber(LedgerEntity, NumberEntity):
    """One limit."""

    entity_description: LimitDescription

    def __init__(
        self, entry: EnergyLedgerEntry, settings: TradingSettings, description: LimitDescription
    ) -> None:
        """Show and change a limit."""
        super().__init__(entry, description.key, description)
        self._settings = settings
        if description.of_price:
            unit = f"{entry.data[CONF_CURRENCY]}/{UnitOfEnergy.KILO_WATT_HOUR}"
            self._attr_native_unit_of_measurement = unit

    async def async_added_to_hass(self) -> None:
        """Follow the settings."""
        await super().async_added_to_hass()
        self.async_on_remove(self._settings.async_listen(self._changed))

    def _changed(self, _limits: Limits) -> None:
        self.async_write_ha_state()

    @property
    def available(self) -> bool:
        """Always: a limit holds whether the node answers or not."""
        return True

    @property
    def native_value(self) -> float:
        """The limit as people read it."""
        value: int = getattr(self._settings.limits, self.entity_description.key)
        return value / self.entity_description.factor

    async def async_set_native_value(self, value: float) -> None:
        """Change the limit."""
        await self._settings.async_change(
            **{self.entity_description.key: whole(value, self.entity_description.factor)}
        )


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the numbers of an entry's home."""
    settings = entry.runtime_data.settings
    return [] if settings is None else [LimitNumber(entry, settings, limit) for limit in LIMITS]
