"""How hybrid inverters obey their control registers, written from the vendors' registers as facts.

Addresses are 0-based wire addresses. Every function returns the orders that the words in force amount to, and
lets the device's own timers run out. Sources: shared register facts (vendors' documents and public drivers).
"""

from typing import TYPE_CHECKING

from simulator.layout.settings import words_of
from simulator.physics.orders import BatteryOrder, Orders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.layout.settings import Ratings, Settings

type Defaults = Mapping[int, tuple[int, ...]]

_NO_LIMIT_U32 = 0xFFFF_FFFF


def _limit(value: int, unlimited: int) -> int | None:
    """Return a power limit in W, None where it doesn't bind."""
    return None if value >= unlimited else max(0, value)


# --- SolarEdge StorEdge: remote control mode 4, timeout back to the default mode --------------------------

_SE_MODE, _SE_DEFAULT, _SE_TIMEOUT, _SE_COMMAND, _SE_CHARGE, _SE_DISCHARGE = (
    0xE004, 0xE00A, 0xE00B, 0xE00D, 0xE00E, 0xE010,
)  # fmt: skip
_SE_EXPORT_MODE, _SE_EXPORT_LIMIT, _SE_POWER_PERCENT = 0xE000, 0xE002, 61_441


def solaredge_defaults(ratings: Ratings) -> Defaults:
    """Self-consumption, one hour of timeout, no limits."""
    return {
        _SE_EXPORT_MODE: (0, 0, *words_of("f32", ratings.rated_w, little=True), 1),
        0xE005: (0,),
        0xE006: words_of("f32", 0, little=True),
        0xE008: words_of("f32", 0, little=True),
        _SE_DEFAULT: (7, *words_of("u32", 3600, little=True), 7),
        _SE_CHARGE: words_of("f32", ratings.max_charge_w, little=True),
        _SE_DISCHARGE: words_of("f32", ratings.max_discharge_w, little=True),
        _SE_POWER_PERCENT: (100,),
    }


def obey_solaredge(settings: Settings, ratings: Ratings) -> Orders:
    """Storage command in force, or the default mode when remote control is off or has timed out."""
    command = 7
    if settings.u16(_SE_MODE) == 4:
        age = settings.age(*range(_SE_TIMEOUT, _SE_DISCHARGE + 2))
        timed_out = age >= settings.number("u32", _SE_TIMEOUT, little=True)
        command = settings.u16(_SE_DEFAULT if timed_out else _SE_COMMAND)
    charge = max(0, settings.watts("f32", _SE_CHARGE, little=True))
    discharge = max(0, settings.watts("f32", _SE_DISCHARGE, little=True))
    battery = {
        0: BatteryOrder.hold(),
        1: BatteryOrder.hold(),
        2: BatteryOrder.charge(charge, from_grid=False),
        3: BatteryOrder.charge(charge),
        4: BatteryOrder.discharge(discharge),
        5: BatteryOrder.discharge(discharge, to_grid=False),
    }.get(command, BatteryOrder(max_charge_w=charge, max_discharge_w=discharge))
    percent = settings.u16(_SE_POWER_PERCENT)
    limited = settings.u16(_SE_EXPORT_MODE) & 1
    return Orders(
        battery=battery,
        production_limit_w=None if percent >= 100 else ratings.rated_w * percent // 100,
        export_limit_w=settings.watts("f32", _SE_EXPORT_LIMIT, little=True) if limited else None,
    )


# --- SMA: limits renewed within a minute, or a set point that stays ------------------------------

_SMA_MODE, _SMA_LIMITS, _SMA_GRID, _SMA_ENABLE, _SMA_SETPOINT = 40_236, 40_793, 40_801, 40_151, 40_149
_SMA_DEFAULT_MODE, _SMA_ON, _SMA_OFF, _SMA_WATCHDOG_S = 2424, 802, 803, 60


def sma_defaults(ratings: Ratings) -> Defaults:
    """Default operation, full ranges."""
    charge, discharge = words_of("u32", ratings.max_charge_w), words_of("u32", ratings.max_discharge_w)
    return {
        _SMA_MODE: words_of("u32", _SMA_DEFAULT_MODE),
        _SMA_LIMITS: (0, 0, *charge, 0, 0, *discharge, 0, 0),
        _SMA_SETPOINT: (0, 0, *words_of("u32", _SMA_OFF)),
        44_039: words_of("s32", 10_000),
        44_041: words_of("s32", -10_000),
    }


