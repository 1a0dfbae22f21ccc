"""The API on a real port: answers and their schemas, the token, limits, refusals, streams, and a fuzz."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_core.chain.pending import NodeKeys
from ledger_core.node.api import openapi, token
from ledger_core.node.api.guard import ApiLimits
from ledger_core.node.api.plain import fields
from ledger_core.node.api.routes import OPENAPI_PATH, ROUTES, STREAM_PATH, Route
from ledger_core.node.api.server import ApiError, ApiServer
from ledger_core.records.codec import Record, encode_envelope, kinds
from ledger_core.rules.apply import apply_block
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from tests.core.actions import SLOT, WINDOW, offer, street
from tests.core.scenario import eventful_world
from tests.core.world import World, asset_id
from tests.node.api_world import AUTHORIZED, TOKEN, ApiWorld, api_world, require_schema

LIMIT_S = 30.0


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    async with api_world(tmp_path, eventful_world()) as made:
        yield made


@pytest.fixture
async def http(api: ApiWorld) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(api.server.url, headers=AUTHORIZED) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str, **query: Any) -> tuple[int, Any]:
    async with http.get(path, params=query) as response:
        return response.status, await response.json()


def body_of(record: Record) -> dict[str, str]:
    return {"envelope": base64.b64encode(encode_envelope(record.envelope)).decode()}


def later_offer(world: World, **fields: Any) -> Record:
    return offer(world, start=WINDOW + 100 * SLOT, **fields)


def paths_of(world: World) -> dict[str, str]:
    """A path with something there for each route."""
    state = world.state
    record = next(
        each["records"][0]
        for each in (
            {"records": [r.hex() for r in _ids(world, height)]} for height in range(len(world.blocks), 0, -1)
        )
        if each["records"]
    )
    return {
        "{member}": world["anna"].id.hex(),
        "{asset}": asset_id("anna pv").hex(),
        "/v1/offers/{id}": next(iter(state.offers)).hex(),
        "/v1/trades/{id}": next(iter(state.trades)).hex(),
        "/v1/records/{id}": record,
        "{height}": "3",
    }


def _ids(world: World, height: int) -> list[bytes]:
    from ledger_core.records.block import decode_block_body

    body = decode_block_body(world.blocks[height - 1].body)
    return [world.opened(envelope).id for envelope in body.records]


def filled(route: Route, values: dict[str, str]) -> str:
    path = route.path
    for key, value in values.items():
        if path.startswith(key) and key.endswith("{id}"):
            path = path.replace("{id}", value)
        path = path.replace(key, value) if not key.startswith("/") else path
    return path


async def test_every_answer_is_what_its_schema_says(api: ApiWorld, http: aiohttp.ClientSession) -> None:
    status, document = await get(http, OPENAPI_PATH)
    assert status == 200
    assert document == openapi.document()
    values = paths_of(api.world)
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        path = filled(route, values)
        bodies: dict[str, Any] = {
            "submit": body_of(later_offer(api.world)),
            "submit_batch": {"envelopes": [body_of(later_offer(api.world))["envelope"], "AAAA"]},
            "change_mining": {"share": 0.5},
        }
        body = bodies[route.operation] if route.body_type else None
        async with http.request(route.method, path, json=body) as response:
            answer = await response.json()
            assert response.status == route.status, (route.path, answer)
        content = operation["responses"][str(route.status)]["content"]
        assert response.content_type in content
        require_schema(answer, content["application/json"]["schema"], document)


async def test_every_record_and_event_is_described_to_its_last_field(
    api: ApiWorld, http: aiohttp.ClientSession
) -> None:
    document = openapi.document()
    views = document["components"]["schemas"]
    described = {
        name: {
            choice["properties"][tag]["const"]: choice["properties"][payload]
            for choice in views[name]["oneOf"]
        }
        for name, tag, payload in (("RecordView", "kind", "body"), ("EventView", "event", "data"))
    }
    assert set(described["RecordView"]) == {kind.KIND for kind in kinds()}
    assert all("$ref" in schema for each in described.values() for schema in each.values())
    await http.post("/v1/records", json=body_of(later_offer(api.world)))
    await api.mine()
    _, page = await get(http, "/v1/events")
    told = page["items"][-1]
    # The other blocks were there before the log: tell what they did as it would have.
    events = [(event["event"], event["data"]) for event in page["items"]]
    seen, state = set(), genesis_state(api.world.genesis)
    for block in api.world.blocks:
        prepared = prepare_block(block, api.world.genesis, api.world.chain_id, NodeKeys(state.nodes))
        prepared.verified = True
        applied = apply_block(state, prepared, api.world.now)
        events += [(str(each.__struct_config__.tag), fields(each)) for each in applied.events]
        for record in prepared.records:
            _, answer = await get(http, f"/v1/records/{record.id.hex()}")
            require_schema(answer, views["RecordView"], document)
            seen.add(answer["kind"])
    assert {"member", "asset", "offer", "acceptance", "reading", "termination"} <= seen
    for name, data in events:
        require_schema({**told, "event": name, "data": data}, views["EventView"], document)
    assert {"block_connected", "offer_opened", "trade_agreed", "slot_settled", "money_moved"} <= dict(
        events
    ).keys()


def test_the_document_names_every_parameter_of_every_path() -> None:
    document = openapi.document()
    assert set(document["paths"]) == {route.path for route in ROUTES} | {STREAM_PATH}
    identifiers = [
        operation["operationId"] for item in document["paths"].values() for operation in item.values()
    ]
    assert len(set(identifiers)) == len(identifiers)
    for path, item in document["paths"].items():
        for operation in item.values():
            wanted = {part[1:-1] for part in path.split("/") if part.startswith("{")}
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == wanted
            assert all(each["required"] == (each["in"] == "path") for each in operation["parameters"])
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"bearer{TOKEN}", TOKEN, "Bearer ü"]
)
async def test_without_the_token_nothing_is_told(api: ApiWorld, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with aiohttp.ClientSession(api.server.url, headers=headers) as session:
        for path in ("/v1/status", OPENAPI_PATH, STREAM_PATH, "/nothing"):
            async with session.get(path) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert (await response.json())["code"] == "unauthorized"


@pytest.mark.parametrize("header", [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer   {TOKEN}"])
async def test_the_schemes_name_has_no_case(api: ApiWorld, header: str) -> None:
    async with aiohttp.ClientSession(api.server.url, headers={"Authorization": header}) as http:
        assert (await get(http, "/v1/status"))[0] == 200


async def test_guessing_tokens_is_slowed_and_does_not_lock_the_owner_out(
    api: ApiWorld, http: aiohttp.ClientSession
) -> None:
    async with aiohttp.ClientSession(api.server.url) as stranger:
        codes = [(await stranger.get("/v1/status")).status for _ in range(40)]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert (await get(http, "/v1/status"))[0] == 200


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/v1/offers", {"limit": "0"}, 400, "request_invalid"),
        ("/v1/offers", {"limit": "501"}, 400, "request_invalid"),
        ("/v1/offers", {"colour": "green"}, 400, "request_invalid"),
        ("/v1/offers", {"author": "anna"}, 400, "request_invalid"),
        ("/v1/offers", {"author": "el1" + "q" * 58}, 400, "address_checksum"),
        ("/v1/offers", {"side": "give"}, 400, "request_invalid"),
        ("/v1/offers/00", {}, 400, "request_invalid"),
        ("/v1/offers/" + "00" * 32, {}, 404, "offer_unknown"),
        ("/v1/blocks/0", {}, 404, "block_unknown"),
        ("/v1/blocks/99999", {}, 404, "block_unknown"),
        ("/v1/blocks/-1", {}, 400, "request_invalid"),
        ("/v1/records/" + "00" * 32, {}, 404, "record_unknown"),
        ("/v1/records/" + "00" * 32, {"height": "2"}, 404, "record_unknown"),
        ("/v1/records/" + "00" * 32 + "/proof", {"height": "4000000000"}, 404, "block_unknown"),
        ("/v1/events", {"after": "1-0000000000000000"}, 410, "cursor_unknown"),
        ("/v1/events", {"after": "soon"}, 400, "request_invalid"),
        (STREAM_PATH, {}, 426, "websocket_needed"),
        (STREAM_PATH, {"after": "1-0000000000000000"}, 410, "cursor_unknown"),
        ("/v2/offers", {}, 404, "path_unknown"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    http: aiohttp.ClientSession, path: str, query: dict[str, str], status: int, code: str
) -> None:
    found, problem = await get(http, path, **query)
    assert (found, problem["code"]) == (status, code)
    document = openapi.document()
    require_schema(problem, document["components"]["schemas"]["Problem"], document)


async def test_a_parameter_given_twice_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/offers?limit=1&limit=2") as response:
        assert response.status == 400


async def test_methods_and_media_types(http: aiohttp.ClientSession) -> None:
    async with http.delete("/v1/offers") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
    async with http.post("/v1/records", data=b"x") as response:
        assert response.status == 415
    async with http.post("/v1/records", data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert (response.status, (await response.json())["code"]) == (400, "request_invalid")


async def test_a_large_body_is_not_read(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/records", json={"envelope": "A" * 200_000}) as response:
        assert (response.status, (await response.json())["code"]) == (413, "request_too_large")


async def test_pages_of_blocks_lead_down_to_the_first(api: ApiWorld, http: aiohttp.ClientSession) -> None:
    heights: list[int] = []
    query: dict[str, Any] = {"limit": 4}
    while True:
        status, page = await get(http, "/v1/blocks", **query)
        assert status == 200
        heights += [block["height"] for block in page["items"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert heights == list(range(len(api.world.blocks), 0, -1))


async def test_a_submitted_record_waits_then_stands_in_a_block(
    api: ApiWorld, http: aiohttp.ClientSession
) -> None:
    record = later_offer(api.world)
    for _ in range(2):
        async with http.post("/v1/records", json=body_of(record)) as response:
            assert response.status == 202
            assert (await response.json()) == {"record": record.id.hex()}
    path = f"/v1/records/{record.id.hex()}"
    assert (await get(http, path))[1]["state"] == "waiting"
    assert (await get(http, path + "/proof"))[0] == 404
    await api.mine()
    status, found = await get(http, path)
    assert (status, found["state"], found["height"]) == (200, "included", len(api.world.blocks) + 1)
    assert (await get(http, path, height=found["height"]))[1] == found
    assert (await get(http, path + "/proof"))[1]["record"] == record.id.hex()
    opened = await get(http, f"/v1/offers/{record.id.hex()}")
    assert opened[1]["open"] == 4_000


async def test_a_refused_record_tells_the_rules_code_and_figures(
    api: ApiWorld, http: aiohttp.ClientSession
) -> None:
    record = later_offer(api.world, quantity=90_000)
    async with http.post("/v1/records", json=body_of(record)) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (409, "power_unavailable")
    assert problem["details"]["left_w"] == 10_000
    forged = record.envelope.signature[::-1]
    from msgspec.structs import replace

    bad = replace(later_offer(api.world), envelope=replace(later_offer(api.world).envelope, signature=forged))
    async with http.post("/v1/records", json=body_of(bad)) as response:
        assert response.status in (400, 409)
        assert (await response.json())["code"] == "signature_invalid"


async def test_a_stream_goes_on_where_the_client_left(api: ApiWorld, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(LIMIT_S), http.ws_connect(STREAM_PATH) as stream:
        hello = await stream.receive_json()
        assert hello == {"items": [], "cursor": api.log.cursor}
        await api.mine()
        first = await stream.receive_json()
    assert [event["height"] for event in first["items"] if event["event"] == "block_connected"]
    await api.mine()
    await api.mine()
    heights: list[int] = []
    async with (
        asyncio.timeout(LIMIT_S),
        http.ws_connect(STREAM_PATH, params={"after": first["cursor"]}) as stream,
    ):
        while len(heights) < 2:
            page = await stream.receive_json()
            heights += [event["height"] for event in page["items"] if event["event"] == "block_connected"]
    top = len(api.world.blocks)
    assert heights == [top + 2, top + 3]


async def until_closed(stream: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in stream:
        pass


async def test_many_streams_are_refused_and_closing_makes_room(tmp_path: Path) -> None:
    async with api_world(tmp_path, street(), limits=ApiLimits(streams=2)) as api, asyncio.timeout(LIMIT_S):
        http = aiohttp.ClientSession(api.server.url, headers=AUTHORIZED)
        async with http:
            streams = [await http.ws_connect(STREAM_PATH) for _ in range(2)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(STREAM_PATH)
            assert caught.value.status == HTTPStatus.TOO_MANY_REQUESTS
            await streams.pop().close()
            while True:
                try:
                    streams.append(await http.ws_connect(STREAM_PATH))
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.01)
            async with asyncio.TaskGroup() as tasks:
                # A client answers the farewell while it listens.
                for each in streams:
                    tasks.create_task(until_closed(each))
                tasks.create_task(api.server.close())
            assert streams[0].close_code == aiohttp.WSCloseCode.GOING_AWAY


async def test_a_client_that_answers_no_ping_is_let_go_and_one_that_does_stays(tmp_path: Path) -> None:
    limits = ApiLimits(heartbeat_s=0.2)
    async with (
        api_world(tmp_path, street(), limits=limits) as api,
        aiohttp.ClientSession(api.server.url, headers=AUTHORIZED) as http,
        asyncio.timeout(LIMIT_S),
        http.ws_connect(STREAM_PATH, autoping=False) as dead,
        http.ws_connect(STREAM_PATH, autoping=False) as alive,
    ):
        await alive.ping(b"are you there")
        pongs = 0
        while (message := await alive.receive()).type is not aiohttp.WSMsgType.CLOSE and pongs < 8:
            if message.type is aiohttp.WSMsgType.PING:
                await alive.pong(message.data)
                pongs += 1
        assert pongs == 8
        told = [message.type async for message in dead]
        assert aiohttp.WSMsgType.PING in told
        assert dead.close_code == aiohttp.WSCloseCode.OK


async def test_rates_and_requests_at_once_are_bounded(tmp_path: Path) -> None:
    limits = ApiLimits(requests_per_s=0.001, burst=5)
    async with api_world(tmp_path, street(), limits=limits) as api:
        http = aiohttp.ClientSession(api.server.url, headers=AUTHORIZED)
        async with http:
            codes = [(await get(http, "/v1/status"))[0] for _ in range(6)]
    assert codes == [200] * 5 + [429]


async def test_a_slow_body_is_given_up(tmp_path: Path) -> None:
    async with (
        api_world(tmp_path, street(), limits=ApiLimits(request_s=0.2)) as api,
        asyncio.timeout(LIMIT_S),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
        writer.write(
            b"POST /v1/records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert b"408" in await reader.readline()
        await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_a_port_in_use_names_the_setting(api: ApiWorld) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for host, port, code in (
            ("127.0.0.1", taken.getsockname()[1], "api_port_in_use"),
            ("192.0.2.1", 0, "api_host_unusable"),
        ):
            server = ApiServer(api.server._backend, TOKEN, host, port)
            with pytest.raises(ApiError, match="set api_") as caught:
                await server.start()
            assert caught.value.code == code


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    with pytest.raises(token.TokenError, match="is not there"):
        token.load_token(tmp_path)
    made = token.load_or_make_token(tmp_path)
    path = tmp_path / token.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert token.load_or_make_token(tmp_path) == token.load_token(tmp_path) == made
    assert token.is_token(f"Bearer {made}", made)
    path.chmod(0o640)
    with pytest.raises(token.TokenError, match="0600"):
        token.load_token(tmp_path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(token.TokenError, match="32 to 128"):
        token.load_or_make_token(tmp_path)


_NAMES = sorted({name for route in ROUTES for name in route.query_type.__struct_fields__})
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=80)
_VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(
        ["", "null", "true", "1e3", "sell", "electricity", "pv", "0" * 64, "f" * 32, "1-" + "0" * 16]
    ),
    _TEXT,
)
_SEGMENTS = st.one_of(st.sampled_from(["0" * 64, "0" * 32, "1", "7", "%00", "%ff", ".."]), _TEXT)
_BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["envelope", "x"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=300).map(
        lambda data: json.dumps({"envelope": base64.b64encode(data).decode()}).encode()
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    route = draw(st.sampled_from(ROUTES))
    parts = [draw(_SEGMENTS) if part.startswith("{") else part for part in route.path.split("/")]
    return {
        "method": draw(
            st.sampled_from([route.method, route.method, "GET", "POST", "PUT", "HEAD", "OPTIONS"])
        ),
        "path": "/".join(parts),
        "params": draw(st.dictionaries(st.one_of(st.sampled_from(_NAMES), _TEXT), _VALUES, max_size=3)),
        "data": draw(_BODIES) if draw(st.booleans()) else None,
        "type": draw(st.sampled_from(["application/json", "text/plain", "application/json; charset=x"])),
    }


async def test_no_request_is_answered_with_a_mistake_of_the_program(tmp_path: Path) -> None:
    """Requests of every shape: none gives a 5xx, and what is told fits the served document."""
    document = openapi.document()
    problem = document["components"]["schemas"]["Problem"]
    answers = {route.operation: route for route in ROUTES}
    assert len(answers) == len(ROUTES)
    loop = asyncio.get_running_loop()
    async with api_world(tmp_path, eventful_world()) as api:
        http = aiohttp.ClientSession(headers=AUTHORIZED)
        async with http:

            async def ask(request: dict[str, Any]) -> tuple[int, bytes]:
                from yarl import URL

                url = URL(api.server.url).joinpath(*request["path"].strip("/").split("/"))
                async with http.request(
                    request["method"],
                    url,
                    params=request["params"],
                    data=request["data"],
                    headers={"Content-Type": request["type"]},
                    allow_redirects=False,
                ) as response:
                    return response.status, await response.read()

            @settings(max_examples=300, deadline=None)
            @given(request=requests())
            def fuzz(request: dict[str, Any]) -> None:
                status, body = asyncio.run_coroutine_threadsafe(ask(request), loop).result(LIMIT_S)
                assert status < 500
                if status >= 400 and body:
                    require_schema(json.loads(body), problem, document)

            await asyncio.to_thread(fuzz)
            assert (await get_status(http, api)) == 200


async def get_status(http: aiohttp.ClientSession, api: ApiWorld) -> int:
    async with http.get(api.server.url + "/v1/status") as response:
        return response.status
