"""Parts that make a whole: values for the operands of derived points, so that a reader computes the truth."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from custom_components.energy_ledger.devices.profile.model import DerivedPoint, Operation
from custom_components.energy_ledger.devices.profile.units import Unit
from simulator.layout.values import failing_value, passing_value

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from custom_components.energy_ledger.devices.profile.model import Operand, Profile, Value

# How one whole is shared over so many parts: two strings rarely get the same sun, three phases nearly do.
_SHARES = {
    1: (1000,),
    2: (550, 450),
    3: (340, 330, 330),
}
_NOMINAL_VOLTS = 52


@dataclass(frozen=True, slots=True)
class Solver:
    """Fills in the operands of a profile's derived points. `known` points keep the values they have."""

    profile: Profile
    battery_mv: int = _NOMINAL_VOLTS * 1000

    def solve(self, values: MutableMapping[str, Value | None], targets: Mapping[str, Fraction]) -> None:
        """Give every operand without a value one, so that each derived point in `targets` comes out right.

        `targets` are in the derived points' own units.
        """
        for name, target in targets.items():
            self._assign(self.profile.derived[name], target, values)

    def _assign(
        self, derived: DerivedPoint, target: Fraction, values: MutableMapping[str, Value | None]
    ) -> None:
        match derived.operation:
            case Operation.SUM:
                self._assign_sum(derived, target, values)
            case Operation.PRODUCT:
                self._assign_product(derived, target, values)
            case Operation.SIGN:
                self._assign_sign(derived, target, values)

    def _give(self, name: str, value: Fraction, values: MutableMapping[str, Value | None]) -> None:
        if name in self.profile.derived:
            self._assign(self.profile.derived[name], value, values)
        values[name] = value

    def _assign_sum(
        self, derived: DerivedPoint, target: Fraction, values: MutableMapping[str, Value | None]
    ) -> None:
        rest = target
        open_operands: list[Operand] = []
        for operand in derived.operands:
            value = values.get(operand.point)
            if isinstance(value, Fraction):
                rest -= value * operand.factor
            else:
                open_operands.append(operand)
        fitting = [item for item in open_operands if (item.factor < 0) == (rest < 0)]
        if not fitting:
            # Parts that can only be added: the first one takes the other sign.
            fitting = open_operands[:1]
        signed_phases = len(fitting) == len(open_operands)
        parts = fitting[:3] if signed_phases else fitting[:1]
        for operand in open_operands:
            if operand not in parts:
                self._give(operand.point, Fraction(0), values)
        shares = _SHARES.get(len(parts), ())
        left = rest
        for operand, share in list(zip(parts, shares, strict=True))[1:]:
            part = Fraction(int(rest * share / 1000))
            self._give(operand.point, part / operand.factor, values)
            left -= part
        if parts:
            self._give(parts[0].point, left / parts[0].factor, values)

    def _assign_product(
        self, derived: DerivedPoint, target: Fraction, values: MutableMapping[str, Value | None]
    ) -> None:
        rest = target
        open_operands: list[Operand] = []
        for operand in derived.operands:
            value = values.get(operand.point)
            if isinstance(value, Fraction) and value:
                rest /= value * operand.factor
            else:
                open_operands.append(operand)
        for operand in open_operands[:-1]:
            volts = Fraction(self.battery_mv, 1000)
            nominal = volts * 1000 if self.profile.point(operand.point).unit is Unit.MV else volts
            self._give(operand.point, nominal, values)
            rest /= nominal * operand.factor
        for operand in open_operands[-1:]:
            self._give(operand.point, rest / operand.factor, values)

    def _assign_sign(
        self, derived: DerivedPoint, target: Fraction, values: MutableMapping[str, Value | None]
    ) -> None:
        operand = derived.operands[0]
        self._give(operand.point, abs(target) / operand.factor, values)
        condition = derived.negative_when
        if condition is not None:
            values[condition.point] = (
                passing_value(condition.test) if target < 0 else failing_value(condition.test)
            )
