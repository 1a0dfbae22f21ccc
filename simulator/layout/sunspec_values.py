"""The points of each SunSpec model, filled from a view: units and signs as the models define them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.layout.sunspec_layout import ModelPlan
from simulator.physics.fuel_cell import FuelCellState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.layout.sunspec_layout import SunSpecValue
    from simulator.layout.view import Identity, View

type Values = Mapping[str, SunSpecValue]

_VOLTS = 230.0
_BATTERY_VOLTS = 400.0
_HZ = 49.98
_MPPT_VOLTS = 620.0

_INVERTER_SCALES = {
    "A_SF": -2, "V_SF": -1, "W_SF": 0, "Hz_SF": -2, "VA_SF": 0, "VAr_SF": 0, "PF_SF": -2, "WH_SF": 0,
    "DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "Tmp_SF": -1,
}  # fmt: skip
_METER_SCALES = {
    "A_SF": -2, "V_SF": -1, "Hz_SF": -2, "W_SF": 0, "VA_SF": 0, "VAR_SF": 0, "PF_SF": -2,
    "TotWh_SF": 0, "TotVAh_SF": 0, "TotVArh_SF": 0,
}  # fmt: skip
_STORAGE_SCALES = {
    "WChaMax_SF": 0, "WChaDisChaGra_SF": 0, "MinRsvPct_SF": -2, "ChaState_SF": -2, "InBatV_SF": -1,
    "InOutWRte_SF": -2, "StorAval_SF": 0,
}  # fmt: skip
_SCALES: dict[int, dict[str, int]] = {
    **dict.fromkeys((101, 102, 103), _INVERTER_SCALES),
    **dict.fromkeys((201, 202, 203, 204), _METER_SCALES),
    120: {"WRtg_SF": 0, "WHRtg_SF": 0, "MaxChaRte_SF": 0, "MaxDisChaRte_SF": 0, "VARtg_SF": 0,
          "ARtg_SF": -1},
    121: {"WMax_SF": 0, "VRef_SF": -1, "VRefOfs_SF": -1, "VMinMax_SF": -1, "VAMax_SF": 0, "PFMin_SF": -2},
    122: {"VArAval_SF": 0, "WAval_SF": 0},
    123: {"WMaxLimPct_SF": -1, "OutPFSet_SF": -2, "VArPct_SF": -1},
    124: _STORAGE_SCALES,
    160: {"DCA_SF": -2, "DCV_SF": -1, "DCW_SF": 0, "DCWH_SF": 0},
    701: {"A_SF": -2, "V_SF": -1, "Hz_SF": -2, "W_SF": 0, "PF_SF": -3, "VA_SF": 0, "Var_SF": 0,
          "TotWh_SF": 0, "Tmp_SF": -1},
    702: {"W_SF": 0, "VA_SF": 0, "Var_SF": 0, "V_SF": -1, "A_SF": -1, "PF_SF": -3},
    703: {"V_SF": -1, "Hz_SF": -2},
    704: {"WMaxLimPct_SF": -1, "WSet_SF": 0, "WSetPct_SF": -1, "PF_SF": -3, "VarSet_SF": 0,
          "VarSetPct_SF": -1},
    713: {"WH_SF": 0, "Pct_SF": -1},
    802: {"AHRtg_SF": 0, "WHRtg_SF": 0, "WChaDisChaMax_SF": 0, "SoC_SF": -1, "SoH_SF": -1, "V_SF": -1,
          "CellV_SF": -3, "A_SF": -1, "AMax_SF": -1, "W_SF": 0, "DoD_SF": -1, "DisChaRte_SF": -1},
}  # fmt: skip
_MPPTS = 2
_STORAGE_MODULES = 2


@dataclass(frozen=True, slots=True)
class SunSpecContext:
    """What the values depend on: the view, the device, its counters in Wh by name, its meter's sign."""

    view: View
    identity: Identity
    energy_wh: Mapping[str, int]
    export_positive: bool = False


def plan(number: int, *, with_battery: bool = True) -> ModelPlan:
    """Return how a model is laid out here; model 160 gets two trackers and, with a battery, its two ways."""
    repeats = _MPPTS + (_STORAGE_MODULES if with_battery else 0) if number == 160 else 0
    return ModelPlan(number, _SCALES.get(number, {}), repeats)


def values_of(number: int, context: SunSpecContext) -> Values:
    """Return a model's measured points by path, in their units; nothing for models that are only settings."""
    show = _MODELS.get(number)
    return {} if show is None else show(context)