def obey_sma(settings: Settings, ratings: Ratings) -> Orders:
    """A set point while it is switched on, else the limits while they are fresh."""
    if settings.number("u32", _SMA_ENABLE) == _SMA_ON:
        return Orders(battery=_signed_discharge(settings.watts("s32", _SMA_SETPOINT)))
    fresh = settings.age(_SMA_MODE, *range(_SMA_LIMITS, _SMA_GRID + 2)) < _SMA_WATCHDOG_S
    if not fresh:
        return Orders()
    least_charge, most_charge, least_discharge, most_discharge = (
        settings.watts("u32", _SMA_LIMITS + 2 * place) for place in range(4)
    )
    aim = settings.watts("s32", _SMA_GRID)
    return Orders(
        battery=BatteryOrder(
            min_charge_w=min(least_charge, ratings.max_charge_w),
            max_charge_w=_limit(most_charge, _NO_LIMIT_U32),
            min_discharge_w=min(least_discharge, ratings.max_discharge_w),
            max_discharge_w=_limit(most_discharge, _NO_LIMIT_U32),
            import_target_w=max(0, aim),
            export_target_w=max(0, -aim),
        )
    )


def _signed_discharge(power_w: int) -> BatteryOrder:
    """Return the order for a set point that counts discharge above 0."""
    return BatteryOrder.discharge(power_w) if power_w > 0 else BatteryOrder.charge(-power_w)


# --- Huawei: forcible charge or discharge for some minutes ------------------------------------------------

_HW_MAX_CHARGE, _HW_MINUTES, _HW_GRID_CHARGE, _HW_FORCE = 47_075, 47_083, 47_087, 47_100
_HW_TARGET, _HW_FORCE_CHARGE, _HW_FORCE_DISCHARGE, _HW_EXPORT = 47_246, 47_247, 47_249, 47_415


def huawei_defaults(ratings: Ratings) -> Defaults:
    """Nothing forced, charging from the grid allowed, no export limit."""
    charge, discharge = words_of("u32", ratings.max_charge_w), words_of("u32", ratings.max_discharge_w)
    return {
        _HW_MAX_CHARGE: (*charge, *discharge),
        _HW_MINUTES: (0,),
        _HW_GRID_CHARGE: (1,),
        _HW_FORCE: (0,),
        _HW_TARGET: (0, 0, 0, 0, 0),
        _HW_EXPORT: (0, *words_of("s32", ratings.rated_w), 1000),
    }


def obey_huawei(settings: Settings, ratings: Ratings) -> Orders:
    """What is forced until its minutes are over, which the device then takes back; and the export limit."""
    if settings.u16(_HW_FORCE) and settings.age(_HW_FORCE, _HW_MINUTES) >= 60 * settings.u16(_HW_MINUTES):
        settings.put(_HW_FORCE, 0)
    most_charge = min(settings.watts("u32", _HW_MAX_CHARGE), ratings.max_charge_w)
    most_discharge = min(settings.watts("u32", _HW_MAX_CHARGE + 2), ratings.max_discharge_w)
    match settings.u16(_HW_FORCE):
        case 1:
            power = min(settings.watts("u32", _HW_FORCE_CHARGE), most_charge)
            battery = BatteryOrder.charge(power, from_grid=bool(settings.u16(_HW_GRID_CHARGE)))
        case 2:
            battery = BatteryOrder.discharge(min(settings.watts("u32", _HW_FORCE_DISCHARGE), most_discharge))
        case _:
            battery = BatteryOrder(max_charge_w=most_charge, max_discharge_w=most_discharge)
    limits = {
        5: 0,
        6: settings.watts("s32", _HW_EXPORT + 1),
        7: ratings.rated_w * settings.s16(_HW_EXPORT + 3) // 1000,
    }
    return Orders(battery=battery, export_limit_w=limits.get(settings.u16(_HW_EXPORT)))


# --- GoodWe ET: EMS mode and power ------------------------------------------------------------------------

_GW_EXPORT_ON, _GW_EXPORT_W, _GW_MODE, _GW_POWER = 47_509, 47_510, 47_511, 47_512


