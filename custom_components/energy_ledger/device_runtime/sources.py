"""Where readings come from, behind one protocol."""

from collections.abc import Callable
from typing import Protocol

from ..devices.device import Availability
from ..devices.errors import DeviceError
from ..devices.readings import Readings


class ReadingSource(Protocol):
    """A Modbus device, or existing entities put together. Nothing here raises for what a device does."""

    readings: Readings
    availability: Availability
    error: DeviceError | None

    async def poll(self) -> Readings:
        """Read now."""

    def listen(self, listener: Callable[[Readings], None], /) -> Callable[[], None]:
        """Call `listener` with the readings after every change; the returned function ends that."""


class BrokenSource:
    """Stands in for a device whose settings can't be used; `error` says why."""

    def __init__(self, error: DeviceError) -> None:
        """Never has readings."""
        self.readings = Readings({})
        self.availability = Availability.OFFLINE
        self.error: DeviceError | None = error

    async def poll(self) -> Readings:
        """See `ReadingSource.poll`."""
        return self.readings

    def listen(self, _listener: Callable[[Readings], None], /) -> Callable[[], None]:
        """See `ReadingSource.listen`; nothing ever changes."""
        return lambda: None