def _common(context: SunSpecContext) -> Values:
    identity = context.identity
    return {
        "Mn": identity.manufacturer,
        "Md": identity.model,
        "Opt": "",
        "Vr": identity.firmware,
        "SN": identity.serial,
        "DA": 1,
    }


def _dc_w(view: View) -> int:
    """Return what the inverter takes from its DC bus, W; negative when it feeds the battery from AC."""
    return view.flows.pv_w + view.flows.discharge_w - view.flows.charge_w


def _inverter_state(view: View) -> int:
    """Return the operating state of models 101 to 113: 2 sleeping, 4 following the sun, 5 throttled."""
    if view.flows.pv_w < view.flows.pv_possible_w:
        return 5
    return 4 if view.flows.pv_w or view.flows.discharge_w or view.flows.charge_w else 2


def _inverter(context: SunSpecContext) -> Values:
    view = context.view
    watts = view.flows.ac_out_w - view.flows.ac_in_w
    amps = abs(watts) / 3 / _VOLTS
    return {
        "A": amps * 3,
        "AphA": amps,
        "AphB": amps,
        "AphC": amps,
        "PPVphAB": 398.4,
        "PPVphBC": 398.4,
        "PPVphCA": 398.4,
        "PhVphA": _VOLTS,
        "PhVphB": _VOLTS,
        "PhVphC": _VOLTS,
        "W": watts,
        "Hz": _HZ,
        "VA": abs(watts),
        "VAr": 0,
        "PF": 100,
        "WH": context.energy_wh["ac_out"],
        "DCA": _dc_w(view) / _MPPT_VOLTS,
        "DCV": _MPPT_VOLTS,
        "DCW": _dc_w(view),
        "TmpCab": view.ambient_mc / 1000,
        "TmpSnk": view.ambient_mc / 1000 + 10,
        "St": _inverter_state(view),
        "Evt1": 0,
        "Evt2": 0,
    }


def _nameplate(context: SunSpecContext) -> Values:
    view = context.view
    battery = view.battery
    values: dict[str, SunSpecValue] = {
        "DERTyp": 82 if battery else 4,
        "WRtg": view.rated_w,
        "VARtg": view.rated_w,
        "ARtg": view.rated_w / 3 / _VOLTS,
    }
    if battery:
        values |= {
            "WHRtg": battery.capacity_wh,
            "MaxChaRte": battery.max_charge_w,
            "MaxDisChaRte": battery.max_discharge_w,
        }
    return values


def _settings(context: SunSpecContext) -> Values:
    return {"WMax": context.view.rated_w, "VRef": _VOLTS, "VRefOfs": 0, "VAMax": context.view.rated_w}


def _status(context: SunSpecContext) -> Values:
    connected = 7 if context.view.flows.ac_out_w else 3
    values: dict[str, SunSpecValue] = {
        "PVConn": connected,
        "ECPConn": 1,
        "ActWh": context.energy_wh["ac_out"],
    }
    if context.view.battery:
        values["StorConn"] = 7 if context.view.flows.charge_w or context.view.flows.discharge_w else 3
    return values


def _storage(context: SunSpecContext) -> Values:
    battery, flows = context.view.battery, context.view.flows
    if battery is None:
        return {}
    # ChaSt: 1 off, 2 empty, 3 discharging, 4 charging, 5 full, 6 holding
    state = 4 if flows.charge_w else 3 if flows.discharge_w else 6
    return {
        "WChaMax": max(battery.max_charge_w, battery.max_discharge_w),
        "WChaGra": 100,
        "WDisChaGra": 100,
        "ChaState": battery.soc_permille / 10,
        "InBatV": _BATTERY_VOLTS,
        "ChaSt": state,
    }


