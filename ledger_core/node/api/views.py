"""The state as answers: pure functions, called between two changes of the state."""

from collections.abc import Callable, Iterable
from operator import itemgetter

from msgspec import Struct

from ledger_core.community import MoneyMode, encode_genesis, parameters_as_dict
from ledger_core.errors import LedgerError
from ledger_core.keys import address, parse_address
from ledger_core.node.api import model, queries
from ledger_core.records.types import Location, Role
from ledger_core.rules.accounts import EMPTY_ACCOUNT
from ledger_core.rules.availability import outstanding_after
from ledger_core.rules.reputation import DAY, UNKNOWN, decayed, delivered_permille, mean_score_tenths
from ledger_core.rules.rows import AssetRow, MemberRow, OfferRow, TradeRow, WaitingRow
from ledger_core.rules.state import SUPPLY, State


class NotFoundError(LedgerError):
    """What was asked for is not there."""


class Part[V](Struct, frozen=True):
    """Items of a page, and where the next one begins."""

    items: list[V]
    next: str | None


def party(key: bytes) -> model.Party:
    """Return a key as answers show it."""
    return model.Party(key=key.hex(), address=address(key))


def optional_party(key: bytes | None) -> model.Party | None:
    """Return a key as answers show it, or None."""
    return None if key is None else party(key)


def key_of(who: str) -> bytes:
    """Return the key that a request names; raises AddressError for a mistyped address."""
    return parse_address(who) if who.startswith("el1") else bytes.fromhex(who)


def as_of(state: State) -> model.AsOf:
    """Return the block after which the state is as it is."""
    return model.AsOf(height=state.tip.height, hash=state.tip.hash.hex())


def roles(value: int) -> list[str]:
    """Return the names of the roles that a number adds up."""
    return [role.name.lower() for role in Role if value & role and role.name]


def community(state: State, addresses: list[str]) -> model.CommunityView:
    """Return what the community was founded with."""
    return model.CommunityView(
        chain_id=state.chain_id.hex(),
        name=state.genesis.name,
        currency=state.genesis.currency,
        genesis=encode_genesis(state.genesis).hex(),
        parameters=parameters_as_dict(state.parameters),
        addresses=addresses,
    )


def members(state: State, query: queries.MembersQuery) -> model.Members:
    """Return members by key."""
    part = _page(state.members.items(), query.after, query.limit, member)
    return model.Members(as_of=as_of(state), items=part.items, next=part.next)


def member(key: bytes, row: MemberRow) -> model.MemberView:
    """Return one member."""
    return model.MemberView(
        member=party(key),
        roles=roles(row.roles),
        node=optional_party(row.node),
        name_hash=row.name_hash.hex(),
        location=_place(row.location),
    )


def one_member(state: State, who: str) -> model.MemberView:
    """Return a member by key or address; raises NotFoundError `member_unknown`."""
    key = key_of(who)
    row = state.members.get(key)
    if row is None:
        raise _no_member(key)
    return member(key, row)


def assets(state: State, query: queries.AssetsQuery) -> model.Assets:
    """Return assets by id."""
    owner = None if query.owner is None else key_of(query.owner)
    found = (
        (asset_id, row)
        for asset_id, row in state.assets.items()
        if (owner is None or row.owner == owner)
        and query.kind in (None, row.kind)
        and query.carrier in (None, row.carrier)
    )
    part = _page(found, query.after, query.limit, lambda key, row: asset(state, key, row))
    return model.Assets(as_of=as_of(state), items=part.items, next=part.next)


def asset(state: State, asset_id: bytes, row: AssetRow) -> model.AssetView:
    """Return one asset."""
    store = state.stores.get(asset_id)
    trades = (state.trades[trade] for trade in state.booked.get((asset_id, SUPPLY), ()))
    return model.AssetView(
        asset=asset_id.hex(),
        record=row.record.hex(),
        owner=party(row.owner),
        kind=row.kind.value,
        carrier=row.carrier.value,
        rating_w=row.rating_w,
        curve=[model.CurveStepView(start=step.start, watts=step.watts) for step in row.curve],
        capacity_wh=row.capacity_wh,
        meter=None if row.meter is None else row.meter.hex(),
        meter_key=None if row.meter_key is None else row.meter_key.hex(),
        location=_place(row.location),
        energy_wh=None if store is None else store.energy_wh,
        energy_at=None if store is None else store.at,
        outstanding_wh=sum(
            outstanding_after(trade, state.tip.settled_until, state.parameters.slot_s) for trade in trades
        ),
    )


