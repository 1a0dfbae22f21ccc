"""The table of refusals: members, invitations, assets, readings."""

from typing import Any

from ledger_core.community import MAX_MEMBERS, AssetApproval
from ledger_core.keys import SoftwareSigner
from ledger_core.records.assets import Asset, CurveStep
from ledger_core.records.codec import Record, invite
from ledger_core.records.members import Invitation
from ledger_core.records.readings import Quality, Reading, ReadingRow, Stored
from ledger_core.records.types import AssetKind, Carrier, Role
from ledger_core.rules.rows import MemberRow
from tests.core.actions import SLOT, WINDOW, agree, battery, member, street
from tests.core.forge import Attempt, by_field, case, forge
from tests.core.samples import digest
from tests.core.world import HOUSEHOLD, START, World, asset_id, signer

DORA = signer("dora")
TICKET = signer("dora ticket")
HOME = int(Role.HOME)


def admission(world: World, *, roles: int = HOME, node: bytes | None = None) -> Record:
    return member(world, world["anna"].key, DORA.public_key, DORA, roles=roles, node=node)


by_field("roles_missing", street, admission, roles=0)
by_field("node_key_missing", street, admission, roles=HOUSEHOLD)
by_field("key_invalid", street, admission, node=bytes(32))
by_field("node_key_taken", street, admission, node=lambda world: world["bert"].node.public_key)


@case("member_signature_missing")
def _() -> Attempt:
    world = street()
    bad = member(world, world["anna"].key, DORA.public_key, roles=HOME)
    return Attempt(world, admission(world), bad)


@case("authority_missing")
def _() -> Attempt:
    world = street()
    good = member(world, DORA, DORA.public_key, world["anna"].key, roles=HOME)
    return Attempt(world, good, member(world, DORA, DORA.public_key, world["bert"].key, roles=HOME))


@case("authority_missing")
def _() -> Attempt:
    """A member changes its own node key, but not its own roles."""
    world = street()
    bert = world["bert"]
    node = bert.node.public_key
    good = member(world, bert.key, bert.id, roles=HOUSEHOLD, node=node)
    return Attempt(world, good, member(world, bert.key, bert.id, roles=HOUSEHOLD | Role.AUTHORITY, node=node))


@case("last_authority")
def _() -> Attempt:
    world = street()
    anna = world["anna"]
    node = anna.node.public_key
    good = member(world, anna.key, anna.id, roles=HOUSEHOLD | Role.AUTHORITY, node=node)
    return Attempt(world, good, member(world, anna.key, anna.id, roles=HOUSEHOLD, node=node))


@case("last_node")
def _() -> Attempt:
    world = street()
    anna = world["anna"]
    for name in ("bert", "cara"):
        world.mine(member(world, anna.key, world[name].id, roles=HOME))
    node, roles = anna.node.public_key, HOUSEHOLD | Role.AUTHORITY
    good = member(world, anna.key, anna.id, roles=roles, node=node)
    return Attempt(world, good, member(world, anna.key, anna.id, roles=HOME | Role.AUTHORITY, node=node))


@case("members_full")
def _() -> Attempt:
    """A known member may still change; a newcomer finds no seat."""
    world = street()
    while len(world.state.members) < MAX_MEMBERS:
        index = len(world.state.members)
        world.state.members[index.to_bytes(32)] = MemberRow(index, HOME, None, digest("name"), None)
    world.state.members.touch()
    known = member(world, world["anna"].key, world["bert"].id, DORA, roles=HOME)
    return Attempt(world, forge(world, [known]), forge(world, [admission(world)]))


def ticket(world: World, **changes: Any) -> Invitation:
    fields = {
        "authority": world["anna"].key,
        "key": TICKET.public_key,
        "roles": HOME,
        "expires": world.now + 600,
    }
    return invite(world.chain_id, **{**fields, **changes})


def joining(world: World, *cosigners: SoftwareSigner, **fields: Any) -> Record:
    values = {"roles": HOME, "invitation": ticket(world), **fields}
    return member(world, DORA, DORA.public_key, *(cosigners or (TICKET,)), **values)


def invited(world: World, **fields: Any) -> Record:
    return joining(world, **fields)


def forged_ticket(world: World) -> Invitation:
    good = ticket(world)
    return Invitation(good.authority, good.key, HOUSEHOLD, good.expires, good.signature)