def _mppt(context: SunSpecContext) -> Values:
    view = context.view
    first = view.flows.pv_w * 55 // 100
    energy = context.energy_wh
    modules = [
        ("MPPT 1", first, _MPPT_VOLTS, energy["pv"] * 55 // 100),
        ("MPPT 2", view.flows.pv_w - first, _MPPT_VOLTS, energy["pv"] - energy["pv"] * 55 // 100),
    ]
    if view.battery:
        modules += [
            ("StCha 3", view.flows.charge_w, _BATTERY_VOLTS, energy["charge"]),
            ("StDisCha 4", view.flows.discharge_w, _BATTERY_VOLTS, energy["discharge"]),
        ]
    values: dict[str, SunSpecValue] = {"N": len(modules), "Evt": 0, "TmsPer": 0}
    for index, (name, watts, volts, watt_hours) in enumerate(modules):
        prefix = f"module.{index}."
        values |= {
            prefix + "ID": index + 1,
            prefix + "IDStr": name,
            prefix + "DCA": watts / volts,
            prefix + "DCV": volts,
            prefix + "DCW": watts,
            prefix + "DCWH": watt_hours,
            prefix + "Tms": view.time_s & 0xFFFF_FFFF,
            prefix + "DCSt": 4,
            prefix + "DCEvt": 0,
        }
    return values


def _meter(context: SunSpecContext) -> Values:
    view = context.view
    watts = view.flows.import_w - view.flows.export_w
    if context.export_positive:
        watts = -watts
    amps = watts / 3 / _VOLTS
    return {
        "A": amps * 3,
        "AphA": amps,
        "AphB": amps,
        "AphC": amps,
        "PhV": _VOLTS,
        "PhVphA": _VOLTS,
        "PhVphB": _VOLTS,
        "PhVphC": _VOLTS,
        "Hz": _HZ,
        "W": watts,
        "WphA": watts / 3,
        "WphB": watts / 3,
        "WphC": watts / 3,
        "VA": abs(watts),
        "VAR": 0,
        "PF": 1,
        "TotWhExp": context.energy_wh["export"],
        "TotWhImp": context.energy_wh["import"],
        "Evt": 0,
    }


def _der_measure(context: SunSpecContext) -> Values:
    view = context.view
    watts = view.flows.ac_out_w - view.flows.ac_in_w
    running = view.fuel_cell is None or view.fuel_cell.state is FuelCellState.RUNNING or watts != 0
    return {
        "ACType": 3,
        "St": 1 if running else 0,
        "InvSt": 3 if watts else 7,
        "ConnSt": 1,
        "Alrm": 0,
        "W": watts,
        "VA": abs(watts),
        "Var": 0,
        "PF": 1,
        "A": abs(watts) / _VOLTS,
        "LLV": 398.4,
        "LNV": _VOLTS,
        "Hz": _HZ,
        "TotWhInj": context.energy_wh["ac_out"],
        "TotWhAbs": context.energy_wh["ac_in"],
        "TmpAmb": view.ambient_mc / 1000,
    }


def _der_capacity(context: SunSpecContext) -> Values:
    view = context.view
    values: dict[str, SunSpecValue] = {
        "WMaxRtg": view.rated_w,
        "VAMaxRtg": view.rated_w,
        "WMax": view.rated_w,
        "VAMax": view.rated_w,
    }
    if view.battery:
        values |= {
            "WChaRteMaxRtg": view.battery.max_charge_w,
            "WDisChaRteMaxRtg": view.battery.max_discharge_w,
            "WChaRteMax": view.battery.max_charge_w,
            "WDisChaRteMax": view.battery.max_discharge_w,
        }
    return values


def _storage_capacity(context: SunSpecContext) -> Values:
    battery = context.view.battery
    if battery is None:
        return {}
    return {
        "WHRtg": battery.capacity_wh,
        "WHAvail": battery.stored_wh,
        "SoC": battery.soc_permille / 10,
        "SoH": 99,
        "Sta": 0,
    }


def _battery(context: SunSpecContext) -> Values:
    battery, flows = context.view.battery, context.view.flows
    if battery is None:
        return {}
    watts = flows.discharge_w - flows.charge_w
    return {
        "AHRtg": battery.capacity_wh / _BATTERY_VOLTS,
        "WHRtg": battery.capacity_wh,
        "WChaRteMax": battery.max_charge_w,
        "WDisChaRteMax": battery.max_discharge_w,
        "SoC": battery.soc_permille / 10,
        "SoH": 99,
        "V": _BATTERY_VOLTS,
        "W": watts,
        "A": watts / _BATTERY_VOLTS,
        "Typ": 4,
        "State": 3,
        "LocRemCtl": 0,
        "ChaSt": 4 if flows.charge_w else 3 if flows.discharge_w else 6,
    }


_MODELS: dict[int, Callable[[SunSpecContext], Values]] = {
    1: _common,
    **dict.fromkeys((101, 102, 103, 111, 112, 113), _inverter),
    120: _nameplate,
    121: _settings,
    122: _status,
    124: _storage,
    160: _mppt,
    **dict.fromkeys((201, 202, 203, 204, 211, 212, 213, 214), _meter),
    701: _der_measure,
    702: _der_capacity,
    713: _storage_capacity,
    802: _battery,
}
