"""External statistics of traded energy and money by the hour, for the Energy dashboard and long charts.

An hour that a later block corrects is written again, and with it every later sum.
"""

from dataclasses import dataclass
from typing import Final

from homeassistant.components.recorder.const import DOMAIN as RECORDER_DOMAIN
from homeassistant.components.recorder.models import StatisticData, StatisticMeanType, StatisticMetaData
from homeassistant.components.recorder.statistics import async_add_external_statistics
from homeassistant.const import UnitOfEnergy
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.translation import async_get_translations
from homeassistant.util import slugify
from homeassistant.util.unit_conversion import EnergyConverter

from .books import Books, Figures
from .const import CONF_COMMUNITY, CONF_CURRENCY, CONF_HOME, DOMAIN
from .data import EnergyLedgerEntry
from .quantities import kilo, moment, money

_ADDRESS_TAIL: Final = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One column of the books."""

    key: str
    of_money: bool

    def value(self, figures: Figures) -> float:
        """Return it in kWh, or in units of currency."""
        raw: int = getattr(figures, _FIELDS[self.key])
        return money(raw) if self.of_money else kilo(raw)


_FIELDS: Final = {"sold": "sold_wh", "bought": "bought_wh", "earned": "earned", "spent": "spent"}
SERIES: Final = (
    Series("sold", of_money=False),
    Series("bought", of_money=False),
    Series("earned", of_money=True),
    Series("spent", of_money=True),
)


def statistic_id(entry: EnergyLedgerEntry, carrier: str, series: str) -> str:
    """Return the id of a series: the community, the end of the home's address, carrier, what."""
    community = slugify(entry.data[CONF_COMMUNITY]) or "community"
    return f"{DOMAIN}:{community}_{entry.data[CONF_HOME][-_ADDRESS_TAIL:]}_{carrier}_{series}"


class StatisticsWriter:
    """Writes what changed in the books into the recorder's statistics."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry, books: Books) -> None:
        self._hass = hass
        self._entry = entry
        self._books = books
        self._names: dict[str, str] = {}

    async def async_start(self) -> None:
        """Write what is there, and from now on what changes."""
        self._names = await async_get_translations(
            self._hass, self._hass.config.language, "common", [DOMAIN], config_flow=False
        )
        self._entry.async_on_unload(self._books.async_listen(self.async_write))
        self.async_write()

    @callback
    def async_write(self) -> None:
        """Write every hour from the first changed one on; the recorder does it in its own thread."""
        changed, self._books.changed_since = self._books.changed_since, {}
        for carrier, since in changed.items():
            rows = list(self._books.running_sums(carrier, since))
            for series in SERIES:
                data = [
                    StatisticData(start=moment(hour), state=series.value(figures), sum=series.value(sums))
                    for hour, figures, sums in rows
                ]
                async_add_external_statistics(self._hass, self._metadata(carrier, series), data)

    def _metadata(self, carrier: str, series: Series) -> StatisticMetaData:
        what = self._names.get(f"component.{DOMAIN}.common.statistics_{carrier}_{series.key}")
        unit = str(self._entry.data[CONF_CURRENCY]) if series.of_money else UnitOfEnergy.KILO_WATT_HOUR
        return StatisticMetaData(
            mean_type=StatisticMeanType.NONE,
            has_sum=True,
            name=f"{self._entry.title}: {what or f'{carrier} {series.key}'}",
            source=DOMAIN,
            statistic_id=statistic_id(self._entry, carrier, series.key),
            unit_class=None if series.of_money else EnergyConverter.UNIT_CLASS,
            unit_of_measurement=unit,
        )


async def async_start_statistics(hass: HomeAssistant, entry: EnergyLedgerEntry, books: Books) -> None:
    """Keep the statistics true to the books while the entry is loaded, where there is a recorder."""
    if RECORDER_DOMAIN in hass.config.components:
        await StatisticsWriter(hass, entry, books).async_start()
