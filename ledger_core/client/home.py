"""One member of a community: builds, signs and submits its records through its node.

`Home` is what Home Assistant and the command line act with. Units are those of the wire: W, Wh, UTC seconds,
micro-currency (1 000 000 = 1), prices in micro-currency per kWh (per kW and hour for reserved capacity).
Members are named by key (bytes or hexadecimal) or address, everything else by id (bytes or hexadecimal); an
offer also by the view that a node gave of it, which saves a question.

Every acting method returns the record's id in hexadecimal once the node has taken it; it is in the chain when
a block holds it (`waiting.wait_for_record`, or the events). Errors:

- RefusedError: the node refuses, with the rule's code and figures (`docs/error-codes.md`).
- UnreachableError, TimedOutError, or a RefusedError that `may_pass`: the record may or may not have arrived.
  The same one was sent again after each of `repeats_s` first. It is kept in `unsent` as it was signed, its id
  stands in the error's details as `record`, and `resubmit` sends it once more: it counts once. A new call
  would make a second record.
- IntentError: what was asked for can't be put into a record; nothing was sent.
- ClientError `community_mismatch`: the node belongs to another community; nothing was signed for it.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Unpack

from msgspec.structs import replace

from ledger_core.client import bodies
from ledger_core.client.bodies import AssetTerms, IdText, IntentError, KeyText, OfferTerms, Stamp
from ledger_core.client.changes import AssetChanges, MemberChanges, NewTerms
from ledger_core.client.errors import ClientError, RefusedError, TimedOutError, UnreachableError
from ledger_core.client.node_client import NodeClient
from ledger_core.client.places import parse_location
from ledger_core.client.signed import SignedRecord
from ledger_core.client.views import OfferView
from ledger_core.errors import LedgerError
from ledger_core.keys import Signer, SoftwareSigner, address
from ledger_core.records.body import Body
from ledger_core.records.codec import invite
from ledger_core.records.invitations import (
    MAX_ADDRESSES,
    Anchor,
    InvitationLink,
    decode_link,
    encode_link,
)
from ledger_core.records.money import TransferKind
from ledger_core.records.readings import ReadingRow, Stored
from ledger_core.records.types import Location, Role, Side

MAX_UNSENT: Final = 256
"""Records kept for `resubmit`; the oldest goes first."""
HOUSEHOLD: Final = int(Role.HOME | Role.NODE)
"""The roles of an ordinary home with a node."""


def checked_places(places: Sequence[str]) -> tuple[str, ...]:
    """Return addresses that an invitation can name: a newcomer's node could not start on any other.

    Raises IntentError `location_invalid`, `addresses_too_many`.
    """
    if len(places) > MAX_ADDRESSES:
        raise IntentError(
            "addresses_too_many",
            f"an invitation names at most {MAX_ADDRESSES} addresses, not {len(places)}",
            given=len(places),
            allowed=MAX_ADDRESSES,
        )
    for place in places:
        try:
            location = parse_location(place)
        except LedgerError as error:
            raise IntentError(error.code, error.message, **error.details) from error
        if not location.can_be_dialled:
            raise IntentError(
                "location_invalid",
                f"'{place}' is not a peer's address: nobody can be reached at {location.host}",
                location=place,
            )
    return tuple(places)


class Home:
    """Acts for the member whose key `signer` holds, through the node that `client` asks."""

    def __init__(
        self,
        client: NodeClient,
        signer: Signer,
        *,
        chain_id: bytes | None = None,
        clock: Callable[[], float] = time.time,
        repeats_s: Sequence[float] = (),
    ) -> None:
        """Act for a member. Without a `chain_id` the node's is taken when it is first needed, and kept.

        `repeats_s`: how long to wait before each time that an unanswered record is sent again.
        """
        self.client = client
        self._signer = signer
        self._chain_id = chain_id
        self._asked = False
        self._slot_s = 0
        self._clock = clock
        self._repeats_s = tuple(repeats_s)
        self._unsent: OrderedDict[str, SignedRecord] = OrderedDict()

    @property
    def key(self) -> bytes:
        """The member's public key."""
        return self._signer.public_key

    @property
    def address(self) -> str:
        """The member's key as people read it."""
        return address(self.key)

    @property
    def unsent(self) -> Mapping[str, SignedRecord]:
        """Records by id of which it is not known whether the node has them, oldest first."""
        return MappingProxyType(self._unsent)

    async def chain_id(self) -> bytes:
        """Return the community's chain id; raises ClientError `community_mismatch`."""
        if self._chain_id is None or not self._asked:
            status = await self.client.status()
            told = bytes.fromhex(status.chain_id)
            if self._chain_id not in (None, told):
                raise ClientError(
                    "community_mismatch",
                    f"the node belongs to the community {status.community!r}, another one than this home's: "
                    "connect to this community's node",
                    node=told,
                    home=self._chain_id,
                )
            self._chain_id, self._slot_s, self._asked = told, status.slot_s, True
        return self._chain_id

    async def slot_s(self) -> int:
        """Return the community's settlement interval in seconds."""
        await self.chain_id()
        return self._slot_s

    # Signing and submitting

    def stamp(self, author: bytes | None = None) -> Stamp:
        """Return what a body begins with, now; the author is this member unless told otherwise."""
        return Stamp(author or self.key, int(self._clock()), secrets.token_bytes(8))

    async def sign(self, body: Body, *cosigners: Signer) -> SignedRecord:
        """Sign a body of this member without submitting it; see `bodies` for making one."""
        return SignedRecord.of(body, await self.chain_id(), self._signer, *cosigners)

    async def submit(self, signed: SignedRecord) -> str:
        """Hand a signed record to the node; the same one again changes nothing."""
        for pause in self._repeats_s:
            try:
                return await self._submit(signed)
            except UnreachableError, TimedOutError:
                await asyncio.sleep(pause)
        return await self._submit(signed)

    async def _submit(self, signed: SignedRecord) -> str:
        try:
            record = await self.client.submit(signed.envelope)
        except (UnreachableError, TimedOutError, RefusedError) as error:
            if isinstance(error, RefusedError) and not error.may_pass:
                self._unsent.pop(signed.id, None)
            else:
                self._keep(signed)
                error.details = {**error.details, "record": signed.id}
            raise
        self._unsent.pop(signed.id, None)
        return record

    async def resubmit(self, record: str) -> str:
        """Submit a record of `unsent` once more, as it was signed; raises IntentError `record_not_kept`."""
        signed = self._unsent.get(record)
        if signed is None:
            raise IntentError(
                "record_not_kept", "no record with that id waits to be sent again", record=record
            )
        return await self.submit(signed)

    def forget(self, record: str) -> None:
        """Give up on a record of `unsent`. The node may have it nevertheless."""
        self._unsent.pop(record, None)

    def _keep(self, signed: SignedRecord) -> None:
        self._unsent[signed.id] = signed
        while len(self._unsent) > MAX_UNSENT:
            self._unsent.popitem(last=False)

    async def _act(self, body: Body, *cosigners: Signer) -> str:
        return await self.submit(await self.sign(body, *cosigners))

    # What needs two members' signatures

    async def propose(self, body: Body) -> str:
        """Sign a body and return it as one line of text for another member, who looks at it and agrees."""
        return (await self.sign(body)).text

    async def read_proposal(self, text: str) -> SignedRecord:
        """Return what another member proposes; raises IntentError, RecordError for a damaged text."""
        return SignedRecord.from_text(text, await self.chain_id())

    async def agree(self, proposal: str | SignedRecord) -> str:
        """Co-sign what another member proposes, and submit it: as the other side, or as an authority."""
        if isinstance(proposal, str):
            proposal = await self.read_proposal(proposal)
        return await self.submit(proposal.cosigned(await self.chain_id(), self._signer))

    # Assets

    @staticmethod
    def new_asset_id() -> bytes:
        """Return an id for a new asset, which its owner keeps."""
        return secrets.token_bytes(16)

    async def register_asset(self, terms: AssetTerms) -> str:
        """Register an asset. Where the community wants an authority's approval: `propose` and `agree`."""
        return await self._act(bodies.asset(self.stamp(), terms))

    async def update_asset(self, asset: IdText, **changes: Unpack[AssetChanges]) -> str:
        """Change fields of an own asset; what a store holds stays unless `energy_wh` is given.

        Raises RefusedError `asset_unknown` for one that is in no block yet.
        """
        view = await self.client.asset(bodies.asset_id_of(asset).hex())
        terms = replace(bodies.asset_terms(view), **changes)
        return await self._act(bodies.asset(self.stamp(), terms, bytes.fromhex(view.record)))

    async def retire_asset(self, asset: IdText) -> str:
        """Retire an own asset; its trades must have ended."""
        return await self.update_asset(asset, rating_w=0, curve=())

    # Offers

    async def offer(self, terms: OfferTerms) -> str:
        """Offer energy or capacity of an own asset."""
        return await self._act(bodies.offer(self.stamp(), Side.SELL, terms))

    async def request(self, terms: OfferTerms) -> str:
        """Ask for energy or capacity."""
        return await self._act(bodies.offer(self.stamp(), Side.BUY, terms))

    async def withdraw(self, target: IdText) -> str:
        """Take back the open part of an own offer, or an own acceptance of changed terms that waits."""
        return await self._act(bodies.withdrawal(self.stamp(), bodies.id_of(target)))

    async def accept(
        self, offer: OfferView | IdText, quantity: int | None = None, *, asset: IdText | None = None
    ) -> str:
        """Accept an offer on its own terms: all that is open, or a part. The id is the trade's id.

        `asset` is this home's asset or meter that takes part: needed to deliver for a request, otherwise
        where the home has several meters. Raises IntentError `offer_is_auction`.
        """
        view = await self._offer(offer)
        return await self._act(bodies.acceptance(self.stamp(), view, quantity, asset))

    async def counter(self, offer: OfferView | IdText, **terms: Unpack[NewTerms]) -> str:
        """Accept with a changed price or window; binds once the offerer confirms, as a trade of this id.

        Raises IntentError `offer_is_auction`, or `terms_unchanged` where neither price nor window differ.
        """
        view = await self._offer(offer)
        return await self._act(bodies.counter(self.stamp(), view, **terms))

    async def bid(
        self,
        offer: OfferView | IdText,
        price: int,
        quantity: int | None = None,
        *,
        asset: IdText | None = None,
    ) -> str:
        """Bid in an auction; binding until it closes. Raises IntentError `offer_not_auction`."""
        view = await self._offer(offer)
        return await self._act(bodies.bid(self.stamp(), view, price, quantity, asset))

    async def confirm(self, acceptance: IdText) -> str:
        """Agree to changed terms of an own offer: the trade binds."""
        return await self._act(bodies.confirmation(self.stamp(), bodies.id_of(acceptance)))

    async def reject(self, acceptance: IdText) -> str:
        """Refuse changed terms of an own offer."""
        return await self._act(bodies.rejection(self.stamp(), bodies.id_of(acceptance)))

    async def _offer(self, offer: OfferView | IdText) -> OfferView:
        if isinstance(offer, OfferView):
            return offer
        return await self.client.offer(bodies.id_of(offer).hex())

    # Trades and money

    async def terminate(self, trade: IdText, end: int | None = None, compensation: int = 0) -> str:
        """End an own trade at a slot boundary; without `end` as early as possible.

        Alone it costs what the community asks: RefusedError `compensation_too_low` names the least. With the
        other side's signature any compensation goes: `propose_termination`.
        """
        return await self._act(await self._termination(trade, end, compensation))

    async def propose_termination(self, trade: IdText, end: int | None = None, compensation: int = 0) -> str:
        """Return a termination as text, for the other side to `agree` to."""
        return await self.propose(await self._termination(trade, end, compensation))

    async def _termination(self, trade: IdText, end: int | None, compensation: int) -> Body:
        trade_id = bodies.id_of(trade)
        if end is None:
            view = await self.client.trade(trade_id.hex())
            slot, now = await self.slot_s(), int(self._clock())
            end = max(view.start, now - now % slot + slot)
        return bodies.termination(self.stamp(), trade_id, end, compensation)

    async def transfer(
        self,
        to: KeyText,
        amount: int,
        *,
        kind: TransferKind = TransferKind.PAY,
        reference: IdText | None = None,
    ) -> str:
        """Pay a member; where money is prepaid an authority also issues, and a member redeems to one."""
        what = None if reference is None else bodies.id_of(reference)
        return await self._act(bodies.transfer(self.stamp(), bodies.key_of(to), amount, kind, what))

    async def rate(self, trade: IdText, score: int) -> str:
        """Score the other side of a settled trade, 0 to 10, once."""
        return await self._act(bodies.score(self.stamp(), bodies.id_of(trade), score))

    # Readings

    async def reading(
        self, meter_signer: Signer, meter: IdText, rows: Sequence[ReadingRow], stored: Iterable[Stored] = ()
    ) -> str:
        """Submit up to 192 boundaries of a meter, signed with the meter's own key."""
        stamp = self.stamp(meter_signer.public_key)
        body = bodies.reading(stamp, bodies.asset_id_of(meter), rows, stored)
        return await self.submit(SignedRecord.of(body, await self.chain_id(), meter_signer))

    async def readings(
        self, meter_signer: Signer, meter: IdText, rows: Sequence[ReadingRow], stored: Iterable[Stored] = ()
    ) -> list[str]:
        """Submit any number of boundaries, oldest first, in as many records as they take; returns the ids."""
        rows = sorted(rows, key=lambda row: row.end)
        size, sent = bodies.MAX_ROWS, []
        for at in range(0, len(rows), size):
            last = at + size >= len(rows)
            part = rows[at : at + size]
            sent.append(await self.reading(meter_signer, meter, part, stored if last else ()))
        return sent

    # Members

    async def make_invitation(
        self, expires: int, roles: int = HOUSEHOLD, addresses: Sequence[str] | None = None
    ) -> str:
        """Return the text of a one-time invitation; only an authority can make one.

        Without `addresses` those are given under which the node says that others reach it. Raises IntentError
        `not_authority`, `roles_missing`, `expires_past`, and as `checked_places`.
        """
        if not roles:
            raise IntentError("roles_missing", "an invitation gives at least one role")
        if expires <= self._clock():
            raise IntentError(
                "expires_past", "the invitation would expire before it is used", expires=expires
            )
        given = None if addresses is None else checked_places(addresses)
        chain_id = await self.chain_id()
        mine = await self.client.member(self.address)
        if "authority" not in mine.roles:
            raise IntentError(
                "not_authority", "only an authority invites; ask one of the community", roles=mine.roles
            )
        community = await self.client.community()
        secret = secrets.token_bytes(32)
        link = InvitationLink(
            bytes.fromhex(community.genesis),
            checked_places(community.addresses) if given is None else given,
            invite(chain_id, self._signer, SoftwareSigner(secret).public_key, roles, expires),
            secret,
            await self._anchor(),
        )
        return encode_link(link)

    async def _anchor(self) -> Anchor | None:
        final = (await self.client.status()).final
        return Anchor(final, bytes.fromhex((await self.client.block(final)).hash)) if final else None

    async def join(
        self,
        link: InvitationLink | str,
        name: str,
        *,
        node: KeyText | None = None,
        roles: int | None = None,
        location: Location | None = None,
    ) -> str:
        """Become a member by an invitation: of its roles unless told otherwise, with the node's own key.

        Raises InvitationError for a damaged text, ClientError `community_mismatch` for another community's,
        and IntentError `node_key_missing`, `name_missing`.
        """
        if isinstance(link, str):
            link = decode_link(link)
        await self._require_chain(link)
        roles = link.invitation.roles if roles is None else roles
        body = bodies.member(
            self.stamp(),
            self.key,
            roles,
            await self._node_key(node, roles),
            bodies.name_hash(name),
            location=location,
            invitation=link.invitation,
        )
        return await self._act(body, link.signer)

    async def propose_membership(
        self,
        name: str,
        *,
        roles: int = HOUSEHOLD,
        node: KeyText | None = None,
        location: Location | None = None,
    ) -> str:
        """Return an own admission as text, for an authority to `agree` to: joining without an invitation."""
        key = await self._node_key(node, roles)
        return await self.propose(
            bodies.member(self.stamp(), self.key, roles, key, bodies.name_hash(name), location=location)
        )

    async def change_member(self, who: KeyText, **changes: Unpack[MemberChanges]) -> str:
        """Change a member's roles, node key, name or location, as an authority, or own ones but the roles."""
        view = await self.client.member(bodies.key_of(who).hex())
        return await self._act(bodies.changed_member(self.stamp(), view, **changes))

    async def revoke(self, who: KeyText) -> str:
        """Take all roles from a member, as an authority."""
        return await self.change_member(who, roles=0)

    async def change_node_key(self, node: KeyText) -> str:
        """Name another node as this member's."""
        return await self.change_member(self.key, node=node)

    async def _node_key(self, node: KeyText | None, roles: int) -> bytes | None:
        if node is not None:
            return bodies.key_of(node)
        if not roles & Role.NODE:
            return None
        connected = (await self.client.status()).node
        if connected is None:
            raise IntentError(
                "node_key_missing", "a member with the role node names its node's key; this node told none"
            )
        return bytes.fromhex(connected.key)

    async def _require_chain(self, link: InvitationLink) -> None:
        chain_id = await self.chain_id()
        if link.chain_id != chain_id:
            raise ClientError(
                "community_mismatch",
                f"the invitation is for {link.community.name!r}, the node belongs to another community",
                node=chain_id,
                invitation=link.chain_id,
            )
