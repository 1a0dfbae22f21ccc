"""Which platforms there are, and where their entities come from.

Home and node, devices and trading each have a package with one module for each platform that they use; a
platform's own file adds what these give.
"""

from collections.abc import Callable, Iterable

from homeassistant.const import Platform
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .data import EnergyLedgerEntry

PLATFORMS = [
    Platform.BINARY_SENSOR,
    Platform.EVENT,
    Platform.NUMBER,
    Platform.SENSOR,
    Platform.SWITCH,
]

type HomeEntities = Callable[[EnergyLedgerEntry], Iterable[Entity]]
"""The entities of the home, its node or its trading."""
type SubentryEntities = Callable[[EnergyLedgerEntry, str], Iterable[Entity]]
"""The entities of a subentry (a device, a rule) by its id; none for a subentry of another type."""


def add_entities(
    entry: EnergyLedgerEntry,
    add: AddConfigEntryEntitiesCallback,
    of_home: Iterable[HomeEntities] = (),
    of_subentries: Iterable[SubentryEntities] = (),
) -> None:
    """Add the entities of one platform, those of a subentry under it."""
    add([entity for give in of_home for entity in give(entry)])
    for subentry_id in entry.subentries:
        found = [entity for give in of_subentries for entity in give(entry, subentry_id)]
        if found:
            add(found, config_subentry_id=subentry_id)
