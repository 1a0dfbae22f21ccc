"""A home at a real API: offers, acceptances, what follows from them, and the money."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger_core.client import RefusedError, bodies
from ledger_core.client.bodies import AssetTerms, IntentError, OfferTerms
from ledger_core.client.views import TradesQuery
from ledger_core.community import AssetApproval, MoneyMode
from ledger_core.errors import LedgerError, RecordError
from ledger_core.keys import address
from ledger_core.records.assets import CurveStep
from ledger_core.records.money import TransferKind
from ledger_core.records.offers import Auction
from ledger_core.records.readings import Quality, ReadingRow
from ledger_core.records.types import AssetKind, Basis, Location
from tests.core.actions import SLOT, WINDOW, parameters
from tests.core.world import World, asset_id
from tests.node.home_world import HomeWorld, home_world

PV = asset_id("anna pv")
ENERGY = OfferTerms(
    asset=PV, quantity=4_000, min_quantity=1_000, start=WINDOW, end=WINDOW + 4 * SLOT, price=200_000
)


@pytest.fixture
async def homes(tmp_path: Path) -> AsyncIterator[HomeWorld]:
    async with home_world(tmp_path) as made:
        yield made


async def test_an_offer_is_accepted_in_part_and_as_what_is_left(homes: HomeWorld) -> None:
    offer = await homes["anna"].offer(ENERGY)
    await homes.mine()
    first = await homes["bert"].accept(offer, 1_500)
    await homes.mine()
    view = await homes.client.offer(offer)
    assert view.open == 2_500
    rest = await homes["cara"].accept(view)
    await homes.mine()
    trades = {trade.trade: trade for trade in await homes.client.all_trades()}
    assert {key: (trade.quantity, trade.origin) for key, trade in trades.items()} == {
        first: (1_500, "posted"),
        rest: (2_500, "posted"),
    }
    assert trades[first].buyer.address == homes["bert"].address
    with pytest.raises(RefusedError) as caught:
        await homes["bert"].accept(offer)
    assert caught.value.code == "offer_unknown"


async def test_a_refusal_brings_the_rule_s_code_and_figures(homes: HomeWorld) -> None:
    offer = await homes["anna"].offer(ENERGY)
    await homes.mine()
    with pytest.raises(RefusedError) as caught:
        await homes["bert"].accept(offer, 500)
    assert (caught.value.code, caught.value.details["minimum"]) == ("below_minimum_fill", 1_000)
    with pytest.raises(RefusedError) as caught:
        await homes["anna"].accept(offer)
    assert caught.value.code == "own_offer"
    assert not homes["anna"].unsent
    assert not homes["bert"].unsent


async def test_an_offer_for_some_and_only_for_a_while(homes: HomeWorld) -> None:
    anna, bert, cara = (homes[name] for name in ("anna", "bert", "cara"))
    until = homes.world.now + 600
    terms = OfferTerms(
        asset=PV.hex(),
        quantity=1_000,
        start=WINDOW,
        end=WINDOW + SLOT,
        price=1,
        audience=[cara.address, bert.key.hex(), bert.key],
        valid_until=until,
        basis=Basis.CAPACITY,
        shortfall_price=7,
        max_w=0,
    )
    offer = await anna.offer(terms)
    await homes.mine()
    view = await homes.client.offer(offer)
    assert view.audience is not None
    assert [party.address for party in view.audience] == [
        address(key) for key in sorted((bert.key, cara.key))
    ]
    assert (view.basis, view.valid_until, view.shortfall_price, view.min_quantity) == (
        "capacity",
        until,
        7,
        None,
    )


async def test_a_request_is_delivered_by_who_names_an_asset(homes: HomeWorld) -> None:
    terms = OfferTerms(quantity=2_000, start=WINDOW, end=WINDOW + 2 * SLOT, price=300_000)
    request = await homes["bert"].request(terms)
    await homes.mine()
    with pytest.raises(RefusedError) as caught:
        await homes["anna"].accept(request)
    assert caught.value.code == "asset_missing"
    trade = await homes["anna"].accept(request, asset=PV.hex())
    await homes.mine()
    view = await homes.client.trade(trade)
    assert (view.seller.key, view.buyer.key) == (homes["anna"].key.hex(), homes["bert"].key.hex())
    assert view.asset == PV.hex()


async def test_changed_terms_are_confirmed_or_rejected_or_withdrawn(homes: HomeWorld) -> None:
    anna, bert = homes["anna"], homes["bert"]
    offer = await anna.offer(ENERGY)
    await homes.mine()
    cheaper = await bert.counter(offer, price=150_000, quantity=1_000)
    later = await bert.counter(offer, start=WINDOW + SLOT, valid_until=WINDOW - 100)
    other = await bert.counter(
        await homes.client.offer(offer), end=WINDOW + SLOT, asset=asset_id("bert meter")
    )
    await homes.mine()
    waiting = {each.acceptance: each for each in await homes.client.all_waiting_acceptances()}
    assert waiting[cheaper].valid_until == WINDOW
    assert waiting[later].valid_until == WINDOW - 100
    assert (waiting[other].end, waiting[other].price) == (WINDOW + SLOT, 200_000)
    await anna.confirm(cheaper)
    await anna.reject(later)
    await bert.withdraw(other)
    await homes.mine()
    assert not await homes.client.all_waiting_acceptances()
    trade = await homes.client.trade(cheaper)
    assert (trade.origin, trade.price, trade.quantity) == ("countered", 150_000, 1_000)
    await anna.withdraw(offer)
    await homes.mine()
    assert not await homes.client.all_offers()


async def test_terms_that_are_not_changed_would_bind_at_once(homes: HomeWorld) -> None:
    offer = await homes["anna"].offer(ENERGY)
    await homes.mine()
    for terms in ({}, {"price": 200_000}, {"quantity": 1_000, "start": WINDOW}):
        with pytest.raises(IntentError) as caught:
            await homes["bert"].counter(offer, **terms)  # type: ignore[arg-type]
        assert caught.value.code == "terms_unchanged"


async def test_an_auction_takes_bids_and_nothing_else(homes: HomeWorld) -> None:
    anna, bert, cara = (homes[name] for name in ("anna", "bert", "cara"))
    closes = WINDOW - SLOT
    terms = OfferTerms(
        asset=PV,
        quantity=4_000,
        start=WINDOW,
        end=WINDOW + 4 * SLOT,
        price=200_000,
        min_quantity=1_000,
        auction=Auction(closes, 400_000, 100_000),
    )
    auction = await anna.offer(terms)
    fixed = await anna.offer(ENERGY)
    await homes.mine()
    for attempt in (bert.accept(auction), bert.counter(auction, price=1)):
        with pytest.raises(IntentError) as caught:
            await attempt
        assert (caught.value.code, caught.value.details["closes"]) == ("offer_is_auction", closes)
    with pytest.raises(IntentError) as caught:
        await bert.bid(fixed, 250_000)
    assert caught.value.code == "offer_not_auction"
    low = await bert.bid(auction, 250_000)
    high = await cara.bid(auction, 300_000, 3_000, asset=asset_id("cara meter").hex())
    await homes.mine()
    await homes.until(closes)
    won = await homes.client.all_trades(TradesQuery(offer=auction))
    assert [(trade.trade, trade.price, trade.quantity) for trade in won if trade.trade == high] == [
        (high, 300_000, 3_000)
    ]
    assert low not in {trade.trade for trade in won}


async def test_a_trade_ends_early_alone_or_with_both(homes: HomeWorld) -> None:
    anna, bert = homes["anna"], homes["bert"]
    offer = await anna.offer(ENERGY)
    await homes.mine()
    alone, together = await bert.accept(offer, 1_000), await bert.accept(offer, 3_000)
    await homes.mine()
    with pytest.raises(RefusedError) as caught:
        await bert.terminate(alone)
    assert caught.value.code == "compensation_too_low"
    await bert.terminate(alone, compensation=caught.value.details["least"])
    await homes.until(WINDOW + 60)
    text = await anna.propose_termination(together, compensation=5)
    proposal = await bert.read_proposal("\n".join((text[:50], text[50:])))
    assert proposal.body.KIND == "termination"
    record = await bert.agree(proposal)
    assert record == proposal.id
    await homes.mine()
    assert (await homes.client.trade(together)).end == WINDOW + SLOT
    found = await homes.client.record(record)
    assert {each.by.address for each in found.signatures} == {anna.address, bert.address}


async def test_who_signed_already_agrees_to_nothing_new(homes: HomeWorld) -> None:
    anna = homes["anna"]
    proposal = await anna.read_proposal(await anna.propose_membership("Anna"))
    assert proposal.cosigned(await anna.chain_id(), homes.world["anna"].key) == proposal


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "A" * 50_000])
async def test_a_damaged_proposal_is_refused(homes: HomeWorld, text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        await homes["anna"].agree(text)
    assert isinstance(caught.value, IntentError | RecordError)


async def test_readings_settle_a_trade_and_its_sides_score_each_other(homes: HomeWorld) -> None:
    anna, bert = homes["anna"], homes["bert"]
    offer = await anna.offer(ENERGY)
    await homes.mine()
    trade = await bert.accept(offer)
    await homes.mine()
    end = WINDOW + 4 * SLOT
    homes.world.now = end
    for name, step in (("anna", (0, 1_000)), ("bert", (1_000, 0))):
        rows = [
            ReadingRow(WINDOW + n * SLOT, 100 + n * step[0], 100 + n * step[1], Quality.MEASURED)
            for n in (4, 3, 2, 1, 0)
        ]
        home = homes.world[name]
        await homes[name].reading(home.meter_key, home.meter, rows)
    await homes.mine()
    await homes.until(end + 1_800)
    account = await homes.client.account(anna.address)
    assert account.balance == 800_000
    await bert.rate(trade, 9)
    await homes.mine()
    reputation = (await homes.client.account(anna.address)).reputation
    assert reputation.mean_score_tenths == 90
    with pytest.raises(IntentError) as caught:
        await bert.rate(trade, 11)
    assert (caught.value.code, caught.value.details) == ("value_invalid", {"field": "score"})
    assert caught.value.message == "score of the score: Expected `int` <= 10"


async def test_many_boundaries_take_several_records(homes: HomeWorld) -> None:
    anna = homes.world["anna"]
    homes.world.now = WINDOW + 400 * SLOT
    rows = [ReadingRow(WINDOW + n * SLOT, 100, 100 + n, Quality.ESTIMATED) for n in range(400)]
    records = await homes["anna"].readings(anna.meter_key, anna.meter.hex(), rows)
    assert len(records) == 3
    await homes.mine()
    sizes = [len((await homes.client.record(each)).body["rows"]) for each in records]
    assert sizes == [192, 192, 16]
    for many, code in ((rows, "rows_too_many"), ([], "rows_missing")):
        with pytest.raises(IntentError) as caught:
            await homes["anna"].reading(anna.meter_key, anna.meter, many)
        assert caught.value.code == code


async def test_money_goes_to_who_is_named(homes: HomeWorld) -> None:
    await homes["bert"].transfer(homes["anna"].address, 1_500_000, reference=bytes(32))
    await homes.mine()
    assert (await homes.client.account(homes["bert"].address)).balance == -1_500_000
    with pytest.raises(RefusedError) as caught:
        await homes["anna"].transfer(homes["bert"].key, 1, kind=TransferKind.ISSUE)
    assert caught.value.code == "money_not_prepaid"


async def test_prepaid_money_is_issued_and_redeemed(tmp_path: Path) -> None:
    world = World(parameters=parameters(money_mode=MoneyMode.PREPAID))
    async with home_world(tmp_path, world) as homes:
        await homes["anna"].transfer(homes["bert"].key, 10_000_000, kind=TransferKind.ISSUE)
        await homes.mine()
        await homes["bert"].transfer(homes["anna"].key, 4_000_000, kind=TransferKind.REDEEM)
        await homes.mine()
        assert (await homes.client.account(homes["bert"].address)).balance == 6_000_000


async def test_assets_are_registered_changed_and_retired(homes: HomeWorld) -> None:
    anna, meter = homes["anna"], homes.world["anna"].meter
    battery = anna.new_asset_id()
    terms = AssetTerms(
        asset=battery,
        kind=AssetKind.BATTERY,
        rating_w=5_000,
        meter=meter,
        energy_wh=4_000,
        capacity_wh=9_000,
        location=Location(48_000_000, 11_000_000),
    )
    record = await anna.register_asset(terms)
    await homes.mine()
    view = await homes.client.asset(battery.hex())
    assert (view.record, view.rating_w, view.energy_wh) == (record, 5_000, 4_000)
    await anna.update_asset(battery.hex(), rating_w=6_000, curve=(CurveStep(WINDOW, 3_000),))
    await homes.mine()
    view = await homes.client.asset(battery.hex())
    assert (view.rating_w, view.energy_wh, view.capacity_wh) == (6_000, 4_000, 9_000)
    assert view.location is not None
    assert view.location.latitude == 48_000_000
    await anna.retire_asset(battery)
    await homes.mine()
    view = await homes.client.asset(battery.hex())
    assert (view.rating_w, view.curve) == (0, [])
    with pytest.raises(RefusedError) as caught:
        await anna.update_asset(anna.new_asset_id(), rating_w=1)
    assert caught.value.code == "asset_unknown"


async def test_an_authority_approves_an_asset_where_the_community_wants_it(tmp_path: Path) -> None:
    world = World(parameters=parameters(asset_approval=AssetApproval.AUTHORITY))
    async with home_world(tmp_path, world) as homes:
        bert = homes["bert"]
        terms = AssetTerms(
            asset=world["bert"].meter,
            kind=AssetKind.METER,
            rating_w=20_000,
            meter_key=world["bert"].meter_key.public_key,
        )
        with pytest.raises(RefusedError) as caught:
            await bert.register_asset(terms)
        assert caught.value.code == "authority_missing"
        text = await bert.propose(bodies.asset(bert.stamp(), terms))
        await homes["anna"].agree(text)
        await homes.mine()
        assert (await homes.client.asset(terms.asset.hex())).owner.address == bert.address
