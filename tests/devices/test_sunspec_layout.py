"""SunSpec definitions, discovery at every base, repeated models, and binding of profile points."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from custom_components.energy_ledger.devices.codec import decode
from custom_components.energy_ledger.devices.errors import ExceptionReply, LinkTimeout, NotDetected
from custom_components.energy_ledger.devices.profile.load import load_profiles, parse_profile
from custom_components.energy_ledger.devices.profile.model import (
    CommandName,
    DerivedPoint,
    Function,
    Profile,
    RegisterPoint,
    SunSpecMap,
    Value,
)
from custom_components.energy_ledger.devices.sunspec.bind import bind, bind_check
from custom_components.energy_ledger.devices.sunspec.definition import load_definitions, model_definition
from custom_components.energy_ledger.devices.sunspec.layout import Layout, discover
from tests.devices.sunspecmap import MapUnit, common, model

VENDORED = (
    *(1, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160, 201, 202, 203, 204),
    *(211, 212, 213, 214, 701, 702, 703, 704, 713, 802, 803),
)
PROFILES = load_profiles()


def gen24(
    *, floats: bool = False, modules: tuple[str, ...] = ("MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4")
) -> MapUnit:
    """A map as a Fronius GEN24 has it, with its watts told apart by module."""
    inverter = (
        model(113, W=1500.5, Hz=50.0, WH=123.0) if floats else model(103, W=150, W_SF=1, Hz=500, Hz_SF=-1)
    )
    parts = [{"IDStr": name, "DCW": 1000 + n, "DCWH": 5000 + n} for n, name in enumerate(modules)]
    return MapUnit(
        40000,
        [
            common("Fronius", "Symo GEN24 10.0"),
            inverter,
            model(120, WRtg=1000, WRtg_SF=1),
            model(123, WMaxLimPct_SF=-2),
            model(124, WChaMax=5000, WChaMax_SF=0, ChaState=6250, ChaState_SF=-2, InOutWRte_SF=-2),
            model(160, modules=parts, DCW_SF=0, DCWH_SF=0, N=len(parts)),
        ],
    )


def value(unit: MapUnit, point: RegisterPoint) -> Value | None:
    registers = {
        first + n: unit.registers[first + n] for first, count in point.addresses() for n in range(count)
    }
    return decode(point, registers)


def register(profile: Profile, name: str) -> RegisterPoint:
    point = profile.point(name)
    assert isinstance(point, RegisterPoint)
    return point


def test_every_vendored_model_is_read_and_none_needs_more_than_we_support() -> None:
    assert load_definitions() == VENDORED
    for model_id in VENDORED:
        definition = model_definition(model_id)
        assert definition is not None
        assert definition.id == model_id
        points = definition.fixed.points
        assert points["ID"].offset == 0
        assert points["L"].offset == 1
        for group in (
            definition.fixed,
            *definition.once,
            *([definition.repeating] if definition.repeating else []),
        ):
            for point in group.points.values():
                assert point.scale_point is None or point.scale_point in points
    assert model_definition(64_001) is None


def test_offsets_are_those_of_the_specification() -> None:
    """Offsets as published, counted from the header; the ones that control depends on."""
    published = {
        123: {"WMaxLimPct": 5, "WMaxLimPct_RvrtTms": 7, "WMaxLim_Ena": 9, "WMaxLimPct_SF": 23},
        124: {"WChaMax": 2, "StorCtl_Mod": 5, "ChaState": 8, "OutWRte": 12, "InWRte": 13}
        | {"InOutWRte_RvrtTms": 15, "ChaGriSet": 17, "WChaMax_SF": 18, "ChaState_SF": 22, "InOutWRte_SF": 25},
        704: {"WMaxLimPctEna": 14, "WSetEna": 22, "WSetMod": 23, "WSet": 24, "WSetRvrt": 26}
        | {"WSetEnaRvrt": 30, "WSetRvrtTms": 31, "WSet_SF": 55},
        713: {"WHRtg": 2, "WHAvail": 3, "SoC": 4},
        802: {"WHRtg": 3, "SoC": 11, "W": 47, "W_SF": 63},
    }
    for model_id, offsets in published.items():
        definition = model_definition(model_id)
        assert definition is not None
        assert {name: definition.fixed.points[name].offset for name in offsets} == offsets


@pytest.mark.parametrize("base", [40000, 50000, 0])
async def test_discovery_at_every_base(base: int) -> None:
    unit = MapUnit(base, [common("Maker", "Thing"), model(103, W=1, W_SF=0)])
    layout = await discover(unit)
    assert layout.base == base
    assert [(m.id, m.address, m.length) for m in layout.models] == [(1, base + 2, 66), (103, base + 70, 50)]


async def test_unknown_and_repeated_models_are_kept() -> None:
    strange = [64_900, 3, 7, 8, 9]
    unit = MapUnit(
        40000, [common("A", "B"), strange, model(203, W=5, W_SF=0), common("C", "D"), model(203, W=6, W_SF=0)]
    )
    layout = await discover(unit)
    assert [(m.id, m.instance) for m in layout.models] == [(1, 1), (64_900, 1), (203, 1), (1, 2), (203, 2)]
    second = layout.find((201, 202, 203), 2)
    assert second is not None
    assert second.instance == 2
    assert layout.find((201,)) is None
    assert layout.find((203,), 3) is None
    assert layout.missing([(201, 203), (103, 113)]) == ((103, 113),)


async def test_a_map_without_end_marker_ends_where_the_device_refuses() -> None:
    unit = MapUnit(40000, [common("A", "B"), model(103, W=1, W_SF=0)], end=False)
    assert [m.id for m in (await discover(unit)).models] == [1, 103]
    absurd = MapUnit(40000, [common("A", "B"), [103, 0xFFFE]], end=False)
    assert [m.id for m in (await discover(absurd)).models] == [1]


async def test_no_map_and_no_answer_are_told_apart() -> None:
    with pytest.raises(NotDetected, match='none of the registers 40000, 50000, 0 holds "SunS"'):
        await discover(MapUnit(30000, []))
    elsewhere = MapUnit(0, [common("A", "B")])
    elsewhere.registers |= {40000: 1, 40001: 2}
    assert (await discover(elsewhere)).base == 0

    class Silent:
        async def read(self, function: int, address: int, count: int) -> list[int]:
            raise LinkTimeout("silent")

    with pytest.raises(LinkTimeout):
        await discover(Silent())

    class SilentAboutAbsent(MapUnit):
        async def read(self, function: int, address: int, count: int) -> list[int]:
            try:
                return await super().read(function, address, count)
            except ExceptionReply:
                raise LinkTimeout("silent") from None

    quiet = SilentAboutAbsent(50000, [common("A", "B")])
    quiet.registers |= {40000: 0, 40001: 0}
    assert (await discover(quiet)).base == 50000


async def test_input_registers_may_hold_the_map() -> None:
    unit = MapUnit(0, [common("A", "B")])
    layout = await discover(unit, SunSpecMap(bases=(0,), function=Function.READ_INPUT))
    assert layout.function is Function.READ_INPUT
    assert unit.functions == {4}


async def test_gen24_modules_are_chosen_by_name_and_summed() -> None:
    unit = gen24()
    binding = bind(PROFILES["fronius_gen24"], {None: await discover(unit)})
    profile = binding.profile
    pv = profile.point("pv_power")
    assert isinstance(pv, DerivedPoint)
    assert [value(unit, register(profile, part.point)) for part in pv.operands] == [1000, 1001]
    assert value(unit, register(profile, "charge_power")) == 1002
    assert value(unit, register(profile, "discharge_power")) == 1003
    assert value(unit, register(profile, "soc")) == Fraction(125, 2)
    assert value(unit, register(profile, "rated_power")) == 10_000
    assert value(unit, register(profile, "ac_power")) == 1500
    assert set(profile.commands) == {CommandName.CHARGE, CommandName.DISCHARGE, CommandName.LIMIT_EXPORT}
    assert "grid_power" in binding.missing  # no meter found behind the link


async def test_float_and_integer_maps_give_the_same_points() -> None:
    unit = gen24(floats=True)
    profile = bind(PROFILES["fronius_gen24"], {None: await discover(unit)}).profile
    assert value(unit, register(profile, "ac_power")) == Fraction("1500.5")
    integer = bind(PROFILES["fronius_gen24"], {None: await discover(gen24())}).profile
    assert register(profile, "soc").address - register(integer, "soc").address == 10  # the map has shifted


async def test_identity_checks_notice_a_shifted_map() -> None:
    unit = gen24()
    profile = bind(PROFILES["fronius_gen24"], {None: await discover(unit)}).profile
    points = [(check, check.point) for check in profile.identity]
    assert len(points) == 1 + 6  # the marker and six models
    assert all(isinstance(p, RegisterPoint) and check.test.accepts(value(unit, p)) for check, p in points)
    shifted = gen24(floats=True)
    broken = [
        p for check, p in points if isinstance(p, RegisterPoint) and not check.test.accepts(value(shifted, p))
    ]
    assert len(broken) == 5  # all but the marker and the common model


async def test_a_device_without_battery_offers_no_battery() -> None:
    unit = MapUnit(
        40000, [common("Fronius", "Symo GEN24"), model(103, W=1, W_SF=0), model(120, WRtg=5, WRtg_SF=3)]
    )
    binding = bind(PROFILES["fronius_gen24"], {None: await discover(unit)})
    assert not binding.profile.commands
    assert {"soc", "battery_power", "charge_power", "storage_mode"} <= set(binding.missing)
    assert "battery_power" not in binding.profile.derived


async def test_a_companion_has_a_map_of_its_own() -> None:
    meter = MapUnit(40000, [common("Fronius", "Smart Meter"), model(213, W=-321.5)])
    layouts: dict[str | None, Layout] = {None: await discover(gen24()), "meter": await discover(meter)}
    profile = bind(PROFILES["fronius_gen24"], layouts).profile
    grid = register(profile, "grid_power")
    assert grid.companion == "meter"
    assert value(meter, grid) == Fraction("-321.5")
    assert any(check.point.companion == "meter" for check in profile.identity)


async def test_unimplemented_values_and_scale_factors_are_no_value() -> None:
    unit = gen24()
    profile = bind(PROFILES["fronius_gen24"], {None: await discover(unit)}).profile
    soc = register(profile, "soc")
    assert soc.scale_register is not None
    for address, content in ((soc.address, 0xFFFF), (soc.scale_register, 0x8000), (soc.scale_register, 11)):
        changed = replace_register(unit, address, content)
        assert value(changed, soc) is None
    energy = register(profile, "ac_energy")
    assert (
        value(replace_register(replace_register(unit, energy.address, 0), energy.address + 1, 0), energy)
        is None
    )


def replace_register(unit: MapUnit, address: int, content: int) -> MapUnit:
    changed = MapUnit(0, [])
    changed.registers = {**unit.registers, address: content}
    return changed


async def test_a_short_model_lacks_its_last_points() -> None:
    short = model(124, WChaMax=5000, ChaState=10)[:20]
    short[1] = 18
    unit = MapUnit(40000, [common("A", "B"), model(103, W=1, W_SF=0), short])
    binding = bind(PROFILES["fronius_gen24"], {None: await discover(unit)})
    assert "soc" in binding.missing  # its scale factor lies beyond the end
    assert "max_charge" not in binding.missing


SELECTORS = """
id: selectors
title: Selectors
kinds: [pv]
link: {tcp: 502}
sunspec: {}
points:
  second: {sunspec: "160[#2].DCW"}
  beyond: {sunspec: "160[#9].DCW"}
  nonsense: {sunspec: "160[#x].DCW"}
  unknown_point: {sunspec: 103.NoSuch}
  not_vendored: {sunspec: 64900.W}
  second_meter: {sunspec: 20x@2.W}
  cell: {sunspec: "803[#1].StrSoC"}
  reactive: {sunspec: "704.Ext"}
