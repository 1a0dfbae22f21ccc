"""The simulator's registers against registers of real devices: the dump's values in, the dump's words out."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from custom_components.energy_ledger.devices.profile.model import RegisterPoint, ValueType
from simulator.layout.profile_layout import ProfileLayout
from simulator.layout.registry import family_of
from simulator.layout.sunspec_layout import ModelPlan, SunSpecMap, definition
from simulator.layout.words import decode_number
from simulator.modbus.registers import Registers, Space
from tests.simulator.support import profiles

DUMPS = Path(__file__).parents[1] / "devices" / "dumps"


def _dump(name: str) -> dict[str, Any]:
    dump: dict[str, Any] = json.loads((DUMPS / f"{name}.json").read_text(encoding="utf-8"))
    return dump


def _address(key: str) -> int | None:
    """The address that an expected value's key begins with, if it does."""
    word = key.split(maxsplit=1)[0]
    try:
        return int(word, 0)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("dump_name", "profile_id", "fewest"),
    [
        ("byd_lvl_0500", "byd_battery_box", 11),
        ("goodwe_gw10ket_running", "goodwe_et", 11),
        ("huawei_sun2000_30070", "huawei_sun2000", 4),
        ("solaredge_battery_issue827", "solaredge", 9),
        ("eastron_sdm_l1_voltage", "eastron_sdm630", 1),
    ],
)
def test_layout_makes_the_words_of_a_real_device(dump_name: str, profile_id: str, fewest: int) -> None:
    dump = _dump(dump_name)
    profile = profiles()[profile_id]
    layout = ProfileLayout(profile, family_of(profile).identity)
    space = layout.spaces[Space(dump["function"])]
    compared = 0
    for key, value in dump["expected"].items():
        address = dump["base"] if key.startswith("L1 voltage") else _address(key)
        if address is None:
            continue
        name = layout.point_at(dump["function"], address)
        point = profile.points[name]
        assert isinstance(point, RegisterPoint)
        layout.put(name, Fraction(str(value)))
        start = address - dump["base"]
        real = dump["registers"][start : start + point.length]
        made = space.read(address, point.length)
        if point.type is ValueType.F32:
            little = point.word_order.value == "little"
            in_dump = decode_number("f32", tuple(real), little=little)
            shown = decode_number("f32", tuple(made), little=little)
            # The dump's values are rounded to four decimals or seven digits.
            assert math.isclose(in_dump, shown, rel_tol=2e-7, abs_tol=6e-5), key
            assert made[1] == real[1] if little else made[0] == real[0], f"{key}: words swapped"
        else:
            assert made == real, key
        compared += 1
    assert compared >= fewest


def test_sunspec_map_makes_the_words_of_a_real_inverter() -> None:
    dump = _dump("solaredge_se17k_common_103")
    words: list[int] = dump["registers"]
    expected = dump["expected"]
    registers = Registers()
    start = 69  # of model 103 in the dump: "SunS", then model 1 with 65 words
    scales = {}
    blank = SunSpecMap(Registers(), (ModelPlan(103, {}),)).model(103)
    for path, place in blank.places.items():
        if place.type == "sunssf":
            word = words[start + place.offset]
            scales[path] = word - 0x10000 if word & 0x8000 else word
    sunspec = SunSpecMap(registers, (ModelPlan(1, {}, length=65), ModelPlan(103, scales)), dump["base"])
    common, inverter = sunspec.model(1), sunspec.model(103)
    assert inverter.address == dump["base"] + start
    names = {"Mn": "manufacturer", "Md": "model", "Vr": "version", "SN": "serial"}
    sunspec.put(common, {path: expected[name] for path, name in names.items()} | {"DA": 1})
    sunspec.put(inverter, {path: value for path, value in expected.items() if path in inverter.places})
    assert registers.read(dump["base"], start) == words[:start]
    compared = 0
    for path, place in inverter.places.items():
        if path in expected or path.endswith("_SF") or path in ("ID", "L"):
            offset = start + place.offset
            made = registers.read(dump["base"] + offset, place.size)
            assert made == words[offset : offset + place.size], path
            compared += 1
    assert compared >= 30


def test_sunspec_models_are_known_by_number() -> None:
    with pytest.raises(ValueError, match="no SunSpec model 999; known: 1, 101"):
        definition(999)
    sunspec = SunSpecMap(Registers(), (ModelPlan(1, {}),))
    with pytest.raises(LookupError, match="the map has 1 models 1, not 2"):
        sunspec.model(1, 2)
