"""Carry out the steps of a command: every amount is worked out before the first write goes out."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from .codec import decode, encode_number
from .device import Device
from .errors import CommandRefused, ExceptionReply, WriteUnconfirmed
from .profile.model import (
    PLACEHOLDERS,
    SAVED,
    BlockStep,
    MissingValueError,
    Profile,
    RegisterPoint,
    SettingStep,
    Step,
    WriteAccess,
    amounts,
)
from .transport.base import WRITE_REGISTERS

# Pauses before each further look at a setting that has not taken its value over yet, in seconds.
_VERIFY_PAUSES: Final = (0.0, 0.2, 0.5, 1.0)
_SUNSPEC_MAX_EXPONENT: Final = 10


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedWrite:
    """One write, ready for the wire. `point` is the setting that it changes (None: a block)."""

    unit: str
    function: int
    address: int
    words: tuple[int, ...]
    step: Step
    value: Fraction | None = None  # what the setting reads afterwards, without a mask
    point: RegisterPoint | None = None
    persistent: bool = False


class StepWriter:
    """Plans and writes steps of one device's commands."""

    def __init__(self, device: Device) -> None:
        """Write to the units of `device`."""
        self._device = device

    @property
    def _profile(self) -> Profile:
        bound = self._device.bound
        return bound.profile if bound is not None else self._device.profile

    def setting(self, name: str) -> RegisterPoint:
        """A setting by name, at its address on this device."""
        point = self._profile.point(name)
        if not isinstance(point, RegisterPoint) or point.write is None:
            raise CommandRefused(f"{self._device.name} has no register for {name} that can be written")
        return point

    async def save(self, steps: Sequence[Step]) -> dict[str, Fraction]:
        """What the settings that a command will change hold now, for those that it puts back later."""
        saved: dict[str, Fraction] = {}
        for step in steps:
            if isinstance(step, SettingStep) and step.save:
                value = await self._found(self.setting(step.setting))
                if value is not None:
                    saved[step.setting] = value
        return saved

    async def plan(
        self, steps: Sequence[Step], values: Mapping[str, Fraction], saved: Mapping[str, Fraction]
    ) -> list[PlannedWrite]:
        """Work out every write, without writing.

        `values` holds the placeholders. Raises CommandRefused when a needed value is not known, and
        ValueOutOfRange when a register can't hold an amount.
        """
        known = dict(values)
        for name in sorted({name for step in steps for part in amounts(step) for name in part.needs()}):
            if name in PLACEHOLDERS or name in known:
                continue
            number = await self._device.number(name)
            if number is not None:
                known[name] = number
        try:
            return [await self._planned(step, known, saved) for step in steps]
        except MissingValueError as error:
            raise CommandRefused(f"{self._device.name}: {error}") from error

    async def _planned(
        self, step: Step, values: Mapping[str, Fraction], saved: Mapping[str, Fraction]
    ) -> PlannedWrite:
        if isinstance(step, BlockStep):
            words: list[int] = []
            for part in step.fields:
                words += encode_number(
                    part.type,
                    part.amount.evaluate(values),
                    scale=part.scale,
                    order=step.word_order,
                    rounding=part.amount.rounding,
                    what=f"field at register {step.address + len(words)}",
                )
            return PlannedWrite("", WRITE_REGISTERS, step.address, tuple(words), step)
        point = self.setting(step.setting)
        access = point.write
        assert access is not None  # noqa: S101 - `setting` gives only settings that can be written
        if step.setting in saved:
            values = {**values, SAVED: saved[step.setting]}
        value = step.amount.evaluate(values)
        scale = await self._scale(point, access)
        encoded = encode_number(
            point.type,
            value,
            scale=scale,
            offset=point.offset,
            order=point.word_order,
            rounding=step.amount.rounding,
            what=f"{self._device.name}: {step.setting}",
            unit=point.unit,
        )
        companion = point.companion or ""
        return PlannedWrite(
            companion, access.function, access.address, tuple(encoded), step, value, point, access.persistent
        )

    async def _scale(self, point: RegisterPoint, access: WriteAccess) -> Fraction:
        """Unit per raw number, from the device's scale register where it has one."""
        if point.scale_register is None:
            return access.scale
        unit = self._device.units[point.companion or ""]
        (word,) = await unit.read(int(point.function), point.scale_register, 1)
        exponent = word - 0x10000 if word & 0x8000 else word
        if abs(exponent) > _SUNSPEC_MAX_EXPONENT:
            raise CommandRefused(
                f"{self._device.name} does not implement {point.name}: it has no scale factor"
            )
        return access.scale * Fraction(10) ** exponent

    async def write(self, planned: Sequence[PlannedWrite]) -> None:
        """Write in order, and read back where the step says so.

        Raises CommandRefused when the device refuses a register or does not take a value over, LinkError
        when it can't be reached.
        """
        for write in planned:
            try:
                await self._write(write)
            except ExceptionReply as error:
                raise CommandRefused(f"{self._device.name}: {_what(write)}: {error}") from error
            if write.step.wait:
                await asyncio.sleep(write.step.wait)

    async def _write(self, write: PlannedWrite) -> None:
        step, point = write.step, write.point
        if isinstance(step, SettingStep) and point is not None:
            if step.mask is not None:
                write = await self._masked(write, point, step.mask)
            elif write.persistent and await self._holds(write, point):
                return  # a flash cell wears out with every write
        try:
            await self._device.units[write.unit].write(write.function, write.address, write.words)
        except WriteUnconfirmed as error:
            await self._settle(write, error)
        if isinstance(step, SettingStep) and step.verify:
            await self._verify(write)

    async def _masked(self, write: PlannedWrite, point: RegisterPoint, mask: int) -> PlannedWrite:
        """The write with all bits outside the mask as they are now."""
        found = await self._found(point)
        if found is None or write.value is None:
            raise CommandRefused(f"{self._device.name}: {point.name} has no value to change bits of")
        bits = (int(found) & ~mask) | (int(write.value) & mask)
        words = encode_number(point.type, Fraction(bits), order=point.word_order, what=point.name)
        return dataclasses.replace(write, words=tuple(words), value=Fraction(bits))

    async def _holds(self, write: PlannedWrite, point: RegisterPoint) -> bool:
        """Whether the setting holds what would be written."""
        found = await self._found(point)
        return found is not None and found == await self._written(write, point)

    async def _found(self, point: RegisterPoint) -> Fraction | None:
        """What a setting holds now; None for one that can only be written."""
        try:
            value = await self._device.read_point(point)
        except ExceptionReply as error:
            if not error.refused:
                raise
            return None
        return value if isinstance(value, Fraction) else None

    async def _written(self, write: PlannedWrite, point: RegisterPoint) -> Fraction | None:
        """What the setting reads once it holds the words of the write."""
        access = point.write
        assert access is not None  # noqa: S101 - only settings that can be written are planned
        scale = await self._scale(point, access)
        raw = dataclasses.replace(
            point,
            address=0,
            length=len(write.words),
            scale=scale,
            scale_register=None,
            high_word=None,
            valid=None,
            nan=frozenset(),
        )
        value = decode(raw, dict(enumerate(write.words)))
        return value if isinstance(value, Fraction) else None

    async def _settle(self, write: PlannedWrite, error: WriteUnconfirmed) -> None:
        """A write without an answer: look whether it took effect; only if not, write once more."""
        if write.point is None:
            raise error
        if await self._holds(write, write.point):
            return
        await self._device.units[write.unit].write(write.function, write.address, write.words)

    async def _verify(self, write: PlannedWrite) -> None:
        """Raise CommandRefused when the setting does not take the value over."""
        point = write.point
        if point is None:
            return
        expected = await self._written(write, point)
        found: Fraction | None = None
        for pause in _VERIFY_PAUSES:
            await asyncio.sleep(pause)
            found = await self._found(point)
            if found == expected:
                return
        shown = "no value" if found is None else f"{float(found):g} {point.unit}".strip()
        wanted = "no value" if expected is None else f"{float(expected):g} {point.unit}".strip()
        raise CommandRefused(
            f"{self._device.name}: {point.name} still reads {shown} after {wanted} was written; "
            "the device may be set to ignore commands over Modbus"
        )


def _what(write: PlannedWrite) -> str:
    """The step in words."""
    step = write.step
    return step.setting if isinstance(step, SettingStep) else f"block at register {step.address}"
