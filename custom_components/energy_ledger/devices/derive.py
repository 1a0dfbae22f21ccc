"""Derived points: sums, products and signs computed from other points of the same device; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction

from .profile.model import DerivedPoint, Missing, Operation, Value
from .readings import QUALITY_ORDER, PointState, Quality

type _Lookup = Callable[[str], PointState]

_MISSING = PointState(None, Quality.UNAVAILABLE)


def derive_points(
    derived: Mapping[str, DerivedPoint], states: Mapping[str, PointState]
) -> dict[str, PointState]:
    """The state of every derived point, from the states of the points they are made of.

    A derived value is as bad and as old as the worst value in it. An operand that could not be read never
    counts as 0: only one that the device answers with "no value" may be left out, where the profile says so.
    """
    known = dict(states)
    result: dict[str, PointState] = {}

    def state_of(name: str) -> PointState:
        if name not in known and name in derived:
            known[name] = _MISSING  # a point that needs itself has no value
            known[name] = result[name] = _derive(derived[name], state_of)
        return known.get(name, _MISSING)

    for name in derived:
        state_of(name)
    return result


def _derive(point: DerivedPoint, state_of: _Lookup) -> PointState:
    states = [state_of(operand.point) for operand in point.operands]
    factors = [operand.factor for operand in point.operands]
    if point.missing is Missing.SKIP:
        kept = [(s, f) for s, f in zip(states, factors, strict=True) if not s.no_value]
        if not kept:
            return _worst(states, None)
        states, factors = [s for s, _ in kept], [f for _, f in kept]
    numbers = [_number(state.value) for state in states]
    deciding = list(states)
    negative = False
    if point.negative_when is not None:
        condition = state_of(point.negative_when.point)
        deciding.append(condition)
        if condition.value is None:
            return _worst(deciding, None)
        negative = point.negative_when.test.accepts(condition.value)
    terms = [number * factor for number, factor in zip(numbers, factors, strict=True) if number is not None]
    if len(terms) < len(states):
        return _worst(deciding, None)
    value = _combine(point.operation, terms, negative)
    if point.valid is not None and not point.valid.contains(value):
        return dataclasses.replace(_worst(deciding, None), quality=Quality.UNAVAILABLE)
    return _worst(deciding, value)


def _combine(operation: Operation, terms: list[Fraction], negative: bool) -> Fraction:
    if operation is Operation.SUM:
        return sum(terms, Fraction(0))
    if operation is Operation.PRODUCT:
        product = Fraction(1)
        for term in terms:
            product *= term
        return product
    return -abs(terms[0]) if negative else abs(terms[0])


def _number(value: Value | None) -> Fraction | None:
    return None if isinstance(value, str) else value


def _worst(states: list[PointState], value: Value | None) -> PointState:
    """A state of the worst quality and greatest age among `states`, with `value`."""
    quality = max((state.quality for state in states), key=QUALITY_ORDER.index)
    if value is None and quality in (Quality.GOOD, Quality.STALE):
        quality = Quality.UNAVAILABLE
    times = [state.at for state in states if state.at is not None]
    no_value = value is None and all(state.no_value for state in states if state.value is None)
    return PointState(value, quality, min(times, default=None), no_value=no_value)
