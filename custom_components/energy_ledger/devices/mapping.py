"""A profile put onto one real device: SunSpec layouts discovered, points bound, detection points named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from .errors import DeviceError, IdentityMismatch, NotDetected
from .profile.model import Check, Profile, RegisterPoint, Role, Value
from .readings import AnyPoint, roles_of
from .sunspec.bind import bind, bind_check
from .sunspec.layout import Layout, discover
from .transport.base import ModbusUnit

# Polls until the next look for the map of a companion that was not there: doubled each time.
_FIRST_LOOK: Final = 1
_LONGEST_LOOK: Final = 320


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityCheck:
    """A check whose point has a name of its own and a register address."""

    point: RegisterPoint
    check: Check

    def failure(self, value: Value | None) -> str | None:
        """What is wrong with the value found, in plain words; None when it is right."""
        if self.check.test.accepts(value):
            return None
        found = "no value" if value is None else repr(value) if isinstance(value, str) else str(value)
        return f"register {self.point.address} holds {found}, expected {self.check.test}"


@dataclasses.dataclass(frozen=True, slots=True)
class BoundProfile:
    """A profile without SunSpec references. `missing`: names that this device does not have."""

    profile: Profile
    points: tuple[RegisterPoint, ...]
    identity: tuple[IdentityCheck, ...]
    missing: frozenset[str]
    layouts: Mapping[str | None, Layout]
    roles: Mapping[Role, tuple[AnyPoint, ...]]


class Mapper:
    """Finds the layouts of a device's units and binds the profile to them."""

    def __init__(self, profile: Profile, units: Mapping[str, ModbusUnit]) -> None:
        """`units` maps "" to the device's own unit and each companion's name to its unit."""
        self._profile = profile
        self._units = units
        self._absent: set[str] = set()
        self._pause = _FIRST_LOOK
        self._polls_left = 0

    @property
    def uses_sunspec(self) -> bool:
        """Whether the addresses depend on the device."""
        return self._profile.sunspec is not None

    async def bind(self) -> BoundProfile:
        """Discover and bind.

        Raises LinkError when the device does not answer, IdentityMismatch when it has no map, or one
        without the models that the profile needs.
        """
        where = self._profile.sunspec
        if where is None:
            return _bound(self._profile, frozenset(), {})
        try:
            layouts: dict[str | None, Layout] = {None: await discover(self._units[""], where)}
        except NotDetected as error:
            raise IdentityMismatch(f"{self._units[''].name}: {error}") from error
        lacking = layouts[None].missing(where.required)
        for name in self._companions():
            try:
                layouts[name] = await discover(self._units[name], where)
                self._absent.discard(name)
            except DeviceError:
                self._absent.add(name)
        self._polls_left = self._pause
        self._pause = min(2 * self._pause, _LONGEST_LOOK) if self._absent else _FIRST_LOOK
        if lacking:
            models = ", ".join("/".join(str(model) for model in group) for group in lacking)
            raise IdentityMismatch(
                f"{self._units[''].name} is no {self._profile.title}: its SunSpec map lacks model {models}"
            )
        binding = bind(self._profile, layouts)
        return _bound(binding.profile, frozenset(binding.missing), layouts)

    def _companions(self) -> list[str]:
        """Companions that hold SunSpec points and are set up."""
        named = {
            point.companion
            for point in (*self._profile.points.values(), *self._profile.settings.values())
            if point.companion is not None and not isinstance(point, RegisterPoint)
        }
        return sorted(name for name in named if name in self._units)

    def companion_due(self) -> bool:
        """Count one poll; whether a companion that was missing should be looked for again."""
        if not self._absent:
            return False
        self._polls_left -= 1
        return self._polls_left < 0


def _bound(profile: Profile, missing: frozenset[str], layouts: Mapping[str | None, Layout]) -> BoundProfile:
    points = tuple(point for point in profile.points.values() if isinstance(point, RegisterPoint))
    identity: list[IdentityCheck] = []
    # Without checks of its own, a device is known by what it was detected by.
    for number, check in enumerate(profile.identity or profile.detect, 1):
        bound = bind_check(check, layouts.get(check.point.companion))
        if bound is None or not isinstance(bound.point, RegisterPoint):
            continue
        named = dataclasses.replace(bound.point, name=f"identity#{number}")
        identity.append(IdentityCheck(named, bound))
    return BoundProfile(profile, points, tuple(identity), missing, layouts, roles_of(profile))
