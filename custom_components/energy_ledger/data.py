"""What a loaded config entry holds while it runs."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from homeassistant.config_entries import ConfigEntry
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from ledger_core.client import NodeClient
from ledger_core.records.types import AssetKind

from .devices.readings import Readings
from .key_store import HomeKey

if TYPE_CHECKING:
    from ledger_core.client.home import Home

    from .books import Books
    from .device_runtime.manager import DeviceManager
    from .ledger import LedgerCoordinator
    from .node.supervisor import NodeSupervisor
    from .trading_settings import TradingSettings

type EnergyLedgerEntry = ConfigEntry[EnergyLedgerData]


class DeviceRuntime(Protocol):
    """A device of this home while it runs, whatever it is read through; see `device_runtime`."""

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def kind(self) -> AssetKind:
        """What it is on the ledger."""

    @property
    def coordinator(self) -> DataUpdateCoordinator[Readings]:
        """Its newest readings."""

    @property
    def asset_id(self) -> bytes | None:
        """Its asset on the ledger; None: it has none yet."""

    @property
    def meter_id(self) -> bytes | None:
        """The asset of the meter that it settles through."""

    @property
    def commander(self) -> Any | None:
        """Takes orders, as `devices.commands.Commander` does; None: the device is only read."""

    async def close(self) -> None:
        """Release what is commanded, and let go of the device."""


class Trading(Protocol):
    """The trading engine of this home; see `trading`."""

    async def async_start(self) -> None:
        """Begin to decide."""

    async def async_stop(self) -> None:
        """Release every device, and end."""

    def end_reason(self, trade: str) -> str | None:
        """Return why this home ended a sale by itself; None: it did not."""


@dataclass(kw_only=True)
class EnergyLedgerData:
    """What a loaded entry works with."""

    client: NodeClient
    key: HomeKey
    home: Home
    node: NodeSupervisor | None
    """None: the node runs elsewhere."""
    ledger: LedgerCoordinator
    devices: dict[str, DeviceRuntime] = field(default_factory=dict)
    """By subentry id."""
    device_manager: DeviceManager | None = None
    """Opens, registers and closes the devices."""
    trading: Trading | None = None
    settings: TradingSettings | None = None
    """What the user lets trading do by itself."""
    books: Books | None = None
    """What this home sold, bought, earned and spent, by the hour."""
    home_device_id: str = ""
    """In the device registry: the home; devices of it and its node name it as `via_device_id`."""
