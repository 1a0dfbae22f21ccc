"""SunSpec points of a profile, put at the addresses where a device has them.

`bind` turns a profile whose points are named by model and point into one whose points have addresses, for
one discovered layout. It also adds identity checks: the header of every model that is used is read and
compared in each poll, so that a map that has shifted is noticed before a value at the wrong place is
believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..profile.model import (
    PLACEHOLDERS,
    Check,
    DerivedPoint,
    Function,
    Meaning,
    Missing,
    Operand,
    Operation,
    Profile,
    RegisterPoint,
    SettingStep,
    SunSpecPoint,
    Test,
    Unit,
    ValueType,
    WriteAccess,
    amounts,
)
from .definition import GroupDefinition, PointDefinition, model_definition
from .layout import MARKER, Layout, ModelInstance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..profile.model import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A profile bound to a layout, and the names of points and settings that this device does not have."""

    profile: Profile
    missing: tuple[str, ...]


@dataclass(slots=True)
class _Work:
    """What is collected while binding."""

    layouts: Mapping[str | None, Layout]
    points: dict[str, RegisterPoint | SunSpecPoint] = field(default_factory=dict)
    derived: dict[str, DerivedPoint] = field(default_factory=dict)
    settings: dict[str, RegisterPoint | SunSpecPoint] = field(default_factory=dict)
    used: dict[tuple[str | None, int], ModelInstance] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def bind(profile: Profile, layouts: Mapping[str | None, Layout]) -> Binding:
    """Give every SunSpec point of `profile` its address.

    `layouts` maps the companion's name (None: the device itself) to its layout. Points whose model the
    device lacks are left out and named in `missing`, with the derived points that can't do without them;
    commands that need them are left out as well.
    """
    work = _Work(layouts)
    for point in profile.points.values():
        _bind_point(work, point)
    for setting in profile.settings.values():
        if isinstance(setting, RegisterPoint):
            work.settings[setting.name] = setting
            continue
        places = _places(work, setting)
        if places and places[0].write is not None:
            work.settings[setting.name] = replace(places[0], name=setting.name)
        else:
            work.missing.append(setting.name)
    _keep_derived(work, profile)
    commands = {name: command for name, command in profile.commands.items() if _possible(command, work)}
    bound = replace(
        profile,
        points=MappingProxyType(work.points),
        derived=MappingProxyType(work.derived),
        settings=MappingProxyType(work.settings),
        commands=MappingProxyType(commands),
        identity=(*_bound_checks(work, profile), *_header_checks(work)),
    )
    return Binding(profile=bound, missing=tuple(work.missing))


def bind_check(check: Check, layout: Layout | None) -> Check | None:
    """Give a check's SunSpec point its address; None when the device does not have it."""
    if isinstance(check.point, RegisterPoint):
        return check
    if layout is None:
        return None
    places = _places(_Work({check.point.companion: layout}), check.point)
    return Check(point=places[0], test=check.test) if places else None


def _bind_point(work: _Work, point: RegisterPoint | SunSpecPoint) -> None:
    if isinstance(point, RegisterPoint):
        work.points[point.name] = point
        return
    places = _places(work, point)
    if not places:
        work.missing.append(point.name)
    elif len(places) == 1:
        work.points[point.name] = replace(places[0], name=point.name)
    else:
        names = [f"{point.name}_{n}" for n in range(1, len(places) + 1)]
        for name, place in zip(names, places, strict=True):
            work.points[name] = replace(place, name=name, role=None, valid=None)
        work.derived[point.name] = DerivedPoint(
            name=point.name,
            role=point.role,
            unit=places[0].unit,
            positive=point.positive,
            valid=point.valid,
            poll=point.poll,
            optional=point.optional,
            also=point.also,
            note=point.note,
            operation=Operation.SUM,
            operands=tuple(Operand(point=name) for name in names),
            missing=Missing.SKIP,
        )


def _places(work: _Work, point: SunSpecPoint) -> list[RegisterPoint]:
    """Every place that a SunSpec point names, as register points; none when the device lacks it."""
    layout = work.layouts.get(point.companion)
    reference = point.reference
    model = layout.find(reference.models, reference.instance) if layout else None
    if layout is None or model is None:
        return []
    definition = model_definition(model.id)
    if definition is None:
        return []
    found: list[RegisterPoint] = []
    for group, start in _groups(model, reference.module):
        place = group.points.get(reference.point)
        if place is not None and start + place.offset + place.length <= model.end:
            register = _register(layout, model, start, place)
            if register is not None:
                found.append(_dressed(register, point))
                if reference.module is None:
                    break  # a name that stands in several groups means the first
    if found:
        work.used[point.companion, model.address] = model
    return found


