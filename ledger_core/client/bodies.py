"""From what a home means to the body of a record: pure, without a clock, a key's secret or a connection.

Every function takes a `Stamp` (author, time, nonce) and plain values in wire units: W, Wh, UTC seconds,
micro-currency, prices in micro-currency per kWh (per kW and hour for reserved capacity). Ids and keys are raw
bytes, or text where a type says so. What is out of its bounds raises IntentError `value_invalid` when the
body is signed; `checked` does so at once.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from ledger_core.client.views import AssetView, MemberView, OfferView
from ledger_core.errors import LedgerError, RecordError
from ledger_core.keys import parse_address
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.assets import Asset, CurveStep
from ledger_core.records.body import Body
from ledger_core.records.codec import decode_body, encode_body
from ledger_core.records.members import Invitation, Member
from ledger_core.records.money import Transfer, TransferKind
from ledger_core.records.offers import Auction, Offer, Withdrawal
from ledger_core.records.readings import Reading, ReadingRow, Stored
from ledger_core.records.trades import Score, Termination
from ledger_core.records.types import AssetKind, Basis, Carrier, Location, Role, Side

MAX_ROWS: Final = 192
"""Boundaries in one reading."""

type KeyText = str | bytes
"""A member's key: 32 bytes, 64 hexadecimal digits, or an address (`el1...`)."""

type IdText = str | bytes
"""An id: raw bytes, or hexadecimal as the API writes it."""


class IntentError(LedgerError):
    """What a home wants can't be put into a record; the message names what would be right."""


class Stamp(Struct, frozen=True):
    """What every body begins with."""

    author: bytes
    created: int
    nonce: bytes


class OfferTerms(Struct, frozen=True, kw_only=True):
    """What is offered or asked for."""

    quantity: int
    """Wh for the whole window (energy), or W throughout it (capacity)."""
    start: int
    end: int
    """The window in UTC seconds: slot boundaries, `end` excluded."""
    price: int
    """Micro-currency per kWh; per kW and hour for capacity; in an auction the price that is expected."""
    asset: IdText | None = None
    """What supplies (needed to sell), or the buyer's asset or meter; None: the buyer's only meter."""
    carrier: Carrier = Carrier.ELECTRICITY
    basis: Basis = Basis.ENERGY
    min_quantity: int | None = None
    """The smallest part that may be accepted; None: only the whole."""
    max_w: int = 0
    """Highest power while delivering energy; 0: the mean power of the window."""
    shortfall_price: int = 0
    """What the seller pays the buyer per missing kWh."""
    audience: Sequence[KeyText] | None = None
    """Keys of the members who may accept, in any order; None: all."""
    valid_until: int | None = None
    """Until when it may be accepted; None: until the window starts."""
    auction: Auction | None = None


class AssetTerms(Struct, frozen=True, kw_only=True):
    """What an asset is."""

    asset: bytes
    """Its id, 16 bytes that stay the same when it is changed; see `new_asset_id` of `Home`."""
    kind: AssetKind
    rating_w: int
    """Rated power; of a meter: of the grid connection. 0 W retires the asset."""
    carrier: Carrier = Carrier.ELECTRICITY
    meter: bytes | None = None
    """The meter that it settles through; None for a meter."""
    meter_key: bytes | None = None
    """The key that signs a meter's readings; None for anything but a meter."""
    curve: tuple[CurveStep, ...] = ()
    """Lower power by time; empty: the rating always holds."""
    energy_wh: int | None = None
    """Energy available now, for a store; None leaves what readings told."""
    capacity_wh: int | None = None
    location: Location | None = None


def asset(stamp: Stamp, terms: AssetTerms, supersedes: bytes | None = None) -> Asset:
    """Return the registration of an asset, or with the id of its latest record a change of it."""
    return Asset(
        stamp.author,
        stamp.created,
        stamp.nonce,
        terms.asset,
        terms.kind,
        terms.carrier,
        terms.rating_w,
        terms.curve,
        terms.energy_wh,
        terms.capacity_wh,
        terms.meter,
        terms.meter_key,
        terms.location,
        supersedes,
    )


def asset_terms(view: AssetView) -> AssetTerms:
    """Return what an asset is according to the chain; what a store holds is left to its readings."""
    place = view.location
    return AssetTerms(
        asset=bytes.fromhex(view.asset),
        kind=AssetKind(view.kind),
        rating_w=view.rating_w,
        carrier=Carrier(view.carrier),
        meter=None if view.meter is None else bytes.fromhex(view.meter),
        meter_key=None if view.meter_key is None else bytes.fromhex(view.meter_key),
        curve=tuple(CurveStep(step.start, step.watts) for step in view.curve),
        capacity_wh=view.capacity_wh,
        location=None if place is None else Location(place.latitude, place.longitude),
    )


