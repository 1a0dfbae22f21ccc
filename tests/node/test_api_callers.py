"""Callers that speak HTTP badly, too slowly, too often or not at all, on real sockets."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_parser import HttpRequestParserPy

from ledger_core.node.api import openapi
from ledger_core.node.api.guard import ApiLimits
from ledger_core.node.api.routes import STREAM_PATH
from tests.core.actions import street
from tests.node.api_world import AUTHORIZED, TOKEN, ApiWorld, api_world, require_schema

LIMIT_S = 30.0
SERVER_LOGGER = "ledger_core.node.api.server"
JSON_BODY = {**AUTHORIZED, "Content-Type": "application/json"}
POST = (
    b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
)
GET = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    async with api_world(tmp_path, street()) as made:
        yield made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.005)


async def answer_to(api: ApiWorld, request: bytes) -> tuple[int, str, bytes]:
    """Status, content type and body of what the node answers to bytes, after which it must hang up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    try:
        async with asyncio.timeout(LIMIT_S):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
            body = await reader.readexactly(int(fields["Content-Length"]))
    finally:
        writer.close()
    return int(head.split()[1]), fields["Content-Type"], body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "x-new", "identity, gzip"])
async def test_a_coded_body_is_refused_whether_it_decodes_or_not(
    api: ApiWorld, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"hello", gzip.compress(b'{"envelope": "AA"}'), zlib.compress(b'{"envelope": "AA"}')]
    async with aiohttp.ClientSession(api.server.url, headers=JSON_BODY) as http:
        for body in bodies:
            async with http.post("/v1/records", data=body, headers={"Content-Encoding": coding}) as response:
                assert (response.status, (await response.json())["code"]) == (415, "content_encoding")
                assert response.headers["Accept-Encoding"] == "identity"
    assert _complaints(caplog) == []


async def test_a_body_that_says_it_is_not_coded_is_read(api: ApiWorld) -> None:
    headers = {**JSON_BODY, "Content-Encoding": "identity"}
    async with (
        aiohttp.ClientSession(api.server.url, headers=headers) as http,
        http.post("/v1/records", data=b"{}") as response,
    ):
        assert (response.status, (await response.json())["code"]) == (400, "request_invalid")


