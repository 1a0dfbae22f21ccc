"""Model decoding against pysunspec2, an independent reader, over random register contents."""

from __future__ import annotations

import asyncio
import math
import struct
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sunspec2.modbus.client import SunSpecModbusClientModel

from custom_components.energy_ledger.devices.codec import decode
from custom_components.energy_ledger.devices.profile.load import parse_profile
from custom_components.energy_ledger.devices.profile.model import RegisterPoint, Value, ValueType
from custom_components.energy_ledger.devices.sunspec.bind import bind
from custom_components.energy_ledger.devices.sunspec.definition import load_definitions, model_definition
from custom_components.energy_ledger.devices.sunspec.layout import discover
from tests.devices.sunspecmap import MapUnit, common, model

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILE = """
id: oracle
title: Every point of one model
kinds: [pv]
link: {{tcp: 502}}
sunspec: {{}}
points:
{points}
"""
MODULES = 2


def blank(model_id: int) -> list[int]:
    return model(model_id, modules=[{}] * MODULES, **({"NStr": MODULES} if model_id == 803 else {}))


def bound_points(words: list[int]) -> tuple[MapUnit, dict[str, RegisterPoint]]:
    """Bind every point of the model, the repeating ones as `name__module`, through a profile."""
    definition = model_definition(words[0])
    assert definition is not None
    lines = [f'  a{n}: {{sunspec: "{words[0]}.{name}"}}' for n, name in enumerate(definition.fixed.points)]
    names = dict(zip((f"a{n}" for n in range(len(lines))), definition.fixed.points, strict=True))
    if definition.repeating:
        for module in range(1, MODULES + 1):
            for name in definition.repeating.points:
                key = f"b{len(names)}"
                names[key] = f"{name}__{module}"
                lines.append(f'  {key}: {{sunspec: "{words[0]}[#{module}].{name}"}}')
    unit = MapUnit(40000, [words] if words[0] == 1 else [common("A", "B"), words])
    layout = asyncio.run(discover(unit))
    profile = bind(
        parse_profile(PROFILE.format(points="\n".join(lines)), "oracle.yaml"), {None: layout}
    ).profile
    found = {names[p.name]: p for p in profile.points.values() if isinstance(p, RegisterPoint)}
    return unit, found


def oracle_points(words: list[int]) -> Iterator[tuple[str, Any]]:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    read = SunSpecModbusClientModel(words[0], model_len=words[1], data=data)
    assert not read.error_info
    for name, point in read.points.items():
        yield name, point
    for group in read.groups.values():
        for number, part in enumerate(group if isinstance(group, list) else (), 1):
            for name, point in part.points.items():
                yield f"{name}__{number}", point


def ours(unit: MapUnit, point: RegisterPoint) -> Value | None:
    runs = point.addresses()
    return decode(point, {a + n: unit.registers[a + n] for a, count in runs for n in range(count)})


def agree(point: RegisterPoint, mine: Value | None, theirs: Any, exponent: int | None) -> bool:
    """Compare with the other reader: both a value and the same, or both none.

    `exponent` is the power of ten that it reads from the scale factor's register; None is not implemented.
    """
    known = has_value(theirs) and exponent is not None
    if mine is None or exponent is None or not known:
        return mine is None and not known
    if isinstance(mine, str):
        return mine == str(theirs.value).split("\0", 1)[0].strip()
    if point.type is ValueType.F32:
        return bool(struct.unpack(">f", struct.pack(">f", float(mine)))[0] == theirs.value)
    return mine == Fraction(theirs.value) * Fraction(10) ** exponent


@pytest.mark.parametrize("model_id", load_definitions())
def test_we_read_what_pysunspec2_reads(model_id: int) -> None:
    words = blank(model_id)
    unit, points = bound_points(words)
    start = next(address for address in unit.registers if address == max(unit.registers) - 1 - len(words))
    definition = model_definition(model_id)
    assert definition is not None
    kept = {0, 1, *(p.offset for p in definition.fixed.points.values() if p.name == "NStr")}
    scales = {p.scale_register - start for p in points.values() if p.scale_register is not None}
    texts = {
        point.address - start + n
        for point in points.values()
        if point.type is ValueType.STR
        for n in range(point.length)
    }
    compared = 0
    for seed in range(25):
        random = Random(seed)
        for n in range(len(words)):
            if n in scales:
                words[n] = random.choice([*range(11), *range(-10, 0), 0x8000]) & 0xFFFF
            elif n in texts:
                words[n] = random.choice([0x4142, 0x7A39, 0x6120, 0x5A00])
            elif n not in kept:
                words[n] = random.choice(
                    [random.randrange(0x10000), 0xFFFF, 0x8000, 0, random.randrange(500)]
                )
        unit.registers |= {start + n: word for n, word in enumerate(words)}
        read = dict(oracle_points(words))
        for name, theirs in read.items():
            if name in points and theirs.pdef["type"] not in ("pad", "sunssf"):
                compared += 1
                mine = ours(unit, points[name])
                exponent = _exponent(read[theirs.pdef["sf"]].value) if "sf" in theirs.pdef else 0
                assert agree(points[name], mine, theirs, exponent), (name, mine, theirs.value, exponent)
    assert compared > 25


def _exponent(value: int | None) -> int | None:
    return value if value is not None and -10 <= value <= 10 else None


def has_value(point: Any) -> bool:
    """Whether the other reader considers the point implemented and its float finite."""
    if point.value is None or not point.info.is_impl(point.value):
        return False
    return not isinstance(point.value, float) or math.isfinite(point.value)
