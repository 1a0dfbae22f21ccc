"""The keys of this Home Assistant's homes and meters, in its private storage.

One file, `.storage/energy_ledger.keys`, readable by its owner only, holds each home's seed under the home's
address, and the seeds of the meters that have no key of their own. Keys are never deleted: whoever removes
an entry and joins again is the same member.
"""

from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.helpers.singleton import singleton
from homeassistant.helpers.storage import Store

from ledger_core.keys import SoftwareSigner, address, parse_seed_text, seed_text

from .const import DOMAIN

STORAGE_KEY: Final = f"{DOMAIN}.keys"
STORAGE_VERSION: Final = 1


class HomeKey:
    """One home's key, and the keys of its meters."""

    def __init__(self, store: KeyStore, seed: str, meters: dict[str, str]) -> None:
        """Take the stored texts; raises AddressError for a damaged seed."""
        self._store = store
        self._seed = seed
        self._meters = meters
        self.signer = SoftwareSigner(parse_seed_text(seed))

    @property
    def address(self) -> str:
        """The home's address (el1...)."""
        return address(self.signer.public_key)

    @property
    def recovery_code(self) -> str:
        """The seed as a text with a checksum: whoever has it owns the home's account."""
        return self._seed

    async def async_meter_signer(self, subentry_id: str) -> SoftwareSigner:
        """Return the signer of a device's meter; its key is made and stored when first asked for."""
        if subentry_id not in self._meters:
            self._meters[subentry_id] = seed_text(SoftwareSigner.generate().export_seed())
            await self._store.async_save()
        return SoftwareSigner(parse_seed_text(self._meters[subentry_id]))


class KeyStore:
    """All keys; get it by `async_key_store`."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Prepare to load."""
        self._store: Store[dict[str, Any]] = Store(
            hass, STORAGE_VERSION, STORAGE_KEY, private=True, atomic_writes=True
        )
        self._homes: dict[str, dict[str, Any]] = {}

    async def async_load(self) -> None:
        """Read the file."""
        self._homes = (await self._store.async_load() or {}).get("homes", {})

    async def async_save(self) -> None:
        """Write the file; it is on disk when this returns."""
        await self._store.async_save({"homes": self._homes})

    @property
    def homes(self) -> list[str]:
        """The addresses of the homes whose keys are here."""
        return list(self._homes)

    async def async_add(self, signer: SoftwareSigner) -> HomeKey:
        """Keep a home's key; one that is there already stays with its meters."""
        home = address(signer.public_key)
        if home not in self._homes:
            self._homes[home] = {"seed": seed_text(signer.export_seed()), "meters": {}}
            await self.async_save()
        return self.get(home)

    def get(self, home: str) -> HomeKey:
        """Return the key of a home by its address; raises KeyError where it is not here."""
        kept = self._homes[home]
        return HomeKey(self, kept["seed"], kept["meters"])


@singleton(f"{DOMAIN}_key_store")
async def async_key_store(hass: HomeAssistant) -> KeyStore:
    """Return the loaded key store."""
    store = KeyStore(hass)
    await store.async_load()
    return store