def one_asset(state: State, asset_hex: str) -> model.AssetView:
    """Return an asset by id; raises NotFoundError `asset_unknown`."""
    asset_id = bytes.fromhex(asset_hex)
    row = state.assets.get(asset_id)
    if row is None:
        raise NotFoundError("asset_unknown", "no asset has that id", asset=asset_id)
    return asset(state, asset_id, row)


def offers(state: State, query: queries.OffersQuery) -> model.Offers:
    """Return open offers and requests by id."""
    author = None if query.author is None else key_of(query.author)
    reader = None if query.visible_to is None else key_of(query.visible_to)
    found = (
        (offer_id, row)
        for offer_id, row in state.offers.items()
        if (author is None or row.author == author)
        and query.side in (None, row.side)
        and query.carrier in (None, row.carrier)
        and query.basis in (None, row.basis)
        and (reader is None or _may_accept(row, reader))
        and _overlaps(row.start, row.end, query.from_time, query.until_time)
    )
    part = _page(found, query.after, query.limit, offer)
    return model.Offers(as_of=as_of(state), items=part.items, next=part.next)


def offer(offer_id: bytes, row: OfferRow) -> model.OfferView:
    """Return one offer."""
    auction = row.auction
    return model.OfferView(
        offer=offer_id.hex(),
        author=party(row.author),
        side=row.side.value,
        asset=None if row.asset is None else row.asset.hex(),
        carrier=row.carrier.value,
        basis=row.basis.value,
        quantity=row.quantity,
        open=row.open,
        min_quantity=row.min_quantity,
        max_w=row.max_w,
        start=row.start,
        end=row.end,
        price=row.price,
        shortfall_price=row.shortfall_price,
        audience=None if row.audience is None else [party(key) for key in row.audience],
        valid_until=row.valid_until,
        auction=None
        if auction is None
        else model.AuctionView(closes=auction.closes, ceiling=auction.ceiling, reserve=auction.reserve),
    )


def one_offer(state: State, offer_hex: str) -> model.OfferView:
    """Return an open offer by id; raises NotFoundError `offer_unknown`."""
    offer_id = bytes.fromhex(offer_hex)
    row = state.offers.get(offer_id)
    if row is None:
        raise NotFoundError("offer_unknown", "no offer with that id is open", offer=offer_id)
    return offer(offer_id, row)


def waiting_acceptances(state: State, query: queries.WaitingQuery) -> model.WaitingAcceptances:
    """Return acceptances that do not bind yet, by id."""
    author = None if query.author is None else key_of(query.author)
    offerer = None if query.offerer is None else key_of(query.offerer)
    wanted = None if query.offer is None else bytes.fromhex(query.offer)
    found = (
        (acceptance, row)
        for acceptance, row in state.waiting.items()
        if (author is None or row.author == author)
        and (wanted is None or row.offer == wanted)
        and (offerer is None or _offerer(state, row) == offerer)
    )
    part = _page(found, query.after, query.limit, lambda key, row: waiting(state, key, row))
    return model.WaitingAcceptances(as_of=as_of(state), items=part.items, next=part.next)


def waiting(state: State, acceptance: bytes, row: WaitingRow) -> model.WaitingView:
    """Return one acceptance that does not bind yet."""
    offered = state.offers.get(row.offer)
    return model.WaitingView(
        acceptance=acceptance.hex(),
        author=party(row.author),
        offer=row.offer.hex(),
        offerer=None if offered is None else party(offered.author),
        asset=None if row.asset is None else row.asset.hex(),
        quantity=row.quantity,
        start=row.start,
        end=row.end,
        price=row.price,
        valid_until=row.valid_until,
        bid=offered is not None and offered.auction is not None,
        held=row.held,
    )


def trades(state: State, query: queries.TradesQuery) -> model.Trades:
    """Return trades with slots to settle, by id."""
    side = None if query.member is None else key_of(query.member)
    asset_id = None if query.asset is None else bytes.fromhex(query.asset)
    offer_id = None if query.offer is None else bytes.fromhex(query.offer)
    found = (
        (trade_id, row)
        for trade_id, row in state.trades.items()
        if (side is None or side in (row.seller, row.buyer))
        and (asset_id is None or row.asset == asset_id)
        and (offer_id is None or row.offer == offer_id)
        and _overlaps(row.start, row.end, query.from_time, query.until_time)
    )
    part = _page(found, query.after, query.limit, trade)
    return model.Trades(as_of=as_of(state), items=part.items, next=part.next)


