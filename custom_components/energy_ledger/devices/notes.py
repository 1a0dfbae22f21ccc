"""The note of a command in force, kept outside the process so that the next start can take it back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

from .errors import SettingsError
from .profile.model import CommandName

_VERSION: Final = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandNote:
    """What was told to which device. Times are Unix seconds, `saved` what the settings held before."""

    device: str
    profile: str
    command: CommandName
    power_w: int
    started: float
    until: float
    saved: Mapping[str, Fraction]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "version": _VERSION,
            "device": self.device,
            "profile": self.profile,
            "command": self.command.value,
            "power_w": self.power_w,
            "started": self.started,
            "until": self.until,
            "saved": {name: str(value) for name, value in self.saved.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> CommandNote:
        """From plain JSON. Raises SettingsError when it is not a note."""
        try:
            if data["version"] != _VERSION:
                raise SettingsError(f"command note of version {data['version']!r}, known is {_VERSION}")
            return cls(
                device=str(data["device"]),
                profile=str(data["profile"]),
                command=CommandName(data["command"]),
                power_w=int(data["power_w"]),
                started=float(data["started"]),
                until=float(data["until"]),
                saved={str(name): Fraction(value) for name, value in data["saved"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise SettingsError(f"a command note can't be read: {error!r}") from error


class NoteStore(Protocol):
    """Where the note of one device is kept. What `save` took must survive the process."""

    async def load(self) -> CommandNote | None:
        """The note, if a command may be in force. Raises SettingsError for one that can't be read."""

    async def save(self, note: CommandNote) -> None:
        """Keep the note; it is safe when this returns."""

    async def clear(self) -> None:
        """Forget the note: nothing is in force any more."""


class FileNoteStore:
    """A note in a file of its own, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        """Keep the note at `path`, whose folder must exist."""
        self._path = path

    async def load(self) -> CommandNote | None:
        """See `NoteStore.load`."""
        return await asyncio.to_thread(self._load)

    async def save(self, note: CommandNote) -> None:
        """See `NoteStore.save`."""
        await asyncio.to_thread(self._save, json.dumps(note.to_json(), indent=1))

    async def clear(self) -> None:
        """See `NoteStore.clear`."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def _load(self) -> CommandNote | None:
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return None
        try:
            return CommandNote.from_json(json.loads(text))
        except (SettingsError, ValueError) as error:
            raise SettingsError(f"{self._path}: {error}") from error

    def _save(self, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
