"""The simulated street: its genesis, its homes, and who joins and registers what when."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ledger_core.community import Founder, Genesis
from ledger_core.keys import Signer, SoftwareSigner
from ledger_core.records.assets import Asset, CurveStep
from ledger_core.records.body import Body
from ledger_core.records.codec import Record, invite, open_envelope, record_prefix, sign_record
from ledger_core.records.members import Member
from ledger_core.records.types import AssetKind, Carrier, Location, Role
from ledger_core.synthetic.agenda import Agenda
from ledger_core.synthetic.chance import Chance
from ledger_core.synthetic.config import Config
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.tally import Tally
from ledger_core.synthetic.weather import DAY, Weather

HOUSEHOLD = int(Role.HOME | Role.NODE)
_LATITUDE, _LONGITUDE = 52_500_000, 13_400_000
_CELL = 1_000
"""Microdegrees to which a home's location is rounded: about 100 m."""


class Street:
    """What all parts of the simulation share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.slot_s = config.slot_s
        self.chance = Chance(b"energy-ledger/synthetic/" + config.seed.to_bytes(8))
        weather = Weather(self.chance.child("weather"))
        self.homes = [Home(index, self.chance.child("home", index), weather) for index in range(config.homes)]
        founders = self.homes[: -(-config.homes // 2)]
        self.genesis = Genesis(
            f"Synthetic street of {config.homes} homes, seed {config.seed}",
            "EUR",
            config.start,
            config.parameters(),
            tuple(_founder(home) for home in founders),
        )
        self.chain_id = self.genesis.chain_id
        self.prefix = record_prefix(self.chain_id)
        self.by_id = {home.id: home for home in self.homes}
        self.by_node = {home.node.public_key: home for home in self.homes}
        self.live: list[Home] = []
        """Homes with a meter that runs."""
        self.agenda: Agenda[Desk] = Agenda()
        self.tally = Tally()

    def record(
        self,
        desk: Desk,
        home: Home,
        kind: type[Body],
        /,
        *cosigners: Signer,
        by: Signer | None = None,
        **fields: Any,
    ) -> Record:
        """Return a record that a home signs now, with its own key or another of its keys."""
        signer = home.key if by is None else by
        body = kind(author=signer.public_key, created=desk.now, nonce=home.chance.octets(8), **fields)
        return open_envelope(sign_record(body, self.chain_id, signer, cosigners), self.prefix)

    def boundary_after(self, time: int) -> int:
        """Return the first slot boundary at or after a time."""
        return -(-time // self.slot_s) * self.slot_s


def _founder(home: Home) -> Founder:
    roles = HOUSEHOLD | (Role.AUTHORITY | Role.OPERATOR if home.index == 0 else 0)
    return Founder(home.id, int(roles), home.node.public_key, home.name_hash, _location(home, 0))


def _location(home: Home, moved: int) -> Location:
    return Location(_LATITUDE + home.index // 10 * _CELL, _LONGITUDE + (home.index % 10 + moved) * _CELL)


class Admissions:
    """Founders register their devices; the other homes join one after the other, and do the same."""

    def __init__(self, street: Street, on_live: Callable[[Home, int], None]) -> None:
        self._street = street
        self._on_live = on_live
        config = street.config
        founders = len(street.genesis.founders)
        joiners = street.homes[founders:]
        span = min(config.duration_s // 4, 6 * 3600)
        for home in street.homes[:founders]:
            street.agenda.at(config.start + 1 + home.index % 10, partial(self._register, home))
        for place, home in enumerate(joiners):
            when = config.start + config.spacing_s + span * place // len(joiners)
            street.agenda.at(when, partial(self._join, home))

    def _join(self, home: Home, desk: Desk) -> None:
        """Be admitted, with an invitation or (each fourth) with an authority's co-signature."""
        street = self._street
        authority = street.homes[0]
        fields: dict[str, Any] = {
            "member": home.id,
            "roles": HOUSEHOLD,
            "node": home.node.public_key,
            "name_hash": home.name_hash,
            "location": _location(home, 0),
            "invitation": None,
        }
        cosigner: Signer = authority.key
        if home.index % 4:
            cosigner = SoftwareSigner(home.chance.octets(32))
            fields["invitation"] = invite(
                street.chain_id, authority.key, cosigner.public_key, HOUSEHOLD, desk.now + DAY
            )
        desk.submit(street.record(desk, home, Member, cosigner, **fields))
        street.agenda.at(desk.now + street.config.spacing_s, partial(self._register, home))

    def _register(self, home: Home, desk: Desk) -> None:
        """Register the meter and what is behind it; from the next slot boundary on the meter counts."""
        street = self._street
        self._asset(
            home,
            desk,
            asset=home.meter,
            kind=AssetKind.METER,
            rating_w=home.connection_w,
            meter=None,
            meter_key=home.meter_key.public_key,
            location=_location(home, 0),
        )
        self._asset(home, desk, asset=home.load, kind=AssetKind.LOAD, rating_w=home.connection_w)
        if home.pv is not None:
            self._asset(home, desk, asset=home.pv, kind=AssetKind.PV, rating_w=home.pv_w)
        for store in home.stores:
            self._asset(
                home,
                desk,
                asset=store.asset,
                kind=store.kind,
                rating_w=store.rating_w,
                energy_wh=store.energy_wh,
                capacity_wh=store.capacity_wh,
            )
        street.live.append(home)
        home.since = street.boundary_after(desk.time)
        self._on_live(home, home.since)
        day = street.config.start + home.index % 7 * DAY
        street.agenda.at(max(day + 11 * 3600 + home.index, desk.now + 1), partial(self._announce, home))
        street.agenda.at(max(day + 12 * 3600 + home.index, desk.now + 1), partial(self._move, home))

    def _asset(self, home: Home, desk: Desk, **fields: Any) -> bool:
        values: dict[str, Any] = {
            "carrier": Carrier.ELECTRICITY,
            "curve": (),
            "energy_wh": None,
            "capacity_wh": None,
            "meter": home.meter,
            "meter_key": None,
            "location": None,
            "supersedes": None,
        }
        return desk.submit(self._street.record(desk, home, Asset, **{**values, **fields}))

    def _announce(self, home: Home, desk: Desk) -> None:
        """Announce that half of the solar generator rests for a while tomorrow; again in four weeks."""
        street = self._street
        known = desk.state.assets.get(home.pv) if home.pv is not None else None
        if known is not None:
            slot = street.slot_s
            first = street.boundary_after(desk.now + DAY)
            steps = [(first, home.pv_w // 2), (first + 8 * slot, home.pv_w)]
            if self._asset(
                home,
                desk,
                asset=home.pv,
                kind=AssetKind.PV,
                rating_w=home.pv_w,
                curve=tuple(CurveStep(*step) for step in steps),
                supersedes=known.record,
            ):
                home.pv_steps = steps
        street.agenda.at(desk.now + 28 * DAY, partial(self._announce, home))

    def _move(self, home: Home, desk: Desk) -> None:
        """State the home's location anew."""
        known = desk.state.members.get(home.id)
        if known is not None and home.index % 3 == 0:
            desk.submit(
                self._street.record(
                    desk,
                    home,
                    Member,
                    member=home.id,
                    roles=known.roles,
                    node=known.node,
                    name_hash=known.name_hash,
                    location=_location(home, 1),
                    invitation=None,
                )
            )
