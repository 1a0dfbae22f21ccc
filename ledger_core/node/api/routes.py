"""The table of routes: the server, the OpenAPI document and the tests all read it."""

from msgspec import Struct

from ledger_core.node.api import handlers, model, queries, views
from ledger_core.node.api.handlers import Handler

STREAM_PATH = "/v1/events/stream"
OPENAPI_PATH = "/openapi.json"


class Route(Struct, frozen=True, kw_only=True):
    """One operation: what may be asked, and what is answered."""

    path: str
    operation: str
    summary: str
    handler: Handler
    answer: type[Struct]
    method: str = "GET"
    path_type: type[queries.Query] = queries.Nothing
    query_type: type[queries.Query] = queries.Nothing
    body_type: type[queries.Query] | None = None
    status: int = 200


ROUTES: tuple[Route, ...] = (
    Route(
        path="/v1/status",
        operation="status",
        summary="How the node and its community are",
        handler=handlers.status,
        answer=model.StatusView,
    ),
    Route(
        path="/v1/community",
        operation="community",
        summary="What the community was founded with: its name, parameters and genesis",
        handler=handlers.community,
        answer=model.CommunityView,
    ),
    Route(
        path="/v1/peers",
        operation="peers",
        summary="Links to other homes' nodes",
        handler=handlers.peers,
        answer=model.Peers,
    ),
    Route(
        path="/v1/state-hash",
        operation="state_hash",
        summary="The hash of the state at the tip",
        handler=handlers.state_hash,
        answer=model.StateHashView,
    ),
    Route(
        path="/v1/mining",
        operation="mining",
        summary="Whether and how much this node mines",
        handler=handlers.mining,
        answer=model.MiningView,
    ),
    Route(
        method="POST",
        path="/v1/mining",
        operation="change_mining",
        summary="Switch mining on or off, or give it another share of a core",
        handler=handlers.change_mining,
        body_type=queries.MiningChange,
        answer=model.MiningView,
    ),
    Route(
        method="POST",
        path="/v1/voting/resume",
        operation="resume_voting",
        summary="Vote again, once no other copy of this node runs",
        handler=handlers.resume_voting,
        answer=model.StatusView,
    ),
    Route(
        path="/v1/members",
        operation="members",
        summary="Members, also revoked ones",
        handler=handlers.of_state(views.members),
        query_type=queries.MembersQuery,
        answer=model.Members,
    ),
    Route(
        path="/v1/members/{member}",
        operation="member",
        summary="One member",
        handler=handlers.of_one(views.one_member, "member"),
        path_type=queries.WhoPath,
        answer=model.MemberView,
    ),
    Route(
        path="/v1/assets",
        operation="assets",
        summary="Assets, also retired ones",
        handler=handlers.of_state(views.assets),
        query_type=queries.AssetsQuery,
        answer=model.Assets,
    ),
    Route(
        path="/v1/assets/{asset}",
        operation="asset",
        summary="One asset",
        handler=handlers.of_one(views.one_asset, "asset"),
        path_type=queries.AssetPath,
        answer=model.AssetView,
    ),
    Route(
        path="/v1/offers",
        operation="offers",
        summary="Open offers and requests",
        handler=handlers.of_state(views.offers),
        query_type=queries.OffersQuery,
        answer=model.Offers,
    ),
    Route(
        path="/v1/offers/{id}",
        operation="offer",
        summary="One open offer or request",
        handler=handlers.of_one(views.one_offer, "id"),
        path_type=queries.IdPath,
        answer=model.OfferView,
    ),
    Route(
        path="/v1/acceptances",
        operation="waiting_acceptances",
        summary="Acceptances that do not bind yet: changed terms and bids",
        handler=handlers.of_state(views.waiting_acceptances),
        query_type=queries.WaitingQuery,
        answer=model.WaitingAcceptances,
    ),
    Route(
        path="/v1/trades",
        operation="trades",
        summary="Trades that still have slots to settle",
        handler=handlers.of_state(views.trades),
        query_type=queries.TradesQuery,
        answer=model.Trades,
    ),
    Route(
        path="/v1/trades/{id}",
        operation="trade",
        summary="One trade that still has slots to settle",
        handler=handlers.of_one(views.one_trade, "id"),
        path_type=queries.IdPath,
        answer=model.TradeView,
    ),
    Route(
        path="/v1/accounts",
        operation="accounts",
        summary="Every member's money, energy and reputation",
        handler=handlers.of_state(views.accounts),
        query_type=queries.AccountsQuery,
        answer=model.Accounts,
    ),
    Route(
        path="/v1/accounts/{member}",
        operation="account",
        summary="One member's money, energy and reputation",
        handler=handlers.of_one(views.one_account, "member"),
        path_type=queries.WhoPath,
        answer=model.AccountView,
    ),
    Route(
        path="/v1/blocks",
        operation="blocks",
        summary="Blocks of the active branch, highest first",
        handler=handlers.blocks,
        query_type=queries.BlocksQuery,
        answer=model.Blocks,
    ),
    Route(
        path="/v1/blocks/{height}",
        operation="block",
        summary="One block of the active branch",
        handler=handlers.block,
        path_type=queries.HeightPath,
        answer=model.BlockView,
    ),
    Route(
        path="/v1/records/{id}",
        operation="record",
        summary="A record that waits or stands in a block",
        handler=handlers.record,
        path_type=queries.IdPath,
        query_type=queries.RecordQuery,
        answer=model.RecordView,
    ),
    Route(
        path="/v1/records/{id}/proof",
        operation="proof",
        summary="The proof that a record stands in a block",
        handler=handlers.proof,
        path_type=queries.IdPath,
        query_type=queries.RecordQuery,
        answer=model.ProofView,
    ),
    Route(
        method="POST",
        path="/v1/records",
        operation="submit",
        summary="Submit a signed record; the same one again changes nothing",
        handler=handlers.submit,
        body_type=queries.Submission,
        answer=model.Submitted,
        status=202,
    ),
    Route(
        method="POST",
        path="/v1/records/batch",
        operation="submit_batch",
        summary="Submit signed records in order; each is taken or refused by itself",
        handler=handlers.submit_batch,
        body_type=queries.BatchSubmission,
        answer=model.SubmittedBatch,
        status=202,
    ),
    Route(
        path="/v1/events",
        operation="events",
        summary="Events after a cursor, oldest first",
        handler=handlers.events,
        query_type=queries.EventsQuery,
        answer=model.Events,
    ),
)
