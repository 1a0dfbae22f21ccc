"""`energy-ledger assets`, `asset`, `reading`: what a home has, and what its meter counted."""

import argparse
import time
from typing import Final

from ledger_core.cli.connection import (
    act,
    add_key,
    add_member,
    add_node,
    add_wait,
    ask,
    member_of,
    plain,
    settled,
    signer_of,
    told,
    whole_id,
)
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.offer_commands import CARRIERS, require_slot
from ledger_core.cli.output import show
from ledger_core.cli.quantities import energy, moment, power, show_energy, show_id, show_power
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.bodies import AssetTerms
from ledger_core.client.changes import AssetChanges
from ledger_core.client.home import Home
from ledger_core.client.views import AssetsQuery, AssetView
from ledger_core.errors import LedgerError
from ledger_core.records.readings import Quality, ReadingRow
from ledger_core.records.types import AssetKind, Carrier

KINDS: Final = [kind.value for kind in AssetKind]


def register(program: Program) -> None:
    """Add the commands to the program."""
    assets = program.single().command("assets", _assets, "list what supplies, stores and measures", json=True)
    whose = assets.add_mutually_exclusive_group()
    add_member(whose, "whose assets")
    whose.add_argument("--all", action="store_true", help="everybody's")
    add_node(assets)

    asset = program.single().command("asset", _asset, "register an asset, change or retire one", json=True)
    which = asset.add_mutually_exclusive_group(required=True)
    which.add_argument("--kind", choices=KINDS, help="register a new one")
    which.add_argument("--change", metavar="ID", help="change this one")
    which.add_argument("--retire", metavar="ID", help="retire this one; its trades must have ended")
    asset.add_argument("--rating", metavar="KW", help="rated power; of a meter: of the grid connection")
    asset.add_argument("--carrier", choices=CARRIERS, default="electricity", help="(otherwise electricity)")
    asset.add_argument("--meter", metavar="ID", help="the meter it settles through, where there are several")
    asset.add_argument("--meter-key", metavar="KEY", help="of a meter: the key that signs its readings")
    asset.add_argument("--capacity", metavar="KWH", help="of a store: what it can hold")
    asset.add_argument("--content", metavar="KWH", help="of a store: what it holds now")
    for add in (add_key, add_wait, add_node):
        add(asset)

    reading = program.single().command("reading", _reading, "hand in a meter's registers", json=True)
    reading.add_argument("--import", dest="imported", metavar="KWH", required=True, help="taken so far")
    reading.add_argument("--export", dest="exported", metavar="KWH", required=True, help="given so far")
    reading.add_argument("--at", metavar="TIME", help="a slot boundary (otherwise the last one)")
    add_key(reading, "the meter")
    for add in (add_wait, add_node):
        add(reading)


def _assets(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        owner = None if arguments.all else await member_of(client, arguments.member)
        assets = await client.all_assets(AssetsQuery(owner=owner, limit=500))
        show(arguments, {"items": plain(assets)}, _table(assets))

    ask(arguments, work)


def _table(assets: list[AssetView]) -> list[str]:
    return columns(
        ("id", "kind", "carrier", "rating", "holds", "of", "agreed", "meter"),
        [
            (
                show_id(each.asset),
                each.kind,
                each.carrier,
                show_power(each.rating_w) if each.rating_w else "retired",
                show_energy(each.energy_wh),
                show_energy(each.capacity_wh),
                show_energy(each.outstanding_wh),
                "-" if each.meter is None else show_id(each.meter),
            )
            for each in assets
        ],
        "no assets",
    )


def _asset(arguments: argparse.Namespace) -> None:
    changes: AssetChanges = {}
    if arguments.rating is not None:
        changes["rating_w"] = power(arguments.rating, "--rating")
    if arguments.capacity is not None:
        changes["capacity_wh"] = energy(arguments.capacity, "--capacity")
    if arguments.content is not None:
        changes["energy_wh"] = energy(arguments.content, "--content")
    if arguments.meter_key is not None:
        changes["meter_key"] = public_key_of(arguments.meter_key)
    if arguments.kind is not None and arguments.rating is None:
        raise UsageError("a new asset needs --rating KW")
    changing = bool(changes) or arguments.meter is not None
    if arguments.change is not None and not changing:
        raise UsageError(
            "--change: say what changes, by --rating, --meter, --meter-key, --capacity or --content"
        )
    if arguments.retire is not None and changing:
        raise UsageError("--retire changes nothing else of the asset: leave out what is given besides")

    async def work(home: Home) -> None:
        own = await home.client.all_assets(AssetsQuery(owner=home.address, limit=500))
        known = [each.asset for each in own]
        if arguments.meter is not None:
            changes["meter"] = bytes.fromhex(whole_id(arguments.meter, known, "meter of this member"))
        if arguments.retire is not None:
            asset = whole_id(arguments.retire, known, "asset of this member")
            record = await home.retire_asset(asset)
        elif arguments.change is not None:
            asset = whole_id(arguments.change, known, "asset of this member")
            record = await home.update_asset(asset, **changes)
        else:
            terms = _new(home, arguments, changes, own)
            asset, record = terms.asset.hex(), await home.register_asset(terms)
        result = await settled(arguments, home.client, record)
        show(arguments, {**result, "asset": asset}, [told(result, f"asset {asset}")])

    act(arguments, work)


def _new(
    home: Home, arguments: argparse.Namespace, changes: AssetChanges, own: list[AssetView]
) -> AssetTerms:
    kind = AssetKind(arguments.kind)
    if kind is AssetKind.METER:
        if "meter_key" not in changes:
            raise UsageError("a meter needs --meter-key KEY: energy-ledger keys new makes one")
    elif "meter" not in changes:
        changes["meter"] = bytes.fromhex(_only_meter(own, arguments.carrier))
    return AssetTerms(asset=home.new_asset_id(), kind=kind, carrier=Carrier(arguments.carrier), **changes)


def _only_meter(own: list[AssetView], carrier: str) -> str:
    meters = [each.asset for each in own if (each.kind, each.carrier) == ("meter", carrier) and each.rating_w]
    if len(meters) != 1:
        names = ", ".join(map(show_id, meters)) or "none"
        raise LedgerError(
            "meter_needed", f"name the meter with --meter ID; {carrier} meters of this member: {names}"
        )
    return meters[0]


def _reading(arguments: argparse.Namespace) -> None:
    imported, exported = energy(arguments.imported, "--import"), energy(arguments.exported, "--export")
    at = None if arguments.at is None else moment(arguments.at, "--at")

    signer = signer_of(arguments)

    async def work(client: NodeClient) -> None:
        home = Home(client, signer)
        slot, now = await home.slot_s(), int(time.time())
        end = now - now % slot if at is None else at
        require_slot(end, slot, "--at")
        meters = [each for each in await home.client.all_assets() if each.meter_key == home.key.hex()]
        if not meters:
            raise LedgerError("meter_unknown", "no meter of the community has this key")
        row = ReadingRow(end, imported, exported, Quality.MEASURED)
        record = await home.reading(signer, meters[0].asset, [row])
        result = await settled(arguments, home.client, record)
        what = f"reading of meter {show_id(meters[0].asset)}"
        show(arguments, {**result, "meter": meters[0].asset, "end": end}, [told(result, what)])

    ask(arguments, work)
