"""The note of a command in force, in a file."""

import errno
import os
from fractions import Fraction
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.notes import CommandNote, FileNoteStore
from custom_components.energy_ledger.devices.profile.model import CommandName

NOTE = CommandNote(
    device="battery",
    profile="test_box",
    command=CommandName.CHARGE,
    power_w=3000,
    started=1000.0,
    until=1900.0,
    saved={"mode": Fraction(1, 10)},
)


async def test_a_full_disk_leaves_the_note_that_stood_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "note"
    notes = FileNoteStore(path)
    await notes.save(NOTE)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await notes.save(NOTE)
    assert list(tmp_path.iterdir()) == [path]
    assert await notes.load() == NOTE
