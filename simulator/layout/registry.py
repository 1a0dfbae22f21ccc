"""Which family obeys for which profile, or for which variant of a profile ("profile/variant")."""

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from simulator.layout import fuel_cell_commands as cells
from simulator.layout import inverter_commands as inverters
from simulator.layout.families import Family
from simulator.layout.view import Identity

if TYPE_CHECKING:
    from custom_components.energy_ledger.devices.profile.model import Profile

_FC6, _FC16 = frozenset({6}), frozenset({16})
_SUNSPEC_BASIC = (1, 103, 120, 121, 122, 123, 124, 160, 203, 802)
_SUNSPEC_DER = (1, 103, 120, 121, 122, 123, 124, 160, 203, 701, 702, 703, 704, 713, 802)
_LOW_VOLTAGE_MV = 52_000


def _efoy(kind: str) -> Family:
    return Family(
        identity=Identity("SFC Energy", "EFOY H2Cabinet", "H2C-000001"),
        defaults=cells.efoy_defaults(kind),
        obey=cells.obey_efoy(kind),
        functions=dict.fromkeys(range(400, 404), _FC16) | {451: _FC6},
        mirrors={400 + word: (3, 100 + word) for word in range(4)},
        volatile=frozenset({451}),
        battery_mv=_LOW_VOLTAGE_MV,
    )


def _kostal(*, little: bool) -> Family:
    return Family(
        identity=Identity("KOSTAL", "PLENTICORE plus 10", "90123KBN00001"),
        defaults=inverters.kostal_defaults(little=little),
        obey=inverters.obey_kostal(little=little),
        functions=dict.fromkeys(range(1034, 1036), _FC16) | {533: _FC6},
        volatile=frozenset(range(1034, 1046)) | {533},
        constants={"management_mode": Fraction(2)},
        sunspec={"": (1, 103, 120, 123, 203)},
    )


def _deye(model: str, *, watts_per_unit: int, battery_mv: int) -> Family:
    return Family(
        identity=Identity("Deye", model, "2309120001"),
        defaults=inverters.deye_defaults(watts_per_unit),
        obey=inverters.obey_deye(watts_per_unit),
        battery_mv=battery_mv,
    )


def _solax(serial: str, watts_per_unit: int) -> Family:
    return Family(
        identity=Identity("SolaX", "Hybrid G4", serial),
        defaults=inverters.solax_defaults(watts_per_unit),
        obey=inverters.obey_solax(watts_per_unit),
        functions=dict.fromkeys(range(0x7C, 0x7C + inverters.SOLAX_BLOCK_WORDS), _FC16),
        hidden=frozenset(range(0x7C, 0x7C + inverters.SOLAX_BLOCK_WORDS)) | {0x42},
        volatile=frozenset(range(0x7C, 0x7C + inverters.SOLAX_BLOCK_WORDS)),
        mirrors={0x42: (3, 0xB6)},
    )


_METER = Family(identity=Identity("Energy Ledger", "Meter", "METER0001"), sunspec={"": (1, 203)})
_PEM = Family(
    identity=Identity("FCCU", "PEM", "PEM-000001"),
    defaults=cells.switch_defaults(0x13),
    obey=cells.obey_switch(0x13),
    functions={0x13: _FC6},
    volatile=frozenset({0x13}),
    battery_mv=_LOW_VOLTAGE_MV,
)

