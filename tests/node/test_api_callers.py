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

from ledger_core.node.api.routes import STREAM_PATH
from tests.core.actions import street
from tests.node.api_world import AUTHORIZED, TOKEN, ApiWorld, api_world

LIMIT_S = 30.0
SERVER_LOGGER = "ledger_core.node.api.server"
JSON_BODY = {**AUTHORIZED, "Content-Type": "application/json"}
POST = (
    b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
)


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


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name != "asyncio"
    ]
