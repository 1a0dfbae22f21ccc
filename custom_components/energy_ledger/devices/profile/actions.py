"""Commands of a profile: ordered writes with amounts that are linear in what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .points import Condition
    from .vocabulary import ValueType, WordOrder


class CommandName(StrEnum):
    """What a device can be told; each takes watts unless the profile's steps use none."""

    CHARGE = "charge"
    DISCHARGE = "discharge"
    GENERATE = "generate"
    LIMIT_EXPORT = "limit_export"


class Rounding(StrEnum):
    """How a value is made to fit the register's resolution."""

    DOWN = "down"  # towards zero: never more power than asked for
    NEAREST = "nearest"
    UP = "up"  # away from zero: never a shorter time than asked for


POWER_W: Final = "power_w"  # the power asked for, W, never negative
DURATION_S: Final = "duration_s"  # remaining time of the command, s
HOLD_S: Final = "hold_s"  # the command's `hold_s`, near its end what remains, s
SAVED: Final = "saved"  # what the setting held before the command
PLACEHOLDERS: Final = frozenset({POWER_W, DURATION_S, HOLD_S, SAVED})


class MissingValueError(LookupError):
    """A command's amount needs a value that is not known now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number to write, in the setting's unit: a literal, or `source * factor / per + offset`, clamped.

    `source` is a placeholder (`PLACEHOLDERS`) or a point's name; `per`, `offset`, `minimum` and `maximum`
    may name points too. No other arithmetic exists, so a profile can't run code. `default` stands in when the
    source has no value.
    """

    literal: Fraction | None = None
    source: str | None = None
    factor: Fraction = Fraction(1)
    per: str | None = None
    offset: Fraction | str = Fraction(0)
    minimum: Fraction | str | None = None
    maximum: Fraction | str | None = None
    default: Fraction | None = None
    rounding: Rounding = Rounding.DOWN

    def needs(self) -> frozenset[str]:
        """Names (placeholders and points) whose values `evaluate` uses."""
        names = (self.source, self.per, self.offset, self.minimum, self.maximum)
        return frozenset(name for name in names if isinstance(name, str))

    def evaluate(self, values: Mapping[str, Fraction]) -> Fraction:
        """The amount for these placeholder and point values. Raises MissingValueError naming what lacks."""
        if self.literal is not None:
            return self.literal
        if self.source is None:
            raise MissingValueError("an amount needs a literal or a source")
        if self.source not in values and self.default is not None:
            return self.default
        amount = _lookup(values, self.source) * self.factor
        if self.per is not None:
            divisor = _lookup(values, self.per)
            if not divisor:
                raise MissingValueError(f"{self.per} is 0, so no share of it can be computed")
            amount /= divisor
        amount += _bound(values, self.offset)
        if self.minimum is not None:
            amount = max(amount, _bound(values, self.minimum))
        if self.maximum is not None:
            amount = min(amount, _bound(values, self.maximum))
        return amount


def _lookup(values: Mapping[str, Fraction], name: str) -> Fraction:
    try:
        return values[name]
    except KeyError:
        raise MissingValueError(f"{name} has no value now") from None


def _bound(values: Mapping[str, Fraction], bound: Fraction | str) -> Fraction:
    return _lookup(values, bound) if isinstance(bound, str) else bound


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingStep:
    """Write `amount` to the setting of that name.

    `verify`: read it back and compare. `mask`: change only these bits (read, modify, write). `save`: keep the
    value found before the command's first write, for a release step with the `saved` placeholder. `renew`:
    repeat this step at each renewal. `wait`: seconds to pause afterwards.
    """

    setting: str
    amount: Amount
    verify: bool = False
    mask: int | None = None
    save: bool = False
    renew: bool = True
    wait: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockField:
    """One value inside a block write; `scale` as in reading: raw = amount / scale."""

    type: ValueType
    amount: Amount
    scale: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStep:
    """Write adjacent fields from `address` on in one request of function 16."""

    address: int
    fields: tuple[BlockField, ...]
    word_order: WordOrder
    renew: bool = True
    wait: float = 0.0


type Step = SettingStep | BlockStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to give one command, keep it in force, and take it back. Times in seconds.

    `steps` run in order (values before enables). `renew_s`: give the steps marked `renew` again at least this
    often (None: once is enough). `hold_s`: the device itself drops the command this long after the last
    renewal (None: it keeps it until released, so the next start must release it). `power_minimum` and
    `power_maximum` bound the watts that may be asked for (numbers, or names of rating points): beyond them
    the command is refused before anything is written.
    """

    name: CommandName
    steps: tuple[Step, ...]
    release: tuple[Step, ...]
    renew_s: float | None = None
    hold_s: float | None = None
    power_minimum: Fraction | str | None = None
    power_maximum: Fraction | str | None = None
    preconditions: tuple[Condition, ...] = ()

    @property
    def takes_power(self) -> bool:
        """Whether the command's watts reach the device (else it only switches on and off)."""
        return any(POWER_W in amount.needs() for step in self.steps for amount in amounts(step))


def amounts(step: Step) -> tuple[Amount, ...]:
    """Every amount that a step writes, in wire order."""
    if isinstance(step, SettingStep):
        return (step.amount,)
    return tuple(part.amount for part in step.fields)
