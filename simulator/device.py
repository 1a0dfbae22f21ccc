"""A simulated device: a profile's registers or a SunSpec map over a home's truth, obeying what is written."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.layout.profile_layout import ProfileLayout
from simulator.layout.settings import Ratings, Settings
from simulator.layout.sunspec_commands import countdowns, obey_sunspec, sunspec_defaults
from simulator.layout.sunspec_layout import SunSpecMap
from simulator.layout.sunspec_values import SunSpecContext, plan, values_of
from simulator.modbus.faults import Fault, FaultBoard, FaultKind
from simulator.modbus.registers import ExceptionCode, RefusedError, Registers, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from custom_components.energy_ledger.devices.profile.model import Check, Profile
    from simulator.layout.families import Family
    from simulator.layout.view import Identity, View
    from simulator.physics.orders import Orders

# With float models instead of integer ones, every later address moves: the shift that real devices make.
_FLOAT_MODELS = {101: 111, 102: 112, 103: 113, 201: 211, 202: 212, 203: 213, 204: 214}
_ENERGY_MODULUS = 1 << 32


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a device needs of its home: the view and its version, ratings, and the clock of its timers."""

    view: Callable[[], View]
    version: Callable[[], int]
    ratings: Callable[[int], Ratings]
    timer_now: Callable[[], float]


