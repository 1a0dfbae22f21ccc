"""One long, eventful story on a small street that leaves a row in every table of the state."""

from ledger_core.community import MoneyMode
from ledger_core.keys import SoftwareSigner
from ledger_core.records.codec import Record, invite
from ledger_core.records.offers import Auction
from ledger_core.records.readings import Stored
from ledger_core.records.types import AssetKind, Basis, Location, Role, Side
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    issue,
    member,
    meters,
    offer,
    parameters,
    score,
    terminate,
    transfer,
    until,
)
from tests.core.world import HOUSEHOLD, World, asset_id, signer


def _money_and_assets(world: World) -> None:
    world.mine(*(issue(world, name, 40_000_000) for name in ("bert", "cara")))
    world.mine(transfer(world, "bert", "anna", 9_000_000))
    world.mine(*(world.meter_record(name) for name in world.homes))
    store = {"energy_wh": 8_000, "capacity_wh": 12_000, "location": Location(48_137_154, 11_576_124)}
    world.mine(
        world.asset_record("anna"),
        world.asset_record("anna", "battery", AssetKind.BATTERY, 5_000, **store),
        world.asset_record("bert"),
    )
    world.mine(bundles=world.votes(0, 4), miner="bert")


def _newcomer(world: World) -> None:
    dora, bearer = SoftwareSigner(bytes([7]) * 32), signer("dora invitation")
    ticket = invite(world.chain_id, world["anna"].key, bearer.public_key, HOUSEHOLD, world.now + 86_400)
    world.mine(
        member(
            world,
            dora,
            dora.public_key,
            bearer,
            roles=int(Role.HOME | Role.NODE),
            node=signer("dora node").public_key,
            invitation=ticket,
        )
    )


def _trades(world: World) -> tuple[Record, Record]:
    posted = offer(world, max_w=6_000, shortfall_price=100_000)
    reserved = offer(world, basis=Basis.CAPACITY, quantity=1_000, price=30_000)
    auction = Auction(WINDOW - 2 * SLOT, 400_000, 100_000)
    auctioned = offer(world, "bert", quantity=2_000, auction=auction)
    open_auction = offer(
        world,
        "bert",
        start=WINDOW + 60 * SLOT,
        quantity=3_000,
        auction=Auction(WINDOW + 59 * SLOT, 400_000, 100_000),
    )
    request = offer(world, "cara", side=Side.BUY, start=WINDOW + 80 * SLOT)
    world.mine(posted, reserved, auctioned, open_auction, request)
    first, second = accept(world, "bert", posted, quantity=1_500), accept(world, "cara", reserved)
    bids = accept(world, "cara", auctioned, price=250_000), accept(world, "anna", auctioned, quantity=500)
    world.mine(first, second, *bids, accept(world, "cara", open_auction, price=300_000))
    world.mine(accept(world, "anna", request, price=250_000), miner="cara")
    return first, second


def eventful_world() -> World:
    """Return the world after the story."""
    world = World(parameters=parameters(money_mode=MoneyMode.PREPAID, fee=500))
    _money_and_assets(world)
    _newcomer(world)
    first, second = _trades(world)
    world.mine(terminate(world, "cara", second, WINDOW + 2 * SLOT, 5_000, "anna"))
    until(world, WINDOW - 2 * SLOT)
    meters(
        world,
        {"anna": [700, 300, 500, 600], "bert": [450, 500, 400, 600]},
        {"bert": [400, 350, 0, 500], "cara": [800, 900, 700, 650], "anna": [0, 100, 0, 0]},
    )
    stored = (Stored(asset_id("anna battery"), 6_500, None),)
    world.mine(world.reading("anna", [(WINDOW + 4 * SLOT, 500_100, 102_100)], stored))
    world.mine(bundles=world.votes(4, 8, ["anna", "bert"]), step=1800)
    world.mine(score(world, "bert", first, 9))
    still_open = offer(world, "anna", start=WINDOW + 40 * SLOT, shortfall_price=10_000)
    world.mine(still_open)
    world.mine(accept(world, "bert", still_open, quantity=1_000), bundles=world.votes(4, 8, ["cara"]))
    cara, node = world["cara"], signer("cara's new node").public_key
    world.mine(member(world, cara.key, cara.id, roles=HOUSEHOLD, node=node))
    return world