def _groups(model: ModelInstance, module: str | None) -> Iterator[tuple[GroupDefinition, int]]:
    """Groups of a model that a reference may mean, with the address of each."""
    definition = model_definition(model.id)
    if definition is None:
        return
    if module is None:
        start = model.address
        for group in (definition.fixed, *definition.once):
            yield group, start
            start += group.length
    elif definition.repeating is not None:
        group = definition.repeating
        for n in model.matching_modules(module):
            yield group, model.address + definition.fixed_length + n * group.length


def _register(
    layout: Layout, model: ModelInstance, start: int, place: PointDefinition
) -> RegisterPoint | None:
    """Make a register point; None when its scale factor lies beyond the model's end."""
    definition = model_definition(model.id)
    scale_register = None
    if place.scale_point is not None and definition is not None:
        scale = definition.fixed.points[place.scale_point]
        scale_register = model.address + scale.offset
        if scale_register >= model.end:
            return None
    address = start + place.offset
    write = WriteAccess(function=Function.WRITE_MULTIPLE, address=address) if place.writable else None
    return RegisterPoint(
        name=place.name,
        unit=place.unit,
        function=layout.function,
        address=address,
        type=place.type,
        length=place.length,
        meaning=place.meaning,
        scale_register=scale_register,
        nan=frozenset() if place.nan is None else frozenset({place.nan}),
        labels=place.labels,
        write=write,
    )


def _dressed(register: RegisterPoint, point: SunSpecPoint) -> RegisterPoint:
    """Add what the profile says about the point; its unit wins over the model's."""
    return replace(
        register,
        role=point.role,
        unit=point.unit if point.unit is not Unit.NONE else register.unit,
        positive=point.positive,
        valid=point.valid,
        poll=point.poll,
        companion=point.companion,
        optional=point.optional,
        also=point.also,
        note=point.note,
    )


def _keep_derived(work: _Work, profile: Profile) -> None:
    """Keep the derived points that can still be computed; leave out operands that may be missing."""
    kept = dict(profile.derived)
    while True:
        known = {*work.points, *work.derived, *work.settings, *kept}
        lost = [name for name, derived in kept.items() if not _computable(derived, known)]
        if not lost:
            break
        for name in lost:
            del kept[name]
            work.missing.append(name)
    for name, derived in kept.items():
        operands = tuple(operand for operand in derived.operands if operand.point in known)
        work.derived[name] = replace(derived, operands=operands)


def _computable(derived: DerivedPoint, known: set[str]) -> bool:
    there = [operand.point in known for operand in derived.operands]
    if derived.negative_when is not None and derived.negative_when.point not in known:
        return False
    return any(there) if derived.missing is Missing.SKIP else all(there)


def _possible(command: Command, work: _Work) -> bool:
    """Whether the device has everything that the command writes or computes with."""
    known = {*work.points, *work.derived, *work.settings, *PLACEHOLDERS}
    needed: set[str] = {condition.point for condition in command.preconditions}
    for bound in (command.power_minimum, command.power_maximum):
        if isinstance(bound, str):
            needed.add(bound)
    for step in (*command.steps, *command.release):
        if isinstance(step, SettingStep):
            needed.add(step.setting)
        for amount in amounts(step):
            needed |= amount.needs()
    return needed <= known


def _bound_checks(work: _Work, profile: Profile) -> Iterator[Check]:
    for check in profile.identity:
        bound = bind_check(check, work.layouts.get(check.point.companion))
        if bound is not None:
            yield bound


def _header_checks(work: _Work) -> Iterator[Check]:
    """The marker and every model header that is used must still be where they were found."""
    for companion, layout in work.layouts.items():
        models = [model for (owner, _), model in work.used.items() if owner == companion]
        if not models:
            continue
        for address, first, second in (
            (layout.base, *MARKER),
            *((model.address, model.id, model.length) for model in models),
        ):
            point = RegisterPoint(
                name=f"sunspec_header_{address}",
                companion=companion,
                function=layout.function,
                address=address,
                type=ValueType.U32,
                length=2,
                meaning=Meaning.NUMBER,
            )
            yield Check(point=point, test=Test(equals=(Fraction(first << 16 | second),)))