def goodwe_defaults(ratings: Ratings) -> Defaults:
    """Automatic, no export limit."""
    return {_GW_EXPORT_ON: (0, min(ratings.rated_w, 0xFFFF), 1, 0)}


def obey_goodwe(settings: Settings, _ratings: Ratings) -> Orders:
    """The EMS mode with its power; it stays until it is changed."""
    power = settings.u16(_GW_POWER)
    battery = {
        2: BatteryOrder.charge(power, from_grid=False),
        3: BatteryOrder.discharge(power),
        4: BatteryOrder(import_target_w=power),
        5: BatteryOrder(export_target_w=power),
        6: BatteryOrder(max_discharge_w=0),
        8: BatteryOrder.hold(),
        9: BatteryOrder(import_target_w=power),
        10: BatteryOrder(export_target_w=power),
        11: BatteryOrder.charge(power),
        12: BatteryOrder.discharge(power),
    }.get(settings.u16(_GW_MODE), BatteryOrder())
    limited = settings.u16(_GW_EXPORT_ON) == 1
    return Orders(battery=battery, export_limit_w=settings.u16(_GW_EXPORT_W) if limited else None)


# --- Sungrow SH: forced mode, command, power --------------------------------------------------------------

_SG_MODE, _SG_COMMAND, _SG_POWER, _SG_EXPORT, _SG_EXPORT_ON, _SG_MAX = (
    13_049, 13_050, 13_051, 13_073, 13_086, 33_046,
)  # fmt: skip