def offer(stamp: Stamp, side: Side, terms: OfferTerms) -> Offer:
    """Return an offer (side `sell`) or a request (side `buy`)."""
    return Offer(
        stamp.author,
        stamp.created,
        stamp.nonce,
        side,
        None if terms.asset is None else asset_id_of(terms.asset),
        terms.carrier,
        terms.basis,
        terms.quantity,
        terms.min_quantity,
        terms.max_w,
        terms.start,
        terms.end,
        terms.price,
        terms.shortfall_price,
        None if terms.audience is None else tuple(sorted({key_of(who) for who in terms.audience})),
        terms.start if terms.valid_until is None else terms.valid_until,
        terms.auction,
    )


def withdrawal(stamp: Stamp, target: bytes) -> Withdrawal:
    """Return what takes back an own offer, or an own acceptance that waits."""
    return Withdrawal(stamp.author, stamp.created, stamp.nonce, target)


def acceptance(
    stamp: Stamp, view: OfferView, quantity: int | None = None, asset: IdText | None = None
) -> Acceptance:
    """Return the yes to an offer on its own terms: to all that is open, or to a part.

    Raises IntentError `offer_is_auction` for an auction, where prices are bid.
    """
    if view.auction is not None:
        raise IntentError(
            "offer_is_auction",
            "this offer is an auction: make a bid with a price",
            offer=view.offer,
            closes=view.auction.closes,
        )
    return _answer(stamp, view, quantity, asset, view.price)


def bid(
    stamp: Stamp, view: OfferView, price: int, quantity: int | None = None, asset: IdText | None = None
) -> Acceptance:
    """Return a bid in an auction, for all that is open or a part.

    Raises IntentError `offer_not_auction` for an offer with a fixed price.
    """
    if view.auction is None:
        raise IntentError(
            "offer_not_auction",
            "this offer has a fixed price: accept it, or propose other terms",
            offer=view.offer,
            price=view.price,
        )
    return _answer(stamp, view, quantity, asset, price)


def counter(
    stamp: Stamp,
    view: OfferView,
    *,
    price: int | None = None,
    quantity: int | None = None,
    start: int | None = None,
    end: int | None = None,
    valid_until: int | None = None,
    asset: IdText | None = None,
) -> Acceptance:
    """Return an acceptance with a changed price or window, which waits for the offerer's confirmation.

    What is not given stays as offered. Raises IntentError `offer_is_auction`, or `terms_unchanged` where
    neither price nor window differ: that would bind at once.
    """
    answer = acceptance(stamp, view, quantity, asset)
    price = view.price if price is None else price
    start = view.start if start is None else start
    end = view.end if end is None else end
    if (price, start, end) == (view.price, view.start, view.end):
        raise IntentError(
            "terms_unchanged",
            "price and window are those of the offer, which would bind at once: accept it instead",
            offer=view.offer,
        )
    return Acceptance(
        answer.author,
        answer.created,
        answer.nonce,
        answer.offer,
        answer.asset,
        answer.quantity,
        start,
        end,
        price,
        min(view.valid_until, start) if valid_until is None else valid_until,
    )


def _answer(
    stamp: Stamp, view: OfferView, quantity: int | None, asset: IdText | None, price: int
) -> Acceptance:
    return Acceptance(
        stamp.author,
        stamp.created,
        stamp.nonce,
        bytes.fromhex(view.offer),
        None if asset is None else asset_id_of(asset),
        view.open if quantity is None else quantity,
        view.start,
        view.end,
        price,
        min(view.valid_until, view.start),
    )


def confirmation(stamp: Stamp, acceptance: bytes) -> Confirmation:
    """Return the offerer's yes to changed terms."""
    return Confirmation(stamp.author, stamp.created, stamp.nonce, acceptance)


def rejection(stamp: Stamp, acceptance: bytes) -> Rejection:
    """Return the offerer's no to changed terms."""
    return Rejection(stamp.author, stamp.created, stamp.nonce, acceptance)


def termination(stamp: Stamp, trade: bytes, end: int, compensation: int) -> Termination:
    """Return the end of a trade at a slot boundary, with what its author pays the other side."""
    return Termination(stamp.author, stamp.created, stamp.nonce, trade, end, compensation)


def transfer(
    stamp: Stamp,
    to: bytes,
    amount: int,
    kind: TransferKind = TransferKind.PAY,
    reference: bytes | None = None,
) -> Transfer:
    """Return a payment, or an issue or redemption of prepaid money; `reference` has 32 bytes."""
    return Transfer(stamp.author, stamp.created, stamp.nonce, kind, to, amount, reference)


def score(stamp: Stamp, trade: bytes, points: int) -> Score:
    """Return what a side of a settled trade thinks of the other: 0 to 10."""
    return Score(stamp.author, stamp.created, stamp.nonce, trade, points)