async def test_damaged_chunks_are_the_callers_fault(
    api: ApiWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one in C answers for itself, or lets the handler run into its time.
    monkeypatch.setattr("aiohttp.web_protocol.HttpRequestParser", HttpRequestParserPy)
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(head + b"2\r\n{}\r\n")
    await until(lambda: api.server._guard._under_way == 1)
    writer.write(b"zz\r\nhello\r\n0\r\n\r\n")
    async with asyncio.timeout(LIMIT_S):
        answer = await reader.read()
    writer.close()
    status, body = answer.split(b" ", 2)[1], answer.split(b"\r\n\r\n")[1]
    assert status == b"400"
    assert json.loads(body)["code"] == "request_invalid"
    assert [each for each in caplog.records if each.name == SERVER_LOGGER] == []


async def test_a_caller_that_hangs_up_within_its_body_is_not_blamed_on_the_disk(
    api: ApiWorld, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(POST + b"Content-Length: 50\r\n\r\n{")
    await until(lambda: api.server._guard._under_way == 1)
    writer.close()
    await until(lambda: api.server._guard._under_way == 0)
    assert _complaints(caplog) == []


async def test_a_stream_whose_client_vanishes_is_not_blamed_on_the_disk(
    api: ApiWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession(api.server.url, headers=AUTHORIZED) as http:
        stream = await http.ws_connect(STREAM_PATH, autoping=False)
        await stream.receive()
        for _ in range(100):
            await stream.ping()
        # Closed with unread answers, a socket is reset.
        stream._response.connection.transport.abort()  # type: ignore[union-attr]
        await until(lambda: api.server._guard._streams == 0)
        await stream.close()
    assert _complaints(caplog) == []


async def open_to(api: ApiWorld, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and send something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(request)
    return reader, writer


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the node hangs up."""
    async with asyncio.timeout(LIMIT_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def ask_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str]:
    """Ask for the status over a connection, with the token; return status and error code."""
    async with asyncio.timeout(LIMIT_S):
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
    return int(head.split()[1]), answer.get("code", "")


UNFINISHED = [b"", b"GET /v1/status HTTP/1.1\r\nHost: x\r\n", b"GET /v1/status HTTP/1.1\r\nX-A: a"]


async def test_strangers_without_end_keep_nobody_out(tmp_path: Path) -> None:
    limits = ApiLimits(strangers=4)
    async with api_world(tmp_path, street(), limits=limits) as api:
        owner = await open_to(api, b"")
        assert (await ask_again(*owner))[0] == 200
        strangers = [await open_to(api, UNFINISHED[number % 3]) for number in range(40)]
        assert [await rest_of(reader) for reader, _ in strangers[:36]] == [b""] * 36
        assert api.server._places.count == 5
        assert (await ask_again(*owner))[0] == 200
        async with (
            aiohttp.ClientSession(api.server.url, headers=AUTHORIZED) as http,
            http.get("/v1/status") as response,
        ):
            assert response.status == 200
        for _, writer in [owner, *strangers]:
            writer.close()
        await until(lambda: api.server._places.count == 0)


@pytest.mark.parametrize("request_", [*UNFINISHED, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_who_does_not_show_the_token_in_time_is_let_go(tmp_path: Path, request_: bytes) -> None:
    async with api_world(tmp_path, street(), limits=ApiLimits(token_s=0.1)) as api:
        owner = await open_to(api, b"")
        assert (await ask_again(*owner))[0] == 200
        reader, writer = await open_to(api, request_)
        told = await rest_of(reader)
        assert (b" 401 " in told) == request_.endswith(b"\r\n\r\n")
        assert (await ask_again(*owner))[0] == 200
        writer.close()
        owner[1].close()


async def test_one_who_trickles_its_headers_is_let_go(tmp_path: Path) -> None:
    async with api_world(tmp_path, street(), limits=ApiLimits(token_s=0.1)) as api:
        reader, writer = await open_to(api, b"GET /v1/status HTTP/1.1\r\nX-A: ")
        async with asyncio.timeout(LIMIT_S):
            while not reader.at_eof() and reader.exception() is None:
                writer.write(b"a")
                await asyncio.sleep(0.005)
        writer.close()


async def test_an_idle_connection_of_the_owner_ends_as_well(tmp_path: Path) -> None:
    async with api_world(tmp_path, street(), limits=ApiLimits(keep_alive_s=0.1)) as api:
        reader, writer = await open_to(api, b"")
        assert (await ask_again(reader, writer))[0] == 200
        assert await rest_of(reader) == b""
        writer.close()


async def test_connections_with_the_token_are_bounded_and_closing_makes_room(tmp_path: Path) -> None:
    async with api_world(tmp_path, street(), limits=ApiLimits(connections=2)) as api:
        first, second, third = [await open_to(api, b"") for _ in range(3)]
        assert (await ask_again(*first), await ask_again(*second)) == ((200, ""), (200, ""))
        assert await ask_again(*third) == (429, "too_many_connections")
        assert await rest_of(third[0]) == b""
        first[1].close()
        await until(lambda: api.server._places.count == 1)
        fourth = await open_to(api, b"")
        assert (await ask_again(*fourth), await ask_again(*second)) == ((200, ""), (200, ""))
        for _, writer in (second, third, fourth):
            writer.close()


@pytest.mark.parametrize("header", [b"", b"Authorization: Bearer wrong\r\n"])
async def test_a_stranger_gets_one_answer_and_gives_its_place_back(api: ApiWorld, header: bytes) -> None:
    request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n"
    reader, writer = await open_to(api, request * 10)
    told = await rest_of(reader)
    assert told.count(b"HTTP/1.1 401") == 1
    assert (b"the token is wrong; " in told) == bool(header)
    writer.close()


BEGINNING = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n"


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"
FLOWERS = b"Expect: flowers\r\n"
MALFORMED = {
    "garbage": (b"\x00\x01\x02\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\r\n\r\n", 400),
    "negative length": (BEGINNING + b"Content-Length: -5\r\n\r\n", 400),
    "long header": (BEGINNING + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 400),
    "many headers": (BEGINNING + b"X: y\r\n" * 1000 + b"\r\n", 400),
    "bad chunk": (CHUNKED, 400),
    "bad address": (b"GET http://[::1/v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "expectation": (BEGINNING + FLOWERS + b"\r\n", 417),
    "expectation elsewhere": (b"GET /nothing HTTP/1.1\r\nHost: x\r\n" + FLOWERS + b"\r\n", 417),
    "expectation with a body": (POST + FLOWERS + b"Content-Length: 2\r\n\r\n{}", 417),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_request_is_answered_in_json(api: ApiWorld, what: str) -> None:
    request_, status = MALFORMED[what]
    found, content_type, body = await answer_to(api, request_)
    document = openapi.document()
    assert (found, content_type) == (status, "application/json")
    told = json.loads(body)
    require_schema(told, document["components"]["schemas"]["Problem"], document)
    assert told["code"] == ("request_malformed" if status == 400 else "http_error")
    assert not {"\n", "^"} & set(told["message"])
    assert len(told["message"]) < 300


async def test_a_mistake_outside_the_handlers_is_answered_in_json(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr("ledger_core.node.api.server.internal_problem", fail)
    monkeypatch.setattr(api.server._guard, "admit", fail)
    status, content_type, body = await answer_to(api, GET)
    assert (status, content_type, json.loads(body)["code"]) == (500, "application/json", "internal_error")
    assert "Traceback" in caplog.text


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name != "asyncio"
    ]
