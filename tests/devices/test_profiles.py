"""Our profiles: complete, consistent, choosing the right variant, and commanding what the devices expect."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from custom_components.energy_ledger.devices.codec import decode, encode_number
from custom_components.energy_ledger.devices.errors import ProfileError
from custom_components.energy_ledger.devices.profile.load import load_profiles, parse_profile, profile_ids
from custom_components.energy_ledger.devices.profile.model import (
    HOLD_S,
    POWER_W,
    REGISTERS,
    SAVED,
    BlockStep,
    Command,
    CommandName,
    Direction,
    Function,
    Profile,
    RegisterPoint,
    Role,
    SettingStep,
    Step,
    Transport,
    ValueType,
    WordOrder,
    amounts,
)
from custom_components.energy_ledger.devices.sunspec.bind import bind
from custom_components.energy_ledger.devices.sunspec.layout import discover
from tests.devices.sunspecmap import MapUnit, common, model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROFILES = load_profiles()
FAMILIES = {
    *("fronius_gen24", "solaredge", "sma_hybrid", "huawei_sun2000", "goodwe_et", "sungrow_sh", "deye_3phase"),
    *("deye_1phase", "solax_gen4", "victron_gx", "kostal_plenticore", "e3dc", "byd_battery_box"),
    *("eastron_sdm630", "carlo_gavazzi_em24", "efoy_hydrogen", "cummins_hydrogen", "fccu_pem"),
    *("victron_fuelcell", "victron_dcgenset", "efoy_pro", "sunspec", "sunspec_meter"),
}


def everything() -> Iterator[Profile]:
    for profile in PROFILES.values():
        yield profile
        for variant in profile.variants.values():
            yield variant.profile


def ids(profile: Profile) -> str:
    return f"{profile.id}-{profile.variant or 'base'}"


def test_every_family_has_a_profile() -> None:
    assert set(PROFILES) == FAMILIES


@pytest.mark.parametrize("profile", everything(), ids=ids)
def test_a_profile_says_where_it_comes_from_and_what_is_not_proven(profile: Profile) -> None:
    assert profile.sources
    assert profile.unproven
    assert profile.detect
    assert profile.path is not None
    assert profile.path.stem == profile.id
    assert profile.link.transports
    for way in profile.link.transports:
        assert way.serial if way.transport is Transport.SERIAL else way.ports


@pytest.mark.parametrize("profile", everything(), ids=ids)
def test_what_a_kind_must_tell(profile: Profile) -> None:
    told = {point.role for point in (*profile.points.values(), *profile.derived.values())}
    if "battery" in profile.kinds:
        assert {Role.BATTERY_POWER, Role.STATE_OF_CHARGE} <= told
    if "pv" in profile.kinds:
        assert Role.PV_POWER in told
    if "meter" in profile.kinds:
        assert Role.GRID_POWER in told
    if "fuel_cell" in profile.kinds and profile.variant != "serial":
        assert Role.FUEL_CELL_POWER in told


@pytest.mark.parametrize("profile", everything(), ids=ids)
def test_commands_can_be_taken_back(profile: Profile) -> None:
    for command in profile.commands.values():
        written = {step.setting for step in command.steps if isinstance(step, SettingStep)}
        released = {step.setting for step in command.release if isinstance(step, SettingStep)}
        saved = {step.setting for step in command.steps if isinstance(step, SettingStep) and step.save}
        assert saved <= released, "what is saved must be put back"
        blocks = any(isinstance(step, BlockStep) for step in command.steps)
        assert blocks or written & released
        for step in command.release:
            if isinstance(step, SettingStep) and step.amount.source == SAVED:
                assert step.amount.default is not None, "a start after a crash may have lost the note"
        for step in command.steps:
            setting = profile.settings.get(step.setting) if isinstance(step, SettingStep) else None
            kept = isinstance(setting, RegisterPoint) and setting.write and setting.write.persistent
            if kept and command.renew_s is not None and isinstance(step, SettingStep):
                assert not step.renew, f"{step.setting} is kept in flash memory and must not be renewed"


def test_signs_and_word_orders_are_those_of_the_sources() -> None:
    signs = {
        ("solaredge", "battery_power"): Direction.CHARGE,
        ("solaredge", "grid_power"): Direction.EXPORT,
        ("huawei_sun2000", "battery_power"): Direction.CHARGE,
        ("huawei_sun2000", "grid_power"): Direction.EXPORT,
        ("goodwe_et", "battery_power"): Direction.DISCHARGE,
        ("goodwe_et", "grid_power"): Direction.EXPORT,
        ("sungrow_sh", "grid_power"): Direction.EXPORT,
        ("deye_3phase", "battery_power"): Direction.DISCHARGE,
        ("deye_3phase", "grid_power"): Direction.IMPORT,
        ("solax_gen4", "battery_power"): Direction.CHARGE,
        ("solax_gen4", "grid_power"): Direction.EXPORT,
        ("victron_gx", "battery_power"): Direction.CHARGE,
        ("victron_gx", "grid_power"): Direction.IMPORT,
        ("kostal_plenticore", "battery_power"): Direction.DISCHARGE,
        ("kostal_plenticore", "grid_power"): Direction.IMPORT,
        ("e3dc", "battery_power"): Direction.CHARGE,
        ("e3dc", "grid_power"): Direction.IMPORT,
        ("byd_battery_box", "battery_power"): Direction.DISCHARGE,
        ("fronius_gen24", "grid_power"): Direction.IMPORT,
        ("eastron_sdm630", "grid_power"): Direction.IMPORT,
        ("carlo_gavazzi_em24", "grid_power"): Direction.IMPORT,
    }
    assert {key: PROFILES[key[0]].point(key[1]).positive for key in signs} == signs
    little = {"solaredge", "sungrow_sh", "deye_3phase", "deye_1phase", "solax_gen4", "kostal_plenticore"}
    little |= {"e3dc", "byd_battery_box", "carlo_gavazzi_em24", "efoy_pro"}
    assert {p.id for p in PROFILES.values() if p.link.word_order is WordOrder.LITTLE} == little


VARIANTS = [
    ("efoy_hydrogen", {4: 0, 5: 53_100}, "integer"),
    ("efoy_hydrogen", {4: 0x474F, 5: 0x6C00}, "float"),
    ("kostal_plenticore", {5: 0}, "little"),
    ("kostal_plenticore", {5: 1}, "big"),
    ("deye_3phase", {0: 0x0500}, "low_voltage"),
    ("deye_3phase", {0: 0x0006}, "high_voltage"),
    ("sungrow_sh", {5213: 0xFB2E, 5214: 0xFFFF}, "signed"),
    ("solax_gen4", {0: 0x4834, 1: 0x3530, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0}, "x1"),
    ("solax_gen4", {0: 0x4833, 1: 0x3441, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0}, "x3"),
]


@pytest.mark.parametrize(("profile_id", "registers", "variant"), VARIANTS)
def test_the_variant_is_chosen_by_what_the_device_holds(
    profile_id: str, registers: Mapping[int, int], variant: str
) -> None:
    fitting = []
    for name, candidate in PROFILES[profile_id].variants.items():
        checks = [
            isinstance(check.point, RegisterPoint)
            and all(address in registers for address, _ in check.point.addresses())
            and check.test.accepts(decode(check.point, registers))
            for check in candidate.when
        ]
        if checks and all(checks):
            fitting.append(name)
    assert fitting == [variant]


def test_variants_change_what_they_are_for() -> None:
    hydrogen = PROFILES["efoy_hydrogen"]
    point = hydrogen.choose("float").points["dc_bus_voltage"]
    assert isinstance(point, RegisterPoint)
    assert decode(point, {4: 0x474F, 5: 0x6C00}) == Fraction("53.1")
    whole = hydrogen.choose("integer").points["dc_bus_voltage"]
    assert isinstance(whole, RegisterPoint)
    assert decode(whole, {4: 0, 5: 53_100}) == Fraction("53.1")
    pv_power = PROFILES["kostal_plenticore"].choose("big").points["pv_power"]
    assert isinstance(pv_power, RegisterPoint)
    assert pv_power.word_order is WordOrder.BIG
    high = PROFILES["deye_3phase"].choose("high_voltage").points["pv1_power"]
    assert isinstance(high, RegisterPoint)
    assert high.scale == 10
    signed = PROFILES["sungrow_sh"].choose("signed")
    assert "battery_power" in signed.points
    assert "battery_magnitude" not in signed.points
    with pytest.raises(LookupError, match='no variant "fast"; known: integer, float'):
        hydrogen.choose("fast")


def words(profile: Profile, step: Step, values: Mapping[str, Fraction]) -> tuple[int, list[int]]:
    """The address and the registers that a step writes."""
    if isinstance(step, BlockStep):
        content: list[int] = []
        for part in step.fields:
            content += encode_number(
                part.type, part.amount.evaluate(values), scale=part.scale, order=step.word_order
            )
        return step.address, content
    setting = profile.settings[step.setting]
    assert isinstance(setting, RegisterPoint)
    assert setting.write is not None
    scale = setting.write.scale
    if setting.scale_register is not None:
        scale *= Fraction(10) ** int(values[f"exponent of {setting.name}"])
    raw = encode_number(setting.type, step.amount.evaluate(values), scale=scale, order=setting.word_order)
    return setting.write.address, raw


def written(profile: Profile, steps: tuple[Step, ...], **values: int) -> list[tuple[int, list[int]]]:
    known = {name: Fraction(value) for name, value in values.items()}
    known |= {
        f"exponent of {name}": Fraction(values["exponent"])
        for name in profile.settings
        if "exponent" in values
    }
    return [words(profile, step, known) for step in steps]


def test_what_goes_over_the_wire() -> None:
    goodwe = PROFILES["goodwe_et"]
    charge = goodwe.commands[CommandName.CHARGE]
    assert written(goodwe, charge.steps, power_w=2500) == [(47512, [2500]), (47511, [11])]
    assert written(goodwe, charge.release) == [(47511, [1]), (47512, [0])]
    solax = PROFILES["solax_gen4"]
    discharge = solax.commands[CommandName.DISCHARGE]
    minus = (-2500) & 0xFFFF
    assert written(solax, discharge.steps, power_w=2500, hold_s=20) == [
        (0x7C, [1, 1, minus, 0xFFFF, 0, 0, 20, 0, 0, 0, 0, 0, 0]),
    ]
    limit = solax.commands[CommandName.LIMIT_EXPORT]
    assert written(solax, limit.steps, power_w=6000) == [(0x42, [600])]
    huawei = PROFILES["huawei_sun2000"]
    force = huawei.commands[CommandName.CHARGE]
    assert written(huawei, force.steps, power_w=6000, hold_s=120, max_charge=5000) == [
        (47246, [0]), (47083, [2]), (47247, [0, 5000]), (47100, [1]),
    ]  # fmt: skip
    sma = PROFILES["sma_hybrid"].choose("setpoint")
    steps = sma.commands[CommandName.CHARGE].steps
    assert written(sma, steps, power_w=1) == [(40149, [0xFFFF, 0xFFFF]), (40151, [0, 802])]
    victron = PROFILES["victron_gx"]
    steps = victron.commands[CommandName.DISCHARGE].steps
    assert written(victron, steps, power_w=3000, net_load=700) == [(2716, [0xFFFF, (-2300) & 0xFFFF])]
    kostal = PROFILES["kostal_plenticore"].commands[CommandName.CHARGE]
    assert written(PROFILES["kostal_plenticore"], kostal.steps, power_w=1000) == [(1034, [0, 0xC47A])]
    cummins = PROFILES["cummins_hydrogen"].commands[CommandName.GENERATE]
    assert written(PROFILES["cummins_hydrogen"], cummins.steps, power_w=30_000)[0] == (14501, [30])
    deye = PROFILES["deye_3phase"].commands[CommandName.CHARGE]
    first = written(
        PROFILES["deye_3phase"], deye.steps[:1], power_w=5300, battery_voltage=53, max_charge_current=90
    )
    assert first == [(128, [90])]


async def bound(parts: list[list[int]], profile: Profile) -> Profile:
    layout = await discover(MapUnit(40000, [common("Any", "Thing"), model(103, W=1, W_SF=0), *parts]))
    return bind(profile, {None: layout}).profile


BASE = 40000 + 2 + 68 + 52  # where the first model after the inverter's begins


async def test_sunspec_control_by_124_and_123() -> None:
    parts = [
        model(124, WChaMax=5000, WChaMax_SF=0, InOutWRte_SF=-2),
        model(123, WMaxLimPct_SF=-1),
        model(120, WRtg=10),
    ]
    profile = await bound(parts, PROFILES["sunspec"])
    charge = profile.commands[CommandName.CHARGE]
    rate = [
        step for step in charge.steps if isinstance(step, SettingStep) and step.setting == "discharge_rate"
    ]
    assert written(profile, tuple(rate), power_w=2500, max_charge=5000, exponent=-2) == [
        (BASE + 12, [-5000 & 0xFFFF]),  # OutWRte: discharge at no more than -50 %
    ]
    steps = {step.setting: step for step in charge.steps if isinstance(step, SettingStep)}
    values = {POWER_W: Fraction(2500), HOLD_S: Fraction(60), "max_charge": Fraction(5000)}
    assert steps["revert_time"].amount.evaluate(values) == 60
    assert steps["discharge_rate"].amount.evaluate(values) == -50
    assert steps["storage_mode"].amount.evaluate(values) == 2
    assert [step.setting for step in charge.steps if isinstance(step, SettingStep)][-1] == "storage_mode"
    assert at(profile, "revert_time") == BASE + 15
    assert at(profile, "charge_from_grid") == BASE + 17
    assert at(profile, "discharge_rate") == BASE + 12
    assert at(profile, "charge_rate") == BASE + 13
    assert at(profile, "storage_mode") == BASE + 5
    limit = profile.commands[CommandName.LIMIT_EXPORT]
    order = [step.setting for step in limit.steps if isinstance(step, SettingStep)]
    assert order == ["output_limit", "output_limit_revert_time", "output_limit_enabled"]
    assert [at(profile, name) for name in order] == [BASE + 26 + 5, BASE + 26 + 7, BASE + 26 + 9]
    (percent,) = amounts(limit.steps[0])
    assert percent.evaluate({POWER_W: Fraction(3), "rated_power": Fraction(10)}) == 30
    assert percent.evaluate({POWER_W: Fraction(30), "rated_power": Fraction(10)}) == 100


async def test_sunspec_control_by_704() -> None:
    parts = [
        model(704, WSet_SF=0, WMaxLimPct_SF=0),
        model(702, WMaxRtg=10, WChaRteMaxRtg=5, WDisChaRteMaxRtg=6, W_SF=3),
    ]
    generic = PROFILES["sunspec"]
    profile = await bound(parts, generic.choose("der"))
    charge = profile.commands[CommandName.CHARGE]
    order = [step.setting for step in charge.steps if isinstance(step, SettingStep)]
    assert [at(profile, name) - BASE for name in order] == [23, 26, 30, 31, 24, 22]
    assert order[-1] == "setpoint_enabled"
    assert written(profile, charge.steps, power_w=1000, hold_s=60, exponent=0) == [
        (BASE + 23, [1]), (BASE + 26, [0, 0]), (BASE + 30, [0]), (BASE + 31, [0, 60]),
        (BASE + 24, [0xFFFF, (-1000) & 0xFFFF]), (BASE + 22, [1]),
    ]  # fmt: skip
    assert written(profile, charge.release, exponent=0) == [(BASE + 22, [0]), (BASE + 24, [0, 0])]
    assert charge.hold_s == 60
    assert charge.renew_s == 30
    discharge = profile.commands[CommandName.DISCHARGE]
    assert written(profile, discharge.steps, power_w=1000, hold_s=60, exponent=0)[4] == (BASE + 24, [0, 1000])
    assert set(profile.commands) == {CommandName.CHARGE, CommandName.DISCHARGE, CommandName.LIMIT_EXPORT}


def at(profile: Profile, setting: str) -> int:
    point = profile.settings[setting]
    assert isinstance(point, RegisterPoint)
    assert point.write is not None
    assert point.write.function is Function.WRITE_MULTIPLE
    return point.write.address


def test_detection_order_is_most_specific_first() -> None:
    order = profile_ids(PROFILES.values())
    assert order.index("fronius_gen24") < order.index("sunspec") < order.index("sunspec_meter")
    assert set(order) == FAMILIES


def test_lookups() -> None:
    profile = PROFILES["goodwe_et"]
    assert profile.point("pv_power").name == "pv_power"
    assert profile.point("ems_mode").name == "ems_mode"
    with pytest.raises(LookupError, match='goodwe_et has no point "nothing"'):
        profile.point("nothing")
    assert [point.name for point in profile.by_role(Role.PV_POWER)] == ["pv_power"]
    mode = profile.settings["ems_mode"]
    assert isinstance(mode, RegisterPoint)
    assert mode.code("charge_battery") == 11
    with pytest.raises(LookupError, match='"sleep" is no value of ems_mode; known: auto'):
        mode.code("sleep")


def test_commands_that_switch_take_no_watts() -> None:
    assert not PROFILES["efoy_hydrogen"].commands[CommandName.GENERATE].takes_power
    charge: Command = PROFILES["solax_gen4"].commands[CommandName.CHARGE]
    assert charge.takes_power
    block = charge.steps[0]
    assert isinstance(block, BlockStep)
    assert sum(REGISTERS[part.type] for part in block.fields) == 13
    assert len(amounts(charge.steps[0])) == 9
    assert REGISTERS[ValueType.U64] == 4


def test_the_documentation_is_right() -> None:
    """The page on devices lists every profile, and its example and its error message are real."""
    page = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) & FAMILIES == FAMILIES
    example = page.split("```yaml\n")[1].split("```")[0]
    profile = parse_profile(example, "mine.yaml")
    assert set(profile.commands) == {CommandName.CHARGE}
    told = re.search(r"^    (mine\.yaml:.*)$", page, re.MULTILINE)
    assert told is not None
    with pytest.raises(ProfileError) as caught:
        parse_profile(example.replace('type: u16, unit: "%"', 'tpye: u16, unit: "%"'), "mine.yaml")
    assert str(caught.value) == told[1]
