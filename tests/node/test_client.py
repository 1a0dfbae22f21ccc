"""The client library against a real API: typed answers, one family of errors, streams that go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ledger_core.client import (
    AnswerInvalidError,
    Backoff,
    ClientError,
    CursorLostError,
    EventStream,
    NodeClient,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from ledger_core.community import decode_genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.node.api import openapi, queries, views
from ledger_core.node.api.event_log import Entry
from ledger_core.node.api.guard import ApiLimits
from ledger_core.node.api.model import EventView
from ledger_core.records.types import Side
from tests.core.actions import SLOT, WINDOW, offer, street
from tests.core.scenario import eventful_world
from tests.core.world import asset_id
from tests.node.api_world import TOKEN, ApiWorld, api_world

LIMIT_S = 30.0
QUICK = Backoff(0.01, 0.05)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    async with api_world(tmp_path, eventful_world()) as made:
        yield made


@pytest.fixture
async def client(api: ApiWorld) -> AsyncIterator[NodeClient]:
    async with NodeClient(api.server.url, TOKEN) as made:
        yield made


async def test_every_question_has_its_answer(api: ApiWorld, client: NodeClient) -> None:
    state, anna = api.world.state, address(api.world["anna"].id)
    status = await client.status()
    assert (status.community, status.tip) == (state.genesis.name, views.as_of(state))
    community = await client.community()
    assert decode_genesis(bytes.fromhex(community.genesis)) == state.genesis
    assert (community.chain_id, community.addresses) == (status.chain_id, ["anna.example:7946"])
    assert community.parameters["slot_s"] == state.parameters.slot_s
    assert (await client.peers())[0].address == "10.0.0.7:7946"
    assert await client.members() == views.members(state, queries.MembersQuery())
    assert (await client.member(anna)).member.address == anna
    assert await client.assets() == views.assets(state, queries.AssetsQuery())
    assert (await client.asset(asset_id("anna pv").hex())).owner.address == anna
    sales = queries.OffersQuery(side=Side.SELL, visible_to=anna, limit=7)
    assert await client.offers(sales) == views.offers(state, sales)
    one = next(iter(state.offers)).hex()
    assert await client.offer(one) == views.one_offer(state, one)
    assert await client.waiting_acceptances() == views.waiting_acceptances(state, queries.WaitingQuery())
    assert await client.trades() == views.trades(state, queries.TradesQuery())
    trade = next(iter(state.trades)).hex()
    assert await client.trade(trade) == views.one_trade(state, trade)
    assert await client.accounts() == views.accounts(state, queries.AccountsQuery())
    assert await client.account(anna) == views.one_account(state, anna)
    blocks = await client.blocks(queries.BlocksQuery(limit=50))
    assert await client.block(3) == blocks.items[-3]
    record = next(block.records[0] for block in blocks.items if block.records)
    found = await client.record(record)
    assert found == await client.record(record, found.height)
    assert (await client.proof(record, found.height)).block == blocks.items[-(found.height or 0)].hash
    assert (await client.events()).cursor == status.cursor
    assert await client.openapi() == openapi.document()


async def test_all_pages_together_are_the_whole(api: ApiWorld, client: NodeClient) -> None:
    state = api.world.state
    assert await client.all_members() == (await client.members()).items
    assert await client.all_assets(queries.AssetsQuery(limit=1)) == (await client.assets()).items
    assert len(await client.all_offers(queries.OffersQuery(limit=1))) == len(state.offers)
    assert len(await client.all_trades(queries.TradesQuery(limit=1))) == len(state.trades)
    assert len(await client.all_waiting_acceptances()) == len(state.waiting)
    assert len(await client.all_accounts()) == len(state.members)


async def test_a_record_is_submitted_and_a_refusal_brings_its_figures(
    api: ApiWorld, client: NodeClient
) -> None:
    good = offer(api.world, start=WINDOW + 100 * SLOT)
    assert await client.submit(good.envelope) == await client.submit(good.envelope) == good.id.hex()
    with pytest.raises(RefusedError) as caught:
        await client.submit(offer(api.world, start=WINDOW + 100 * SLOT, quantity=90_000).envelope)
    assert (caught.value.code, caught.value.status) == ("power_unavailable", 409)
    assert caught.value.details["wanted_w"] == 90_000
    assert not caught.value.may_pass


async def test_of_several_records_each_is_taken_or_refused_by_itself(
    api: ApiWorld, client: NodeClient
) -> None:
    good = offer(api.world, start=WINDOW + 100 * SLOT)
    too_much = offer(api.world, start=WINDOW + 100 * SLOT, quantity=90_000)
    refused, taken = await client.submit_all([too_much.envelope, good.envelope])
    assert taken == good.id.hex()
    assert isinstance(refused, RefusedError)
    with pytest.raises(RefusedError) as alone:
        await client.submit(too_much.envelope)
    assert (refused.code, refused.details) == (alone.value.code, alone.value.details)


@pytest.mark.parametrize("who", ["", "..", "a/b", "?x=1", "ü", "%2e%2e"])
async def test_a_mistyped_member_is_refused_as_one(client: NodeClient, who: str) -> None:
    with pytest.raises(RefusedError) as caught:
        await client.member(who)
    assert caught.value.code in ("request_invalid", "path_unknown")


async def test_a_wrong_token(api: ApiWorld) -> None:
    async with NodeClient(api.server.url, "wrong") as client:
        with pytest.raises(UnauthorizedError):
            await client.status()
        with pytest.raises(UnauthorizedError):
            async for _ in client.stream(backoff=QUICK):
                pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://127.0.0.1/",
        "http://",
        "http://127.0.0.1:notaport",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:0",
        "http://[::1",
        "http://[zz]:9",
        "http://anna:secret@127.0.0.1:9",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ClientError, match="node's URL") as caught:
        NodeClient(url, TOKEN)
    assert caught.value.code == "url_invalid"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("token", ["two\nlines", "ü", "\0"])
def test_a_token_that_can_be_none(token: str) -> None:
    with pytest.raises(UnauthorizedError, match="no node's token"):
        NodeClient("http://127.0.0.1:9", token)


async def test_nobody_there() -> None:
    async with NodeClient("http://127.0.0.1:9", TOKEN) as client:
        with pytest.raises(UnreachableError, match=r"at http://127\.0\.0\.1:9: Connection refused$"):
            await client.status()
    async with NodeClient("http://no-such-node.invalid", TOKEN) as client:
        with pytest.raises(UnreachableError, match=r"no-such-node\.invalid: [^\[]*$"):
            await client.status()


async def serve(answer: Any) -> tuple[web.AppRunner, str]:
    async def handle(request: web.Request) -> web.Response:
        if answer is None:
            await asyncio.sleep(LIMIT_S)
        return web.Response(body=answer[1], status=answer[0])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, b"<html>"), AnswerInvalidError),
        ((200, b"{}"), AnswerInvalidError),
        ((302, b"elsewhere"), AnswerInvalidError),
        ((500, b"oops"), AnswerInvalidError),
        ((200, b'"' + b"x" * 17_000_000 + b'"'), AnswerInvalidError),
        ((503, b'{"code": "disk_full", "message": "full", "details": {}}'), RefusedError),
        (None, TimedOutError),
    ],
)
async def test_what_is_no_node_answers(answer: Any, error: type[ClientError]) -> None:
    runner, url = await serve(answer)
    async with NodeClient(url, TOKEN, timeout_s=0.5 if answer is None else 10.0) as client:
        with pytest.raises(error):
            await client.status()
    await runner.cleanup()


async def test_a_session_that_was_given_stays_open(api: ApiWorld) -> None:
    async with aiohttp.ClientSession() as session:
        async with NodeClient(api.server.url, TOKEN, session=session) as client:
            await client.status()
        assert not session.closed


async def take(stream: EventStream, count: int) -> list[EventView]:
    found: list[EventView] = []
    async with asyncio.timeout(LIMIT_S), aclosing(aiter(stream)) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_stream_goes_on_through_a_restart_of_the_node(tmp_path: Path) -> None:
    """Nothing is lost and nothing comes twice, whatever happens while the node is away."""
    world = street()
    told: list[bool] = []
    async with api_world(tmp_path, world) as api:
        port, first = api.server.port, api.log.cursor
        client = NodeClient(api.server.url, TOKEN)
        stream = client.stream(first, backoff=QUICK, on_connection=told.append)
        reading = asyncio.create_task(take(stream, 30))
        async with asyncio.timeout(LIMIT_S):
            while not told:
                await asyncio.sleep(0.01)
        api.log.append([Entry("test", None, None, 0, {"number": number}) for number in range(10)])
    async with api_world(tmp_path, world, port=port) as api:
        api.log.append([Entry("test", None, None, 0, {"number": number}) for number in range(10, 20)])
        await api.server.close()
        api.log.append([Entry("test", None, None, 0, {"number": number}) for number in range(20, 30)])
        await api.server.start()
        found = await reading
        await client.close()
    assert [event.data["number"] for event in found] == list(range(30))
    assert told[0] is True
    assert told.count(False) >= 1


async def test_the_node_is_looked_for_before_every_question(tmp_path: Path, api: ApiWorld) -> None:
    places: list[Any] = []

    def find() -> tuple[str, str]:
        place = places.pop(0)
        if isinstance(place, Exception):
            raise place
        return place, TOKEN

    async with NodeClient("http://127.0.0.1:9", TOKEN, find=find) as client:
        places.append(api.server.url)
        status = await client.status()
        for lost, text in (
            (LedgerError("node_not_running", "no node runs on anna"), "no node runs on anna"),
            (OSError(5, "Input/output error"), "Input/output error"),
        ):
            places.append(lost)
            with pytest.raises(UnreachableError, match=text):
                await client.status()
        # A stream waits, and finds it where it is then.
        places.extend([LedgerError("node_not_running", "no node"), "http://127.0.0.1:9", api.server.url])
        api.log.append([Entry("test", None, None, 0, {"found": "again"})])
        (event,) = await take(client.stream(status.cursor, backoff=QUICK), 1)
        assert event.data == {"found": "again"}
    assert places == []


async def test_who_stops_listening_is_not_told_that_the_connection_broke(
    api: ApiWorld, client: NodeClient
) -> None:
    told: list[bool] = []
    cursor = api.log.cursor
    api.log.append([Entry("test", None, None, 0, {})])
    await take(client.stream(cursor, backoff=QUICK, on_connection=told.append), 1)
    listening = asyncio.create_task(take(client.stream(cursor, backoff=QUICK, on_connection=told.append), 2))
    async with asyncio.timeout(LIMIT_S):
        while len(told) < 2:
            await asyncio.sleep(0.01)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert told == [True, True]


async def test_a_stream_from_now_on_keeps_its_place_before_the_first_event(
    api: ApiWorld, client: NodeClient
) -> None:
    connected = asyncio.Event()
    stream = client.stream(backoff=QUICK, on_connection=lambda up: connected.set() if up else None)
    reading = asyncio.create_task(take(stream, 1))
    async with asyncio.timeout(LIMIT_S):
        await connected.wait()
        while stream.cursor is None:
            await asyncio.sleep(0.01)
        await api.server.close()
        api.log.append([Entry("test", None, None, 0, {"while": "away"})])
        await api.server.start()
        assert [event.data for event in await reading] == [{"while": "away"}]


async def test_a_cursor_that_is_lost_ends_the_stream(api: ApiWorld, client: NodeClient) -> None:
    with pytest.raises(CursorLostError) as caught:
        await take(client.stream("5-0123456789abcdef", backoff=QUICK), 1)
    assert caught.value.code == "cursor_unknown"


async def test_a_busy_node_is_asked_again(tmp_path: Path) -> None:
    limits = ApiLimits(streams=1)
    async with (
        api_world(tmp_path, street(), limits=limits) as api,
        NodeClient(api.server.url, TOKEN) as client,
    ):
        cursor = api.log.cursor
        api.log.append([Entry("test", None, None, 0, {})])
        first = aiter(client.stream(cursor, backoff=QUICK))
        async with asyncio.timeout(LIMIT_S):
            await anext(first)
            second = asyncio.create_task(take(client.stream(cursor, backoff=QUICK), 1))
            await asyncio.sleep(0.1)
            assert not second.done()
            await first.aclose()
            assert len(await second) == 1


def test_pauses_grow_to_a_bound() -> None:
    backoff = Backoff(1.0, 8.0)
    assert 0.5 <= backoff.pause(0) <= 1.0
    assert 4.0 <= backoff.pause(100) <= 8.0
