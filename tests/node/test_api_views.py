"""The state as answers: every row of an eventful street, filters, pages."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from ledger_core.chain.proofs import InclusionProof, check_inclusion
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.node.api import block_views, model, queries, views
from ledger_core.records.codec import decode_envelope
from ledger_core.records.types import AssetKind, Side
from ledger_core.units import MICRO
from tests.core.actions import WINDOW, accept, agree, offer, street
from tests.core.scenario import eventful_world
from tests.core.world import World, asset_id


@pytest.fixture(scope="module")
def world() -> World:
    return eventful_world()


def key(world: World, name: str) -> str:
    return world[name].id.hex()


def test_every_row_is_shown(world: World) -> None:
    state = world.state
    assert len(views.members(state, queries.MembersQuery()).items) == len(state.members)
    assert len(views.assets(state, queries.AssetsQuery()).items) == len(state.assets)
    assert len(views.offers(state, queries.OffersQuery()).items) == len(state.offers) > 0
    assert len(views.trades(state, queries.TradesQuery()).items) == len(state.trades) > 0
    waiting = views.waiting_acceptances(state, queries.WaitingQuery())
    assert len(waiting.items) == len(state.waiting) > 0
    assert waiting.as_of == model.AsOf(height=state.tip.height, hash=state.tip.hash.hex())


def test_a_member_has_its_address_and_roles(world: World) -> None:
    shown = views.one_member(world.state, key(world, "anna"))
    assert shown == views.one_member(world.state, address(world["anna"].id))
    assert shown.member.address == address(world["anna"].id)
    assert shown.roles == ["home", "node", "authority"]
    assert shown.node == views.party(world["anna"].node.public_key)


def test_accounts_agree_with_the_state(world: World) -> None:
    shown = views.accounts(world.state, queries.AccountsQuery()).items
    fees = sum(row.amount for row in world.state.fees.values())
    assert sum(each.fees_waiting for each in shown) == fees
    assert sum(each.balance for each in shown) + fees == world.state.tip.issued
    sold = sum(wallet.sold_wh for each in shown for wallet in each.energy)
    bought = sum(wallet.bought_wh for each in shown for wallet in each.energy)
    assert sold == bought > 0
    assert any(each.reputation.scores for each in shown)
    assert all(0 <= each.reputation.delivered_permille <= 1000 for each in shown)


def test_credit_can_be_spent_in_mutual_credit() -> None:
    home = street()
    agree(home)
    buyer = views.one_account(home.state, key(home, "bert"))
    assert (buyer.balance, buyer.held, buyer.spendable) == (0, 800_000, 50 * MICRO - 800_000)


def test_filters(world: World) -> None:
    state = world.state
    anna = address(world["anna"].id)
    owned = views.assets(state, queries.AssetsQuery(owner=anna, kind=AssetKind.BATTERY)).items
    assert [each.asset for each in owned] == [asset_id("anna battery").hex()]
    assert owned[0].energy_wh == state.stores[asset_id("anna battery")].energy_wh
    sides = Counter(row.side for row in state.offers.values())
    for side in Side:
        assert len(views.offers(state, queries.OffersQuery(side=side)).items) == sides[side]
    mine = views.trades(state, queries.TradesQuery(member=anna)).items
    assert mine
    assert all(anna in (each.seller.address, each.buyer.address) for each in mine)
    bids = views.waiting_acceptances(state, queries.WaitingQuery(author=key(world, "cara"))).items
    assert [(bid.bid, bid.offerer) for bid in bids] == [(True, views.party(world["bert"].id))]


def test_an_audience_hides_an_offer_from_others() -> None:
    home = street()
    home.mine(offer(home, audience=(home["bert"].id,)))

    def visible(name: str) -> int:
        return len(views.offers(home.state, queries.OffersQuery(visible_to=key(home, name))).items)

    assert [visible(name) for name in ("anna", "bert", "cara")] == [0, 1, 0]


def test_windows() -> None:
    home = street()
    home.mine(offer(home))

    def found(after: int | None, before: int | None) -> int:
        query = queries.OffersQuery(from_time=after, until_time=before)
        return len(views.offers(home.state, query).items)

    assert found(WINDOW + 3600, None) == found(None, WINDOW) == 0
    assert found(WINDOW + 3599, WINDOW + 1) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_pages_give_everything_once_in_order(world: World, limit: int) -> None:
    ids: list[str] = []
    after = None
    while True:
        page = views.assets(world.state, queries.AssetsQuery(after=after, limit=limit))
        assert len(page.items) <= limit
        ids += [each.asset for each in page.items]
        after = page.next
        if after is None:
            break
        assert len(page.items) == limit
    assert ids == sorted(asset.hex() for asset in world.state.assets)


@pytest.mark.parametrize(
    ("view", "argument", "code"),
    [
        (views.one_member, "00" * 32, "member_unknown"),
        (views.one_account, "00" * 32, "member_unknown"),
        (views.one_asset, "00" * 16, "asset_unknown"),
        (views.one_offer, "00" * 32, "offer_unknown"),
        (views.one_trade, "00" * 32, "trade_unknown"),
        (views.one_member, "el1" + "q" * 58, "address_checksum"),
    ],
)
def test_what_is_not_there(world: World, view: Any, argument: str, code: str) -> None:
    with pytest.raises(LedgerError) as caught:
        view(world.state, argument)
    assert caught.value.code == code


def test_single_rows_equal_those_of_the_lists(world: World) -> None:
    state = world.state
    for each in views.offers(state, queries.OffersQuery()).items:
        assert views.one_offer(state, each.offer) == each
    for trade in views.trades(state, queries.TradesQuery()).items:
        assert views.one_trade(state, trade.trade) == trade
    for asset in views.assets(state, queries.AssetsQuery()).items:
        assert views.one_asset(state, asset.asset) == asset
    for account in views.accounts(state, queries.AccountsQuery()).items:
        assert views.one_account(state, account.member.address) == account


def test_answers_survive_json(world: World) -> None:
    """The types say what is sent: decoding checks every pattern and bound."""
    for answer in (
        views.members(world.state, queries.MembersQuery()),
        views.assets(world.state, queries.AssetsQuery()),
        views.offers(world.state, queries.OffersQuery()),
        views.waiting_acceptances(world.state, queries.WaitingQuery()),
        views.trades(world.state, queries.TradesQuery()),
        views.accounts(world.state, queries.AccountsQuery()),
    ):
        assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer


def test_what_is_agreed_is_outstanding_until_it_is_settled() -> None:
    home = street()
    agree(home)
    assert views.one_asset(home.state, asset_id("anna pv").hex()).outstanding_wh == 4_000


def test_a_block_lists_its_records_and_votes(world: World) -> None:
    for height, whole in enumerate(world.blocks, 1):
        shown = block_views.block(whole.header, whole, world.chain_id, 4)
        assert (shown.height, shown.hash, shown.final) == (height, whole.hash.hex(), height <= 4)
        for record_hex in shown.records or ():
            record_id = bytes.fromhex(record_hex)
            found = block_views.find_record(whole, world.chain_id, record_id)
            assert found is not None
            view = block_views.record(found, height, 4)
            assert view.state == ("final" if height <= 4 else "included")
            assert msgspec.json.decode(msgspec.json.encode(view), type=model.RecordView) == view
    bare = block_views.block(world.blocks[0].header, None, world.chain_id, 0)
    assert bare.records is None
    voted = [block_views.block(each.header, each, world.chain_id, 0).votes for each in world.blocks]
    assert [vote.votes for votes in voted for vote in votes] == [3, 2, 1]


def test_a_waiting_record_has_no_height(world: World) -> None:
    home = street()
    for contested, state in ((False, "waiting"), (True, "contested")):
        shown = block_views.waiting(accept(home, "bert", offer(home)), contested=contested)
        assert (shown.state, shown.height, shown.kind) == (state, None, "acceptance")
        assert shown.body["start"] == WINDOW


def test_a_proof_can_be_checked_from_its_view_alone(world: World) -> None:
    whole = next(
        block for block in world.blocks if block_views.block(block.header, block, world.chain_id, 0).votes
    )
    record_id = bytes.fromhex(
        next(
            each
            for block in world.blocks
            for each in block_views.block(block.header, block, world.chain_id, 0).records or ()
        )
    )
    with pytest.raises(LedgerError, match="does not hold"):
        block_views.proof(whole, world.chain_id, record_id)
    holding = next(
        block
        for block in world.blocks
        if block_views.find_record(block, world.chain_id, record_id) is not None
    )
    shown = block_views.proof(holding, world.chain_id, record_id)
    rebuilt = InclusionProof(
        bytes.fromhex(shown.header),
        shown.index,
        tuple(bytes.fromhex(sibling) for sibling in shown.branch),
        decode_envelope(bytes.fromhex(shown.envelope)),
    )
    assert check_inclusion(rebuilt, world.chain_id, bytes.fromhex(shown.block)) == record_id
