"""Somebody on the way between two nodes, who can record, alter and repeat what they say."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from aiohttp import ClientSession, WSMsgType, web

type Alter = Callable[[bool, int, bytes], bytes]
"""Takes whether a message is from the caller, its number in that direction, and its bytes; gives others."""


class _Server(ABC):
    """A WebSocket server on loopback, whose one handler a subclass gives."""

    @abstractmethod
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a caller."""

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/peer", self.handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._runner.addresses[0][1]}"


class Impostor(_Server):
    """Answers in a node's place, by a function that a test gives."""

    def __init__(self, answer: Callable[[web.WebSocketResponse], Awaitable[None]]) -> None:
        self._answer = answer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with suppress(TypeError, ConnectionError):
            # A caller that has gone gives no bytes.
            await self._answer(socket)
        await socket.close()
        return socket


class Relay(_Server):
    """Passes messages on between callers and a node, as `alter` likes."""

    def __init__(self, target: str, alter: Alter = lambda _from_caller, _number, data: data) -> None:
        self._target = target
        self._alter = alter
        self.said: list[tuple[bool, bytes]] = []
        """What was said: whether by the caller, and the bytes as they came."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        caller = web.WebSocketResponse(autoping=False)
        await caller.prepare(request)
        async with ClientSession() as client, client.ws_connect(f"ws://{self._target}/peer") as node:
            passing = [
                asyncio.create_task(self._pass_on(caller, node, from_caller=True)),
                asyncio.create_task(self._pass_on(node, caller, from_caller=False)),
            ]
            _, pending = await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
        await caller.close()
        return caller

    async def _pass_on(self, source: Any, sink: Any, *, from_caller: bool) -> None:
        number = 0
        while True:
            message = await source.receive()
            if message.type is not WSMsgType.BINARY:
                return
            self.said.append((from_caller, message.data))
            await sink.send_bytes(self._alter(from_caller, number, message.data))
            number += 1