by_field("invitation_forged", street, invited, invitation=forged_ticket)
by_field(
    "invitation_forged",
    street,
    invited,
    invitation=lambda world: invite(
        digest("another chain"), world["anna"].key, TICKET.public_key, HOME, world.now + 600
    ),
)
by_field("invitation_roles", street, invited, roles=HOME | Role.OPERATOR)
by_field("invitation_expired", street, invited, invitation=lambda world: ticket(world, expires=world.now - 1))
by_field(
    "invitation_unproven", street, invited, invitation=lambda world: ticket(world, key=digest("other key"))
)
by_field("role_missing", street, invited, invitation=lambda world: ticket(world, authority=world["bert"].key))
by_field("member_unknown", street, invited, invitation=lambda world: ticket(world, authority=signer("zoe")))


@case("invitation_unproven")
def _() -> Attempt:
    world = street()
    return Attempt(world, joining(world), joining(world, signer("somebody")))


@case("invitation_used")
def _() -> Attempt:
    world = street()
    world.mine(joining(world))
    emil = signer("emil")
    fresh = signer("emil ticket")
    good = member(
        world,
        emil,
        emil.public_key,
        fresh,
        TICKET,
        roles=HOME,
        invitation=ticket(world, key=fresh.public_key),
    )
    return Attempt(
        world, good, member(world, emil, emil.public_key, fresh, TICKET, roles=HOME, invitation=ticket(world))
    )


@case("member_known")
def _() -> Attempt:
    world = street()
    bert = world["bert"]
    fields: dict[str, Any] = {"roles": HOUSEHOLD, "node": bert.node.public_key}
    good = member(world, bert.key, bert.id, TICKET, **fields)
    return Attempt(world, good, member(world, bert.key, bert.id, TICKET, invitation=ticket(world), **fields))


# Assets


def pv(world: World, **fields: Any) -> Record:
    return world.asset_record("bert", **fields)


def update(world: World, **fields: Any) -> Record:
    known = world.state.assets[asset_id("anna pv")].record
    return world.asset_record("anna", **{"supersedes": known, **fields})


by_field("asset_unknown", street, pv, supersedes=digest("nothing"))
by_field("asset_superseded", street, update, supersedes=digest("older"))
by_field("asset_superseded", street, update, supersedes=None)
by_field("asset_kind_changed", street, update, kind=AssetKind.WIND)
by_field("asset_meter_fields", street, pv, meter=None)
by_field("asset_meter_fields", street, pv, meter_key=signer("key").public_key)
by_field("asset_not_a_store", street, pv, energy_wh=1)
by_field("asset_not_a_store", street, pv, capacity_wh=1)
by_field("asset_curve_invalid", street, pv, curve=(CurveStep(WINDOW, 10_001),))
by_field("slot_misaligned", street, pv, curve=(CurveStep(WINDOW + 1, 1),))
by_field("meter_unknown", street, pv, meter=asset_id("nothing"))
by_field("meter_unknown", street, pv, meter=asset_id("anna pv"))
by_field("meter_not_own", street, pv, meter=asset_id("anna meter"))
by_field("meter_carrier", street, pv, carrier=Carrier.HEAT)


def new_battery(world: World, **fields: Any) -> Record:
    values = {"kind": AssetKind.BATTERY, "capacity_wh": 10_000, "energy_wh": 10_000, **fields}
    return world.asset_record("bert", "battery", **values)


by_field("asset_capacity_missing", street, new_battery, capacity_wh=None)
by_field("asset_energy_above_capacity", street, new_battery, energy_wh=10_001)


def second_meter(world: World, **fields: Any) -> Record:
    values = {"asset": asset_id("second"), "meter_key": signer("second key").public_key, **fields}
    return world.meter_record("bert", **values)


by_field("key_invalid", street, second_meter, meter_key=bytes(32))
by_field("meter_key_taken", street, second_meter, meter_key=lambda world: world["anna"].meter_key.public_key)


def booked() -> World:
    world = street()
    agree(world)
    other = world.meter_record("anna", asset=asset_id("other"), meter_key=signer("other key").public_key)
    world.mine(other)
    return world


by_field("asset_booked", booked, update, meter=asset_id("other"))
by_field("rating_below_booked", booked, update, rating_w=3_999)


def meter_update(world: World, author: str = "anna") -> Record:
    """Anna's meter as its record says, by its owner or by one who takes it over."""
    meter = world.state.assets[world["anna"].meter]
    fields = {name: getattr(meter, name) for name in ("kind", "carrier", "rating_w", "curve", "meter_key")}
    owner, other = world["anna"].key, world["bert"].key
    cosigner = other if author == "anna" else owner
    return world.make(
        Asset,
        world[author].key,
        cosigner,
        asset=world["anna"].meter,
        **fields,
        energy_wh=None,
        capacity_wh=None,
        meter=None,
        location=None,
        supersedes=meter.record,
    )


