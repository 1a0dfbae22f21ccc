"""A device's SunSpec map: which models lie where, and how it is found.

Discovery reads the marker "SunS" at each base address, then header by header (model id, length) up to the end
marker. A model may occur several times. Source: SunSpec Device Information Model Specification, "Device
Modbus Map".
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ExceptionReply, LinkError, NotDetected
from ..profile.model import Function, SunSpecMap
from .definition import HEADER_REGISTERS, model_definition

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER: Final = (0x5375, 0x6E53)
"""The words "SunS" at the beginning of a map."""

END: Final = 0xFFFF
"""Model id of the end marker."""

_MAX_MODELS: Final = 100
_ADDRESSES: Final = 65_536
_MODULE_NAME: Final = "IDStr"  # names the modules of model 160


class Reader(Protocol):
    """The part of a Modbus unit that discovery uses."""

    async def read(self, function: int, address: int, count: int) -> list[int]:
        """Read `count` registers from `address` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInstance:
    """One model in a map: `address` of its header, `length` as the header states it (without the header).

    `instance` counts the models of the same id from 1. `modules` are the names of its repeating modules (""
    for modules without one).
    """

    id: int
    address: int
    length: int
    instance: int = 1
    modules: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """First address after the model."""
        return self.address + HEADER_REGISTERS + self.length

    def matching_modules(self, pattern: str | None) -> tuple[int, ...]:
        """Indexes (from 0) of the modules that a reference's module part selects; all of them for None."""
        if pattern is None:
            return tuple(range(len(self.modules)))
        if pattern.startswith("#"):
            number = int(pattern[1:]) if pattern[1:].isdigit() else 0
            return (number - 1,) if 1 <= number <= len(self.modules) else ()
        return tuple(n for n, name in enumerate(self.modules) if fnmatchcase(name.strip(), pattern))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A discovered map. Two layouts are equal exactly when every point lies at the same place in both."""

    base: int
    function: Function
    models: tuple[ModelInstance, ...]

    def find(self, ids: Iterable[int], instance: int = 1) -> ModelInstance | None:
        """Return the n-th instance among the models with one of these ids, in the order of the map."""
        wanted = set(ids)
        found = [model for model in self.models if model.id in wanted]
        return found[instance - 1] if len(found) >= instance else None

    def missing(self, required: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
        """Return those groups of alternatives of which the device has no model."""
        return tuple(ids for ids in required if self.find(ids) is None)


async def discover(unit: Reader, where: SunSpecMap | None = None) -> Layout:
    """Find the map of a device.

    Raises NotDetected when no base address holds one, LinkError when the device does not answer at all.
    """
    where = where or SunSpecMap()
    silence: LinkError | None = None
    answered = False
    for base in where.bases:
        try:
            marker = await unit.read(where.function, base, len(MARKER))
        except ExceptionReply:
            answered = True
        except LinkError as error:  # some devices keep silent about addresses that they don't have
            silence = error
        else:
            answered = True
            if tuple(marker) == MARKER:
                models = await walk(unit, where.function, base + len(MARKER))
                return Layout(base=base, function=where.function, models=models)
    if silence is not None and not answered:
        raise silence
    bases = ", ".join(str(base) for base in where.bases)
    raise NotDetected(f'no SunSpec map: none of the registers {bases} holds "SunS"')


async def walk(unit: Reader, function: Function | int, address: int) -> tuple[ModelInstance, ...]:
    """Walk the headers from `address` on.

    A map without an end marker ends where the device refuses to read on.
    """
    models: list[ModelInstance] = []
    counts: dict[int, int] = {}
    while len(models) < _MAX_MODELS and address + HEADER_REGISTERS <= _ADDRESSES:
        try:
            model_id, length = await unit.read(function, address, HEADER_REGISTERS)
        except ExceptionReply:
            break
        if model_id in (END, 0) or address + HEADER_REGISTERS + length > _ADDRESSES:
            break
        counts[model_id] = counts.get(model_id, 0) + 1
        model = ModelInstance(id=model_id, address=address, length=length, instance=counts[model_id])
        models.append(await _with_modules(unit, Function(function), model))
        address = model.end
    return tuple(models)


async def _with_modules(unit: Reader, function: Function, model: ModelInstance) -> ModelInstance:
    """Count the repeating modules of a model and read their names."""
    definition = model_definition(model.id)
    if definition is None or definition.repeating is None:
        return model
    group = definition.repeating
    count = max(0, (model.length + HEADER_REGISTERS - definition.fixed_length) // group.length)
    names = [""] * count
    place = group.points.get(_MODULE_NAME)
    if place is not None:
        for n in range(count):
            at = model.address + definition.fixed_length + n * group.length + place.offset
            names[n] = text(await unit.read(function, at, place.length))
    return ModelInstance(
        id=model.id, address=model.address, length=model.length, instance=model.instance, modules=tuple(names)
    )


def text(registers: Iterable[int]) -> str:
    """Text of two bytes per register, up to the first NUL."""
    content = b"".join(register.to_bytes(2, "big") for register in registers)
    return content.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()