def sungrow_defaults(ratings: Ratings) -> Defaults:
    """Self-consumption, no forced power, no export limit."""
    return {
        _SG_MODE: (0, 0xCC, 0),
        13_057: (1000, 50),
        _SG_EXPORT: (min(ratings.rated_w, 0xFFFF),),
        _SG_EXPORT_ON: (0x55,),
        _SG_MAX: (max(1, ratings.max_charge_w // 10), max(1, ratings.max_discharge_w // 10)),
    }


def obey_sungrow(settings: Settings, _ratings: Ratings) -> Orders:
    """The forced command in mode 2, else self-consumption within the limits."""
    most_charge, most_discharge = 10 * settings.u16(_SG_MAX), 10 * settings.u16(_SG_MAX + 1)
    battery = BatteryOrder(max_charge_w=most_charge, max_discharge_w=most_discharge)
    if settings.u16(_SG_MODE) == 2:
        power = settings.u16(_SG_POWER)
        forced = {
            0xAA: BatteryOrder.charge(min(power, most_charge)),
            0xBB: BatteryOrder.discharge(min(power, most_discharge)),
        }
        battery = forced.get(settings.u16(_SG_COMMAND), BatteryOrder.hold())
    limited = settings.u16(_SG_EXPORT_ON) == 0xAA
    return Orders(battery=battery, export_limit_w=settings.u16(_SG_EXPORT) if limited else None)


# --- Deye, three phases: no power set point, but a time-of-use table --------------------------------------

_DY_MAX_CHARGE, _DY_GRID_SOC, _DY_GRID_AMPS, _DY_GRID_CHARGE = 108, 127, 128, 130
_DY_WORK_MODE, _DY_EXPORT, _DY_SOLAR_EXPORT, _DY_TOU = 142, 143, 145, 146
_DY_TIMES, _DY_POWERS, _DY_SOCS, _DY_GRID = 148, 154, 166, 172
_DY_ROWS = 6


def deye_defaults(watts_per_unit: int) -> Callable[[Ratings], Defaults]:
    """Zero export to the household's meter, no charging from the grid, the table off, rows 4 hours apart."""

    def defaults(ratings: Ratings) -> Defaults:
        amps_in = max(1, ratings.max_charge_w * 1000 // ratings.battery_mv)
        amps_out = max(1, ratings.max_discharge_w * 1000 // ratings.battery_mv)
        return {
            _DY_MAX_CHARGE: (amps_in, amps_out),
            _DY_GRID_SOC: (0,),
            _DY_GRID_AMPS: (amps_in,),
            _DY_GRID_CHARGE: (0,),
            _DY_WORK_MODE: (1, min(ratings.rated_w // watts_per_unit, 0xFFFF)),
            _DY_SOLAR_EXPORT: (1, 0),
            _DY_TIMES: (0, 400, 800, 1200, 1600, 2000),
            _DY_POWERS: (min(ratings.max_discharge_w // watts_per_unit, 0xFFFF),) * _DY_ROWS,
            _DY_SOCS: (10,) * _DY_ROWS,
            _DY_GRID: (0,) * _DY_ROWS,
        }

    return defaults


def obey_deye(watts_per_unit: int) -> Callable[[Settings, Ratings], Orders]:
    """Return how an inverter obeys whose power settings count so many watts a unit."""

    def obey(settings: Settings, ratings: Ratings) -> Orders:
        selling = settings.u16(_DY_WORK_MODE) == 0
        exporting = selling or settings.u16(_DY_SOLAR_EXPORT)
        limit = settings.u16(_DY_EXPORT) * watts_per_unit if exporting else 0
        return Orders(battery=_deye_battery(settings, ratings, watts_per_unit), export_limit_w=limit)

    return obey


def _deye_battery(settings: Settings, ratings: Ratings, watts_per_unit: int) -> BatteryOrder:
    """Ampere limits, the charge from the grid, and the table's row of this hour while the table is on.

    Below a row's level the battery charges (from the grid only if that is allowed), above it, it serves the
    household, or the grid where selling comes first.
    """
    most_charge, most_discharge, grid_charge = (
        settings.u16(address) * ratings.battery_mv // 1000
        for address in (_DY_MAX_CHARGE, _DY_MAX_CHARGE + 1, _DY_GRID_AMPS)
    )
    grid_charge = min(grid_charge, most_charge)
    may_charge = settings.u16(_DY_GRID_CHARGE) == 1
    if not settings.u16(_DY_TOU) & 1:
        if may_charge and ratings.soc_permille < 10 * settings.u16(_DY_GRID_SOC):
            return BatteryOrder.charge(grid_charge)
        return BatteryOrder(max_charge_w=most_charge, max_discharge_w=most_discharge)
    row = _deye_row(settings, ratings.local_s)
    power = min(settings.u16(_DY_POWERS + row) * watts_per_unit, most_discharge)
    level_permille = 10 * settings.u16(_DY_SOCS + row)
    if ratings.soc_permille < level_permille and may_charge and settings.u16(_DY_GRID + row) & 1:
        return BatteryOrder.charge(grid_charge)
    if ratings.soc_permille <= level_permille:
        return BatteryOrder(max_charge_w=most_charge, max_discharge_w=0)
    if settings.u16(_DY_WORK_MODE) == 0:
        return BatteryOrder.discharge(power)
    return BatteryOrder(max_charge_w=most_charge, max_discharge_w=power)


def _deye_row(settings: Settings, local_s: int) -> int:
    """Return the table's row for a second of the day; the last row also holds before the first one's time."""
    clock = local_s // 3600 * 100 + local_s // 60 % 60
    started = [row for row in range(_DY_ROWS) if settings.u16(_DY_TIMES + row) <= clock]
    return max(started, key=lambda row: settings.u16(_DY_TIMES + row)) if started else _DY_ROWS - 1


# --- SolaX: one self-expiring block -----------------------------------------------------------------------

_SX_BLOCK, _SX_USE_MODE, _SX_MANUAL, _SX_EXPORT = 0x7C, 0x1F, 0x20, 0x42
SOLAX_BLOCK_WORDS = 13


def solax_defaults(watts_per_unit: int) -> Callable[[Ratings], Defaults]:
    """Self-use, remote control off, the export limit at the rating."""

    def defaults(ratings: Ratings) -> Defaults:
        return {
            _SX_BLOCK: (0,) * SOLAX_BLOCK_WORDS,
            _SX_USE_MODE: (0, 0),
            _SX_EXPORT: (min(ratings.rated_w // watts_per_unit, 0xFFFF),),
        }

    return defaults


def obey_solax(watts_per_unit: int) -> Callable[[Settings, Ratings], Orders]:
    """Return how an inverter obeys whose export limit counts so many watts a unit."""

    def obey(settings: Settings, ratings: Ratings) -> Orders:
        limit = settings.u16(_SX_EXPORT) * watts_per_unit
        return Orders(battery=_solax_battery(settings, ratings), export_limit_w=limit)

    return obey


def _solax_battery(settings: Settings, ratings: Ratings) -> BatteryOrder:
    """The remote block until its duration is over (charge above 0), else manual mode."""
    if settings.u16(_SX_BLOCK) == 1 and settings.age(_SX_BLOCK) < settings.u16(_SX_BLOCK + 6):
        return _signed_discharge(-settings.watts("s32", _SX_BLOCK + 2, little=True))
    if settings.u16(_SX_USE_MODE) != 3:
        return BatteryOrder()
    manual = {
        1: BatteryOrder.charge(ratings.max_charge_w),
        2: BatteryOrder.discharge(ratings.max_discharge_w),
    }
    return manual.get(settings.u16(_SX_MANUAL), BatteryOrder.hold())


# --- Victron GX: a grid set point -------------------------------------------------------------------------

_VE_SETPOINT, _VE_DISCHARGE, _VE_AMPS, _VE_FEED_IN, _VE_OVERRIDE = 2700, 2704, 2705, 2706, 2716
_VE_OVERRIDE_S = 60


def victron_defaults(_ratings: Ratings) -> Defaults:
    """No set point, no limits (-1)."""
    return {
        _VE_SETPOINT: (0,),
        _VE_DISCHARGE: (0xFFFF, 0xFFFF, 0xFFFF),
        _VE_OVERRIDE: (0, 0),
        2720: (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF),
        2901: (100, 1),
    }


def obey_victron(settings: Settings, ratings: Ratings) -> Orders:
    """The override while it is fresh, else the set point, with import above 0; limits unless negative."""
    if settings.age(_VE_OVERRIDE) < _VE_OVERRIDE_S:
        aim = settings.watts("s32", _VE_OVERRIDE)
    else:
        settings.put(_VE_OVERRIDE, 0, 0)
        aim = settings.s16(_VE_SETPOINT)
    amps = settings.s16(_VE_AMPS)
    most_charge = None if amps < 0 else amps * ratings.battery_mv // 1000
    feed_in = _victron_limit(settings, _VE_FEED_IN, 100, 2722)
    return Orders(
        battery=BatteryOrder(
            max_charge_w=most_charge,
            max_discharge_w=_victron_limit(settings, _VE_DISCHARGE, 10, 2720),
            import_target_w=max(0, aim),
            export_target_w=max(0, -aim),
        ),
        export_limit_w=feed_in,
    )


def _victron_limit(settings: Settings, short: int, factor: int, long: int) -> int | None:
    """Return a limit from its 16-bit register in coarse steps or its 32-bit register, the tighter one."""
    limits = [settings.s16(short) * factor, settings.watts("s32", long)]
    bound = [limit for limit in limits if limit >= 0]
    return min(bound) if bound else None


# --- Kostal Plenticore: a set point while external management is on ---------------------------------------

_KO_SETPOINT, _KO_MAX_CHARGE, _KO_MAX_DISCHARGE, _KO_PERCENT, _KO_MANAGEMENT = 1034, 1038, 1040, 533, 1080
_KO_WATCHDOG_S = 60


def kostal_defaults(*, little: bool) -> Callable[[Ratings], Defaults]:
    """No set point, full limits. Register 1080 is set on the device's own page and only read here."""

    def defaults(ratings: Ratings) -> Defaults:
        return {
            _KO_SETPOINT: words_of("f32", 0, little=little),
            _KO_MAX_CHARGE: words_of("f32", ratings.max_charge_w, little=little),
            _KO_MAX_DISCHARGE: words_of("f32", ratings.max_discharge_w, little=little),
            1042: words_of("f32", 5, little=little),
            1044: words_of("f32", 100, little=little),
            _KO_PERCENT: (100,),
        }

    return defaults


def obey_kostal(*, little: bool) -> Callable[[Settings, Ratings], Orders]:
    """Return how an inverter of a word order obeys: the set point while fresh, else the limits."""

    def obey(settings: Settings, ratings: Ratings) -> Orders:
        if settings.age(_KO_SETPOINT) < _KO_WATCHDOG_S:
            battery = _signed_discharge(settings.watts("f32", _KO_SETPOINT, little=little))
        else:
            battery = BatteryOrder(
                max_charge_w=max(0, settings.watts("f32", _KO_MAX_CHARGE, little=little)),
                max_discharge_w=max(0, settings.watts("f32", _KO_MAX_DISCHARGE, little=little)),
            )
        percent = settings.u16(_KO_PERCENT)
        limit = None if percent >= 100 else ratings.rated_w * percent // 100
        return Orders(battery=battery, production_limit_w=limit)

    return obey
