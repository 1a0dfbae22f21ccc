"""Every question to a node, typed."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from msgspec.structs import replace

from ledger_core.client.errors import AnswerInvalidError, ClientError, refusal
from ledger_core.client.event_stream import Backoff, EventStream
from ledger_core.client.transport import Find, Transport
from ledger_core.node.api import model, queries
from ledger_core.records.codec import Envelope, encode_envelope

MAX_ITEMS = 100_000
"""How much the methods that read every page return at the most."""


class NodeClient:
    """A node's API. Every method raises ClientError; use it in `async with`, or call `close`.

    Members are named by key in hexadecimal or by address. Lists come in pages; the `all_` methods read them
    one after another, so that what changes meanwhile may be seen in part.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_s: float = 10.0,
        find: Find | None = None,
    ) -> None:
        """Ask the node at a URL; `timeout_s` holds for each request.

        `find` is asked before each of them, in a thread, where the node is by then.
        Raises ClientError `url_invalid`, UnauthorizedError for a text that can be no token.
        """
        self._transport = Transport(url, token, session, timeout_s, find)

    async def close(self) -> None:
        """Close the connections; a session that was given stays open."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def status(self) -> model.StatusView:
        """Return how the node and its community are."""
        return await self._get("/v1/status", model.StatusView)

    async def version(self) -> str:
        """Return the node's version, which a node of any version tells."""
        return (await self._get("/v1/status", model.VersionView)).version

    async def state_hash(self) -> model.StateHashView:
        """Return the hash of the whole state, equal on every node after the same block."""
        return await self._get("/v1/state-hash", model.StateHashView)

    async def community(self) -> model.CommunityView:
        """Return what the community was founded with, and where the node is reached by others."""
        return await self._get("/v1/community", model.CommunityView)

    async def peers(self) -> list[model.PeerView]:
        """Return links to other homes' nodes."""
        return (await self._get("/v1/peers", model.Peers)).items

    async def dials(self) -> list[model.DialView]:
        """Return nodes that this one would like to be linked to and could not reach."""
        return (await self._get("/v1/peers", model.Peers)).dialling

    async def mining(self) -> model.MiningView:
        """Return whether and how much the node mines."""
        return await self._get("/v1/mining", model.MiningView)

    async def change_mining(self, *, on: bool | None = None, share: float | None = None) -> model.MiningView:
        """Switch mining, or give it another share of a core, until the node ends."""
        body = queries.MiningChange(on=on, share=share)
        return await self._transport.request("POST", "/v1/mining", model.MiningView, None, body)

    async def resume_voting(self) -> model.StatusView:
        """Have the node vote again: no other copy of it runs."""
        return await self._transport.request("POST", "/v1/voting/resume", model.StatusView)

    async def members(self, query: queries.MembersQuery | None = None) -> model.Members:
        """Return a page of members."""
        return await self._get("/v1/members", model.Members, query)

    async def member(self, who: str) -> model.MemberView:
        """Return a member; raises RefusedError `member_unknown`."""
        return await self._get(f"/v1/members/{_segment(who)}", model.MemberView)

    async def all_members(self) -> list[model.MemberView]:
        """Return every member."""
        return await _every(self.members, queries.MembersQuery(limit=500))

    async def assets(self, query: queries.AssetsQuery | None = None) -> model.Assets:
        """Return a page of assets."""
        return await self._get("/v1/assets", model.Assets, query)

    async def asset(self, asset: str) -> model.AssetView:
        """Return an asset; raises RefusedError `asset_unknown`."""
        return await self._get(f"/v1/assets/{_segment(asset)}", model.AssetView)

    async def all_assets(self, query: queries.AssetsQuery | None = None) -> list[model.AssetView]:
        """Return every asset that a query asks for."""
        return await _every(self.assets, query or queries.AssetsQuery(limit=500))

    async def offers(self, query: queries.OffersQuery | None = None) -> model.Offers:
        """Return a page of open offers and requests."""
        return await self._get("/v1/offers", model.Offers, query)

    async def offer(self, offer: str) -> model.OfferView:
        """Return an open offer; raises RefusedError `offer_unknown`."""
        return await self._get(f"/v1/offers/{_segment(offer)}", model.OfferView)

    async def all_offers(self, query: queries.OffersQuery | None = None) -> list[model.OfferView]:
        """Return every open offer that a query asks for."""
        return await _every(self.offers, query or queries.OffersQuery(limit=500))

    async def waiting_acceptances(
        self, query: queries.WaitingQuery | None = None
    ) -> model.WaitingAcceptances:
        """Return a page of acceptances that do not bind yet."""
        return await self._get("/v1/acceptances", model.WaitingAcceptances, query)

    async def all_waiting_acceptances(
        self, query: queries.WaitingQuery | None = None
    ) -> list[model.WaitingView]:
        """Return every acceptance that does not bind yet."""
        return await _every(self.waiting_acceptances, query or queries.WaitingQuery(limit=500))

    async def trades(self, query: queries.TradesQuery | None = None) -> model.Trades:
        """Return a page of trades that still have slots to settle."""
        return await self._get("/v1/trades", model.Trades, query)

    async def trade(self, trade: str) -> model.TradeView:
        """Return a trade that still has slots to settle; raises RefusedError `trade_unknown`."""
        return await self._get(f"/v1/trades/{_segment(trade)}", model.TradeView)

    async def all_trades(self, query: queries.TradesQuery | None = None) -> list[model.TradeView]:
        """Return every trade that a query asks for."""
        return await _every(self.trades, query or queries.TradesQuery(limit=500))

    async def accounts(self, query: queries.AccountsQuery | None = None) -> model.Accounts:
        """Return a page of accounts."""
        return await self._get("/v1/accounts", model.Accounts, query)

    async def account(self, who: str) -> model.AccountView:
        """Return a member's account; raises RefusedError `member_unknown`."""
        return await self._get(f"/v1/accounts/{_segment(who)}", model.AccountView)

    async def all_accounts(self) -> list[model.AccountView]:
        """Return every account."""
        return await _every(self.accounts, queries.AccountsQuery(limit=500))

    async def blocks(self, query: queries.BlocksQuery | None = None) -> model.Blocks:
        """Return blocks of the active branch, highest first."""
        return await self._get("/v1/blocks", model.Blocks, query)

    async def block(self, height: int) -> model.BlockView:
        """Return a block of the active branch; raises RefusedError `block_unknown`."""
        return await self._get(f"/v1/blocks/{height}", model.BlockView)

    async def record(self, record: str, height: int | None = None) -> model.RecordView:
        """Return a record; raises RefusedError `record_unknown`.

        Without its block's height only what waits and the newest blocks are searched.
        """
        path = f"/v1/records/{_segment(record)}"
        return await self._get(path, model.RecordView, queries.RecordQuery(height=height))

    async def proof(self, record: str, height: int | None = None) -> model.ProofView:
        """Return the proof that a record stands in a block; raises as `record`."""
        path = f"/v1/records/{_segment(record)}/proof"
        return await self._get(path, model.ProofView, queries.RecordQuery(height=height))

    async def submit(self, envelope: Envelope) -> str:
        """Hand in a signed record; returns its id. The same one again changes nothing.

        Raises RefusedError with the code of the rule that refuses it, and its figures.
        """
        body = queries.Submission(envelope=encode_envelope(envelope))
        answer = await self._transport.request("POST", "/v1/records", model.Submitted, None, body)
        return answer.record

    async def submit_all(self, envelopes: Sequence[Envelope]) -> list[str | ClientError]:
        """Hand in up to 256 signed records; returns for each its id, or why it was refused."""
        body = queries.BatchSubmission(envelopes=[encode_envelope(envelope) for envelope in envelopes])
        answer = await self._transport.request("POST", "/v1/records/batch", model.SubmittedBatch, None, body)
        return [_taken(item) for item in answer.items]

    async def events(self, query: queries.EventsQuery | None = None) -> model.Events:
        """Return a page of events after a cursor; raises CursorLostError."""
        return await self._get("/v1/events", model.Events, query)

    def stream(
        self,
        after: str | None = None,
        *,
        backoff: Backoff | None = None,
        on_connection: Callable[[bool], None] | None = None,
    ) -> EventStream:
        """Return the events after a cursor, or from now on, as they happen; see EventStream."""
        return EventStream(self._transport, after, backoff or Backoff(), on_connection)

    async def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document that the node serves."""
        return await self._get("/openapi.json", dict[str, Any])

    async def _get[A](self, path: str, kind: type[A], query: queries.Query | None = None) -> A:
        return await self._transport.request("GET", path, kind, query)


async def _every(ask: Callable[[Any], Awaitable[Any]], query: Any) -> list[Any]:
    items: list[Any] = []
    while True:
        page = await ask(query)
        items += page.items
        if page.next is None or len(items) >= MAX_ITEMS:
            return items
        query = replace(query, after=page.next)


def _taken(item: model.BatchItem) -> str | ClientError:
    if item.problem is not None:
        return refusal(422, item.problem.code, item.problem.message, item.problem.details)
    if item.record is None:
        raise AnswerInvalidError("answer_invalid", "a record of a batch was neither taken nor refused")
    return item.record


def _segment(text: str) -> str:
    """Return a text as one segment of a path, so that a mistyped one can't ask for something else."""
    return quote(text, safe="") or "%20"