settings:
  read_only: {sunspec: 103.W}
  fixed: {addr: 9, type: u16}
"""


async def test_selectors_and_what_they_miss() -> None:
    unit = MapUnit(
        40000,
        [
            common("A", "B"),
            model(103, W=1, W_SF=0),
            model(160, modules=[{"IDStr": "x", "DCW": 7}, {"IDStr": "x", "DCW": 8}], DCW_SF=0),
            [64_900, 2, 0, 0],
            model(704),
            model(803, modules=[{"StrSoC": 55}], NStr=1, SoC_SF=0),
        ],
    )
    layout = await discover(unit)
    assert [m.modules for m in layout.models if m.id == 803] == [("",)]
    binding = bind(parse_profile(SELECTORS, "selectors.yaml"), {None: layout})
    profile = binding.profile
    assert value(unit, register(profile, "second")) == 8
    assert value(unit, register(profile, "cell")) == 55
    reactive = register(profile, "reactive")  # a name that stands in several groups: the first
    assert reactive.address == next(m.address for m in layout.models if m.id == 704) + 60
    assert set(binding.missing) == {
        *("beyond", "nonsense", "unknown_point", "not_vendored", "second_meter", "read_only"),
    }
    assert profile.settings["fixed"].name == "fixed"


async def test_checks_are_bound_too() -> None:
    check = PROFILES["fronius_gen24"].detect[0]
    bound = bind_check(check, await discover(gen24()))
    assert bound is not None
    assert isinstance(bound.point, RegisterPoint)
    assert check.test.accepts(value(gen24(), bound.point))
    assert bind_check(check, None) is None
    fixed = replace(check, point=bound.point)
    assert bind_check(fixed, None) is fixed
    assert bind_check(PROFILES["sunspec"].variants["der"].when[0], await discover(gen24())) is None