def trade(trade_id: bytes, row: TradeRow) -> model.TradeView:
    """Return one trade."""
    return model.TradeView(
        trade=trade_id.hex(),
        offer=row.offer.hex(),
        origin=row.origin,
        seller=party(row.seller),
        buyer=party(row.buyer),
        asset=row.asset.hex(),
        seller_meter=row.seller_meter.hex(),
        buyer_meter=row.buyer_meter.hex(),
        carrier=row.carrier.value,
        basis=row.basis.value,
        quantity=row.quantity,
        watts=row.watts,
        start=row.start,
        end=row.end,
        agreed_end=row.agreed_end,
        price=row.price,
        shortfall_price=row.shortfall_price,
        held_buyer=row.held_buyer,
        held_seller=row.held_seller,
        delivered_wh=row.delivered_wh,
        paid=row.paid,
    )


def one_trade(state: State, trade_hex: str) -> model.TradeView:
    """Return a trade by id; raises NotFoundError `trade_unknown`."""
    trade_id = bytes.fromhex(trade_hex)
    row = state.trades.get(trade_id)
    if row is None:
        raise NotFoundError("trade_unknown", "no trade with that id has slots left to settle", trade=trade_id)
    return trade(trade_id, row)


def accounts(state: State, query: queries.AccountsQuery) -> model.Accounts:
    """Return every member's account, by key."""
    part = _page(state.members.items(), query.after, query.limit, lambda key, _: account(state, key))
    return model.Accounts(as_of=as_of(state), items=part.items, next=part.next)


def one_account(state: State, who: str) -> model.AccountView:
    """Return a member's account; raises NotFoundError `member_unknown`."""
    key = key_of(who)
    if key not in state.members:
        raise _no_member(key)
    return account(state, key)


def account(state: State, key: bytes) -> model.AccountView:
    """Return a member's money, energy and reputation at the tip."""
    row = state.accounts.get(key, EMPTY_ACCOUNT)
    day = state.tip.times[-1] // DAY
    known = decayed(state.reputation.get(key, UNKNOWN), day)
    wallets = sorted((carrier, energy) for (owner, carrier), energy in state.energy.items() if owner == key)
    return model.AccountView(
        member=party(key),
        balance=row.balance,
        held=row.held,
        spendable=row.balance + _credit_limit(state) - row.held,
        fees_waiting=sum(fee.amount for fee in state.fees.values() if fee.member == key),
        energy=[
            model.EnergyView(carrier=str(carrier), sold_wh=energy.sold_wh, bought_wh=energy.bought_wh)
            for carrier, energy in wallets
        ],
        reputation=model.ReputationView(
            agreed_wh=known.agreed_wh,
            delivered_wh=known.delivered_wh,
            delivered_permille=delivered_permille(known, day),
            scores=known.scores,
            mean_score_tenths=mean_score_tenths(known),
        ),
    )


def _page[R, V](
    rows: Iterable[tuple[bytes, R]], after: str | None, limit: int, view: Callable[[bytes, R], V]
) -> Part[V]:
    start = b"" if after is None else bytes.fromhex(after)
    found = sorted((item for item in rows if item[0] > start), key=itemgetter(0))
    items = [view(key, row) for key, row in found[:limit]]
    return Part(items, found[limit - 1][0].hex() if len(found) > limit else None)


def _credit_limit(state: State) -> int:
    parameters = state.parameters
    return parameters.credit_limit if parameters.money_mode is MoneyMode.MUTUAL_CREDIT else 0


def _place(location: Location | None) -> model.Place | None:
    if location is None:
        return None
    return model.Place(latitude=location.latitude, longitude=location.longitude)


def _may_accept(row: OfferRow, reader: bytes) -> bool:
    return reader != row.author and (row.audience is None or reader in row.audience)


def _overlaps(start: int, end: int, from_time: int | None, until_time: int | None) -> bool:
    return (from_time is None or end > from_time) and (until_time is None or start < until_time)


def _offerer(state: State, row: WaitingRow) -> bytes | None:
    offered = state.offers.get(row.offer)
    return None if offered is None else offered.author


def _no_member(key: bytes) -> NotFoundError:
    return NotFoundError("member_unknown", "no member has that key", member=key)