class SimulatedDevice:
    """One unit id. `companion` names the part of the profile that lives on another unit id of the link."""

    def __init__(
        self,
        unit: int,
        profile: Profile,
        family: Family,
        identity: Identity,
        surroundings: Surroundings,
        *,
        companion: str | None = None,
        sleeps_at_night: bool = False,
        variant_checks: tuple[Check, ...] = (),
    ) -> None:
        """Lay the registers out; raises ValueError where the profile's checks can't be met."""
        self.unit = unit
        self.profile = profile
        self.family = family
        self.identity = identity
        self._surroundings = surroundings
        self._companion = companion
        self._sleeps_at_night = sleeps_at_night
        self.faults: FaultBoard | None = None
        self._energy_offsets_wh: dict[str, int] = {}
        self.layout = ProfileLayout(
            profile,
            identity,
            companion=companion,
            battery_mv=family.battery_mv,
            constants=family.constants,
            variant_checks=variant_checks,
        )
        self.sunspec: SunSpecMap | None = None
        self._shifted = False
        self._lay_sunspec(shifted=False)
        self.settings = Settings(self._defaults(), surroundings.timer_now)
        self._shown: tuple[int, int, int] | None = None
        for address, words in self.settings.words().items():
            if address not in family.hidden:
                self._holding.map(address, (words,))
        for space, address in family.mirrors.values():
            self.layout.space(Space(space)).map(address, (0,))

    # --- what the link asks -------------------------------------------------------------------------------

    def read(self, space: Space, address: int, count: int) -> bytes:
        """Return words in the order of the wire; raises RefusedError."""
        self._refresh()
        shift = self._address_shift()
        registers = self.layout.spaces.get(space)
        if registers is None or address < shift:
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        return registers.read_bytes(address - shift, count)

    def write(self, space: Space, address: int, values: Sequence[int], function: int) -> None:
        """Take a write; raises RefusedError for addresses and functions that the device does not take."""
        address -= self._address_shift()
        if space is not Space.HOLDING:
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        for place in range(len(values)):
            taken = self.family.functions.get(address + place)
            if taken is not None and function not in taken:
                raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)
        self.settings.write(address, values)

    def silent(self) -> bool:
        """Whether the device sleeps now: with `sleeps_at_night`, while its array gives nothing."""
        return self._sleeps_at_night and self._surroundings.view().flows.pv_possible_w == 0

    def reboot(self) -> None:
        """Lose the volatile settings."""
        self.settings.reset(self.family.volatile & frozenset(self.settings.words()))

    # --- what the home asks -------------------------------------------------------------------------------

    def orders(self) -> Orders:
        """Return the orders in force."""
        ratings = self._surroundings.ratings(self.family.battery_mv)
        orders = self.family.obey(self.settings, ratings)
        if self.sunspec is not None and self.settings.touched:
            orders = orders.combined(obey_sunspec(self.sunspec, self.settings, ratings))
        return orders

    def sunspec_address(self, number: int, path: str, instance: int = 1) -> int:
        """Return the address of a point of its SunSpec map; raises LookupError where there is none."""
        if self.sunspec is None:
            raise LookupError(f"{self.profile.id} has no SunSpec map")
        self._refresh()
        return self.sunspec.model(number, instance).address_of(path)

    def happen(self, fault: Fault) -> bool:
        """Let a fault that is an event happen; return whether it was one."""
        self._refresh()
        energy_wh = {name: joules // 3600 for name, joules in self._surroundings.view().energy_j.items()}
        match fault.kind:
            case FaultKind.COUNTER_RESET:
                self.layout.reset_counters()
                self._energy_offsets_wh = {name: -value for name, value in energy_wh.items()}
            case FaultKind.COUNTER_ROLLOVER:
                self.layout.roll_counters(fault.margin_wh)
                top = _ENERGY_MODULUS - 1 - fault.margin_wh
                self._energy_offsets_wh = {name: top - value for name, value in energy_wh.items()}
            case _:
                return False
        self._shown = None
        return True

    # --- registers ----------------------------------------------------------------------------------------

    @property
    def _holding(self) -> Registers:
        return self.layout.space(Space.HOLDING)

    def _fault(self, kind: FaultKind) -> Fault | None:
        return None if self.faults is None else self.faults.find(kind, self.unit)

    def _address_shift(self) -> int:
        fault = self._fault(FaultKind.LAYOUT_SHIFT)
        return fault.words if fault is not None and self.sunspec is None else 0

    def _defaults(self) -> dict[int, tuple[int, ...]]:
        ratings = self._surroundings.ratings(self.family.battery_mv)
        defaults: dict[int, tuple[int, ...]] = {}
        if self._companion is None:
            defaults.update(self.family.defaults(ratings))
        if self.sunspec is not None:
            defaults.update(sunspec_defaults(self.sunspec))
        return defaults

    def _lay_sunspec(self, *, shifted: bool) -> None:
        numbers = self.family.sunspec.get(self._companion or "", ())
        if not numbers:
            return
        if self.sunspec is not None:
            self._holding.unmap(self.sunspec.base, self.sunspec.end)
        if shifted:
            numbers = tuple(_FLOAT_MODELS.get(number, number) for number in numbers)
        with_battery = self._surroundings.view().battery is not None
        plans = []
        for number in numbers:
            length = self.family.sunspec_lengths.get(number)
            plans.append(replace(plan(number, with_battery=with_battery), length=length))
        self.sunspec = SunSpecMap(self._holding, tuple(plans))
        self._shifted = shifted

    def _refresh(self) -> None:
        """Bring the registers up to date if the home, the settings or the faults have changed."""
        revision = 0 if self.faults is None else self.faults.revision
        state = (self._surroundings.version(), self.settings.revision, revision)
        if state == self._shown:
            return
        self._shown = state
        shifted = self._fault(FaultKind.LAYOUT_SHIFT) is not None
        if self.sunspec is not None and shifted is not self._shifted:
            self._move_sunspec(shifted)
        self._show()

    def _move_sunspec(self, shifted: bool) -> None:
        """Lay the SunSpec map out anew, as a switch between integer and float models does."""
        self._lay_sunspec(shifted=shifted)
        self.settings = Settings(self._defaults(), self._surroundings.timer_now)

    def _show(self) -> None:
        view = self._surroundings.view()
        identity = self.identity
        other = self._fault(FaultKind.IDENTITY)
        if other is not None:
            identity = replace(identity, serial=other.serial)
        self.layout.identity = identity
        hide = self._fault(FaultKind.NOT_A_NUMBER) is not None
        self.layout.show(view, hide_numbers=hide)
        if self.sunspec is not None:
            self._show_sunspec(self.sunspec, view, identity, hide=hide)
        for address, word in self.settings.words().items():
            if address not in self.family.hidden:
                self._holding.map(address, (word,))
        for address, (space, shown_at) in self.family.mirrors.items():
            self.layout.space(Space(space)).map(shown_at, (self.settings.u16(address),))

    def _show_sunspec(self, sunspec: SunSpecMap, view: View, identity: Identity, *, hide: bool) -> None:
        energy_wh = {
            name: (joules // 3600 + self._energy_offsets_wh.get(name, 0)) % _ENERGY_MODULUS
            for name, joules in view.energy_j.items()
        }
        context = SunSpecContext(view, identity, energy_wh, self.family.sunspec_export_positive)
        for model in sunspec.models:
            values: Mapping[str, int | float | str | None] = values_of(model.number, context)
            if hide and model.number != 1:
                values = dict.fromkeys(values)
            sunspec.put(model, values)
        if sunspec.has(704):
            sunspec.put(sunspec.model(704), countdowns(sunspec, self.settings))