by_field("meter_in_use", street, meter_update, author="bert")


@case("not_owner")
def _() -> Attempt:
    """A change of hands that the old owner did not sign."""
    world = street()
    known = world.state.assets[asset_id("anna pv")]
    fields = {
        "asset": asset_id("anna pv"),
        "kind": known.kind,
        "carrier": known.carrier,
        "rating_w": 1,
        "curve": (),
        "energy_wh": None,
        "capacity_wh": None,
        "meter": world["bert"].meter,
        "meter_key": None,
        "location": None,
        "supersedes": known.record,
    }
    bert = world["bert"].key
    return Attempt(
        world,
        world.make(Asset, bert, world["anna"].key, **fields),
        world.make(Asset, bert, world["cara"].key, **fields),
    )


@case("authority_missing")
def _() -> Attempt:
    approving = street(("anna",), asset_approval=AssetApproval.AUTHORITY)
    approving.mine(member(approving, approving["anna"].key, DORA.public_key, DORA, roles=HOME))
    fields = {
        "asset": asset_id("dora meter"),
        "kind": AssetKind.METER,
        "carrier": Carrier.ELECTRICITY,
        "rating_w": 1,
        "curve": (),
        "energy_wh": None,
        "capacity_wh": None,
        "meter": None,
        "meter_key": DORA.public_key,
        "location": None,
        "supersedes": None,
    }
    return Attempt(
        approving,
        approving.make(Asset, DORA, approving["anna"].key, **fields),
        approving.make(Asset, DORA, **fields),
    )


# Readings


def read() -> World:
    world = street()
    battery(world)
    world.now = START + SLOT
    world.mine(world.reading("anna", [(START, 1_000, 2_000)]))
    return world


def rows(*values: tuple[int, int, int]) -> tuple[ReadingRow, ...]:
    return tuple(ReadingRow(*row, Quality.MEASURED) for row in values)


def reading(world: World, author: str = "anna", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "meter": asset_id("anna meter"),
        "rows": rows((START + SLOT, 1_100, 2_200)),
        "stored": (Stored(asset_id("anna battery"), 5_000, None),),
    }
    return world.make(Reading, world[author].meter_key, **{**values, **fields})


def bare_reading(world: World, **fields: Any) -> Record:
    return reading(world, **{"stored": (), **fields})


by_field("meter_unknown", read, bare_reading, meter=asset_id("nothing"))
by_field("meter_unknown", read, bare_reading, meter=asset_id("anna pv"))
by_field("meter_key_wrong", read, reading, author="bert")
by_field("meter_key_wrong", read, bare_reading, meter=asset_id("bert meter"))
by_field("slot_misaligned", read, reading, rows=rows((START + SLOT - 1, 1_100, 2_200)))
by_field(
    "rows_unordered", read, reading, rows=rows((START + SLOT, 1_100, 2_200), (START + SLOT, 1_100, 2_200))
)
by_field("rows_unordered", read, reading, rows=rows((START + SLOT, 1_100, 2_200), (START, 1_000, 2_000)))
by_field("reading_early", read, reading, created=START + SLOT - 1)
by_field("reading_conflict", read, reading, rows=rows((START, 1_000, 2_001)))
by_field("reading_conflict", read, reading, rows=rows((START, 1_001, 2_000), (START + SLOT, 1_100, 2_200)))
by_field("register_backwards", read, reading, rows=rows((START + SLOT, 999, 2_200)))
by_field("register_backwards", read, reading, rows=rows((START + SLOT, 1_100, 1_999)))
by_field("register_backwards", read, reading, rows=rows((START - SLOT, 1_001, 2_000)))
by_field("register_jump", read, reading, rows=rows((START + SLOT, 1_000 + 6_271, 2_200)))
by_field("register_jump", read, reading, rows=rows((START + SLOT, 1_100, 2_000 + 6_271)))
by_field("stored_unordered", read, reading, stored=(Stored(asset_id("anna battery"), 1, None),) * 2)
by_field("stored_not_behind_meter", read, reading, stored=(Stored(asset_id("nothing"), 1, None),))
by_field("asset_not_a_store", read, reading, stored=(Stored(asset_id("anna pv"), 1, None),))
by_field(
    "asset_energy_above_capacity", read, reading, stored=(Stored(asset_id("anna battery"), 20_001, None),)
)
