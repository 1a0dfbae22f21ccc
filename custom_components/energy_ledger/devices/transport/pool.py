"""Which links are open: devices behind one endpoint share one link, and no two the same unit id."""

from __future__ import annotations

import dataclasses

from ..errors import SettingsError
from .base import LinkKind, LinkSettings, check_unit_id
from .link import Link, LinkUnit


@dataclasses.dataclass(slots=True)
class _Shared:
    """A link and who uses which unit of it."""

    link: Link
    owners: dict[int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """One owner's right to use units of a link; give it back with `LinkPool.release`."""

    link: Link
    unit: LinkUnit
    owner: str


class LinkPool:
    """All links of one program, by endpoint."""

    def __init__(self) -> None:
        """Start without links."""
        self._shared: dict[str, _Shared] = {}

    def hold(
        self, settings: LinkSettings, unit_id: int, owner: str, *, timeout_s: float | None = None
    ) -> Hold:
        """Take a unit of the link that `settings` describe; the link is made with its first holder.

        Raises `SettingsError` when another owner has that unit, or when the endpoint is already open in
        another way (for instance with another baud rate).
        """
        check_unit_id(unit_id)
        shared = self._shared.get(settings.endpoint)
        if shared is None:
            shared = _Shared(Link(settings), {})
        else:
            _check_same_line(shared.link.settings, settings)
            if shared.owners.get(unit_id, owner) != owner:
                raise SettingsError(
                    f"unit {unit_id} at {settings.endpoint} is already set up as {shared.owners[unit_id]}; "
                    "each device needs a unit id of its own"
                )
            shared.link.require(spacing_s=settings.spacing_s, connect_delay_s=settings.connect_delay_s)
        self._shared[settings.endpoint] = shared
        shared.owners[unit_id] = owner
        return Hold(shared.link, shared.link.unit(unit_id, timeout_s=timeout_s or settings.timeout_s), owner)

    def open_link(self, endpoint: str) -> Link | None:
        """The link that is open to an endpoint: a device that takes one client can be asked over no other."""
        shared = self._shared.get(endpoint)
        return None if shared is None else shared.link

    async def release(self, hold: Hold) -> None:
        """Give a unit back; the link is closed with its last holder."""
        endpoint = hold.link.settings.endpoint
        shared = self._shared.get(endpoint)
        if shared is None or shared.link is not hold.link:
            return
        if shared.owners.get(hold.unit.unit_id) == hold.owner:
            del shared.owners[hold.unit.unit_id]
        if not shared.owners:
            del self._shared[endpoint]
            await shared.link.close()

    async def close(self) -> None:
        """Close every link."""
        shared, self._shared = self._shared, {}
        for entry in shared.values():
            await entry.link.close()


def _check_same_line(known: LinkSettings, wanted: LinkSettings) -> None:
    """Raise `SettingsError` when one physical link would have to be opened in two ways."""
    names = ["kind"]
    if known.kind is LinkKind.SERIAL:
        names += ["baudrate", "bytesize", "parity", "stopbits"]
    for name in names:
        old, new = getattr(known, name), getattr(wanted, name)
        if old != new:
            raise SettingsError(
                f"{known.endpoint} is already open with {name} {old}, so {name} {new} can't be right: "
                "devices on one link must agree"
            )
