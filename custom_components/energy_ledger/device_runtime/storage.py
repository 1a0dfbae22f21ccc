"""What must outlive a restart of the devices of one entry: counters, commands in force, registered assets."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from ..const import DOMAIN
from ..devices.counters import CounterState
from ..devices.errors import SettingsError
from ..devices.notes import CommandNote
from ..devices.readings import Field

_VERSION: Final = 1
# Counters are written that seldom; after a crash the lifetime counters go on from the last written state.
_DELAY_S: Final = 120.0


class DeviceStore:
    """One file for all devices of an entry; make it by `async_load`."""

    def __init__(self, hass: HomeAssistant, entry_id: str) -> None:
        """Prepare to load the file of an entry."""
        self._store: Store[dict[str, Any]] = Store(
            hass, _VERSION, f"{DOMAIN}.{entry_id}.devices", private=True, atomic_writes=True
        )
        self._devices: dict[str, dict[str, Any]] = {}
        self._assets: dict[str, dict[str, Any]] = {}

    async def async_load(self) -> None:
        """Read the file."""
        data = await self._store.async_load() or {}
        self._devices = data.get("devices", {})
        self._assets = data.get("assets", {})

    def _data(self) -> dict[str, Any]:
        return {"devices": self._devices, "assets": self._assets}

    async def async_save(self) -> None:
        """Write the file; it is on disk when this returns."""
        await self._store.async_save(self._data())

    def save_later(self) -> None:
        """Write the file within a while, at the latest when Home Assistant stops."""
        self._store.async_delay_save(self._data, _DELAY_S)

    async def async_remove(self) -> None:
        """Delete the file: the entry is gone."""
        await self._store.async_remove()

    # --- physical devices -------------------------------------------------------------------------------

    def device(self, uid: str) -> dict[str, Any]:
        """What is kept of a physical device; change it in place, then save."""
        return self._devices.setdefault(uid, {})

    def counters(self, uid: str) -> dict[Field, CounterState]:
        """The kept states of lifetime counters; a damaged one is left out, and its counter starts afresh."""
        states: dict[Field, CounterState] = {}
        for name, kept in self.device(uid).get("counters", {}).items():
            try:
                states[Field(name)] = CounterState(int(kept[0]), int(kept[1]), float(kept[2]))
            except ValueError, TypeError, IndexError:
                continue
        return states

    def keep_counters(self, uid: str, states: Mapping[Field, CounterState]) -> None:
        """Take over the states of lifetime counters, to be written later."""
        kept = {field.value: list(dataclasses.astuple(state)) for field, state in states.items()}
        if self.device(uid).get("counters") != kept:
            self.device(uid)["counters"] = kept
            self.save_later()

    def forget_but(self, uids: set[str]) -> None:
        """Forget devices that are set up no more."""
        for uid in self._devices.keys() - uids:
            del self._devices[uid]
            self.save_later()

    # --- assets -----------------------------------------------------------------------------------------

    @property
    def assets(self) -> dict[str, dict[str, Any]]:
        """What was registered from here, by asset id; change it in place, then save."""
        return self._assets


class StoredNote:
    """The note of a command in force, kept in the entry's file; a `devices.notes.NoteStore`."""

    def __init__(self, store: DeviceStore, uid: str) -> None:
        """Keep the note of that physical device."""
        self._store = store
        self._uid = uid

    async def load(self) -> CommandNote | None:
        """See `NoteStore.load`."""
        kept = self._store.device(self._uid).get("note")
        if kept is None:
            return None
        try:
            return CommandNote.from_json(kept)
        except SettingsError as error:
            raise SettingsError(f"of device {self._uid}: {error}") from error

    async def save(self, note: CommandNote) -> None:
        """See `NoteStore.save`."""
        self._store.device(self._uid)["note"] = note.to_json()
        await self._store.async_save()

    async def clear(self) -> None:
        """See `NoteStore.clear`."""
        if self._store.device(self._uid).pop("note", None) is not None:
            await self._store.async_save()