_FAMILIES: dict[str, Family] = {
    "fronius_gen24": Family(
        identity=Identity("Fronius", "Symo GEN24 10.0 Plus", "34120001", "1.30.7-1"),
        sunspec={"": (1, 103, 120, 121, 122, 123, 160, 124), "meter": (1, 203)},
    ),
    "solaredge": Family(
        identity=Identity("SolarEdge ", "SE10K-RWS48BNN4", "7E1D0001", "0004.0021.0023"),
        defaults=inverters.solaredge_defaults,
        obey=inverters.obey_solaredge,
        sunspec={"": (1, 103, 1, 203)},
        sunspec_lengths={1: 65},
        sunspec_export_positive=True,
    ),
    "sma_hybrid": Family(
        identity=Identity("SMA", "STP10.0-3SE-40", "3012340001"),
        defaults=inverters.sma_defaults,
        obey=inverters.obey_sma,
    ),
    "huawei_sun2000": Family(
        identity=Identity("Huawei", "SUN2000-10KTL-M1", "HV21500001"),
        defaults=inverters.huawei_defaults,
        obey=inverters.obey_huawei,
        volatile=frozenset({47_083, 47_100, *range(47_246, 47_251)}),
    ),
    "goodwe_et": Family(
        identity=Identity("GoodWe", "GW10K-ET", "9010KETU21W0001"),
        defaults=inverters.goodwe_defaults,
        obey=inverters.obey_goodwe,
    ),
    "sungrow_sh": Family(
        identity=Identity("Sungrow", "SH10RT", "A2320010001"),
        defaults=inverters.sungrow_defaults,
        obey=inverters.obey_sungrow,
    ),
    "deye_3phase/low_voltage": _deye("SUN-12K-SG04LP3", watts_per_unit=1, battery_mv=_LOW_VOLTAGE_MV),
    "deye_3phase/high_voltage": _deye("SUN-12K-SG01HP3", watts_per_unit=10, battery_mv=400_000),
    "deye_1phase": Family(
        identity=Identity("Deye", "SUN-5K-SG03LP1", "2309120001"), battery_mv=_LOW_VOLTAGE_MV
    ),
    "solax_gen4/x3": _solax("H34A10J0000001", 10),
    "solax_gen4/x1": _solax("H4502AJ0000001", 1),
    "victron_gx": Family(
        identity=Identity("Victron Energy", "Cerbo GX", "c0619ab10001"),
        defaults=inverters.victron_defaults,
        obey=inverters.obey_victron,
        volatile=frozenset({2716, 2717}),
        battery_mv=_LOW_VOLTAGE_MV,
    ),
    "victron_fuelcell": Family(battery_mv=_LOW_VOLTAGE_MV),
    "victron_dcgenset": Family(
        defaults=cells.switch_defaults(5204),
        obey=cells.obey_switch(5204),
        volatile=frozenset({5204}),
        constants={"remote_start": Fraction(1)},
        battery_mv=_LOW_VOLTAGE_MV,
    ),
    "kostal_plenticore/little": _kostal(little=True),
    "kostal_plenticore/big": _kostal(little=False),
    "e3dc": Family(identity=Identity("E3/DC GmbH", "S10 E AIO", "S10-500000001", "S10_2024_01")),
    "byd_battery_box": Family(
        identity=Identity("BYD", "Battery-Box LVL", "P03T010Z0001"), battery_mv=_LOW_VOLTAGE_MV
    ),
    "eastron_sdm630": Family(identity=Identity("Eastron", "SDM630", "20000001")),
    "carlo_gavazzi_em24": Family(
        identity=Identity("Carlo Gavazzi", "EM24", "KR0000001"), defaults=lambda _: {0xA000: (7,)}
    ),
    "efoy_hydrogen/integer": _efoy("s32"),
    "efoy_hydrogen/float": _efoy("f32"),
    "cummins_hydrogen": Family(
        identity=Identity("Cummins", "HyPM-R", "HYPM00001"),
        defaults=cells.cummins_defaults,
        obey=cells.obey_cummins,
        volatile=frozenset({14_500, 14_501}),
        battery_mv=_LOW_VOLTAGE_MV,
    ),
    "fccu_pem": _PEM,
    "efoy_pro/network": Family(
        identity=Identity("SFC Energy", "EFOY Pro 2800", "EFP000001"), battery_mv=24_000
    ),
    "efoy_pro/serial": Family(
        identity=Identity("SFC Energy", "EFOY Pro 2800", "EFP000001"),
        defaults=lambda _: {1029: (0,), 2003: (0,)},
        obey=cells.obey_efoy_pro,
        volatile=frozenset({1029, 2003}),
        battery_mv=24_000,
    ),
    "sunspec/der": Family(
        identity=Identity("Energy Ledger", "Simulated DER", "DER00001"), sunspec={"": _SUNSPEC_DER}
    ),
    "sunspec/basic": Family(
        identity=Identity("Energy Ledger", "Simulated inverter", "INV00001"), sunspec={"": _SUNSPEC_BASIC}
    ),
    "sunspec_meter/import": _METER,
    "sunspec_meter/export": replace(_METER, sunspec_export_positive=True),
}


def family_of(profile: Profile) -> Family:
    """Return the family of a profile or its variant; an unknown one shows its points and obeys nothing."""
    known = _FAMILIES.get(f"{profile.id}/{profile.variant}") or _FAMILIES.get(profile.id)
    return known or Family(identity=Identity(manufacturer=profile.manufacturer))