def reading(stamp: Stamp, meter: bytes, rows: Sequence[ReadingRow], stored: Iterable[Stored] = ()) -> Reading:
    """Return a meter's registers at slot boundaries; the stamp's author is the meter's key.

    Rows are sorted by time and stored energies by asset. Raises IntentError `rows_too_many`, `rows_missing`.
    """
    if not rows:
        raise IntentError("rows_missing", "a reading needs at least one slot boundary")
    if len(rows) > MAX_ROWS:
        raise IntentError(
            "rows_too_many", f"a reading holds at most {MAX_ROWS} boundaries, not {len(rows)}", rows=len(rows)
        )
    return Reading(
        stamp.author,
        stamp.created,
        stamp.nonce,
        meter,
        tuple(sorted(rows, key=lambda row: row.end)),
        tuple(sorted(stored, key=lambda each: each.asset)),
    )


def member(
    stamp: Stamp,
    key: bytes,
    roles: int,
    node: bytes | None,
    name: bytes,
    *,
    location: Location | None = None,
    invitation: Invitation | None = None,
) -> Member:
    """Return what a member is from now on; `name` is the name's hash (`name_hash`)."""
    return Member(stamp.author, stamp.created, stamp.nonce, key, roles, node, name, location, invitation)


def changed_member(
    stamp: Stamp,
    view: MemberView,
    *,
    roles: int | None = None,
    node: KeyText | None = None,
    name: str | None = None,
    location: Location | None = None,
) -> Member:
    """Return a change of a member; what is not given stays as it is. Without roles it is revoked."""
    place = view.location
    known = None if place is None else Location(place.latitude, place.longitude)
    old_node = None if view.node is None else bytes.fromhex(view.node.key)
    return member(
        stamp,
        bytes.fromhex(view.member.key),
        roles_value(view.roles) if roles is None else roles,
        old_node if node is None else key_of(node),
        bytes.fromhex(view.name_hash) if name is None else name_hash(name),
        location=known if location is None else location,
    )


def checked[B: Body](body: B) -> B:
    """Return a body whose fields are within their bounds; raises IntentError `value_invalid` naming one."""
    try:
        decode_body(encode_body(body))
    except (RecordError, OverflowError, TypeError) as error:
        text = error.message.removeprefix("not a record body: ") if isinstance(error, RecordError) else error
        place = _PLACE.search(str(text))
        # The first element on the wire is the kind.
        name = body.__struct_fields__[int(place[1]) - 1] if place and int(place[1]) else body.KIND
        why = f"{str(text)[: place.start()].strip()}" if place else str(text)
        raise IntentError("value_invalid", f"{name} of the {body.KIND}: {why}", field=name) from error
    return body


# Reading what people and the API write.

_PLACE: Final = re.compile(r"- at `\$\[(\d+)\][^`]*`")
_HEX_KEY: Final = re.compile("[0-9a-fA-F]{64}")


def key_of(who: KeyText) -> bytes:
    """Return a member's key; raises AddressError for a mistyped address, IntentError `key_invalid`."""
    if isinstance(who, bytes):
        if len(who) != 32:
            raise IntentError("key_invalid", f"a key has 32 bytes, not {len(who)}")
        return who
    return bytes.fromhex(who) if _HEX_KEY.fullmatch(who) else parse_address(who)


def id_of(what: IdText, size: int = 32) -> bytes:
    """Return an id of a size in bytes; raises IntentError `id_invalid`."""
    if isinstance(what, str):
        try:
            what = bytes.fromhex(what)
        except ValueError as error:
            raise IntentError(
                "id_invalid", f"{what[:80]!a} is no id: it has {2 * size} hexadecimal digits"
            ) from error
    if len(what) != size:
        raise IntentError(
            "id_invalid", f"an id has {2 * size} hexadecimal digits here, this one {2 * len(what)}"
        )
    return what


def asset_id_of(what: IdText) -> bytes:
    """Return an asset's id (16 bytes); raises IntentError `id_invalid`."""
    return id_of(what, 16)


def name_hash(name: str) -> bytes:
    """Return what the chain keeps of a member's name; raises IntentError `name_missing`."""
    if not name.strip():
        raise IntentError("name_missing", "a member has a name of at least one letter")
    return sha256(name.encode()).digest()


def roles_value(names: Iterable[str]) -> int:
    """Return the number that role names add up to; raises IntentError `role_unknown`."""
    value = 0
    for name in names:
        try:
            value |= Role[name.upper()]
        except KeyError as error:
            known = ", ".join(role.name.lower() for role in Role if role.name)
            raise IntentError("role_unknown", f"{name!a} is no role; known are {known}", role=name) from error
    return value
