"""Events over a WebSocket, at the client's pace: nothing is queued in memory."""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from ledger_core.node.api.event_log import CursorError, EventLog
from ledger_core.node.api.model import Events

CURSOR_LOST: Final = 4410
"""Close code: the client fell so far behind that events after its cursor are gone."""
_PAGE: Final = 200
_PATIENCE: Final = 2.0
"""A client that says nothing for so many heartbeats has gone: each is a ping that it should answer."""
_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


async def follow(socket: web.WebSocketResponse, log: EventLog, cursor: str, heartbeat_s: float) -> None:
    """Send what happens after a cursor until the client leaves, or answers no ping.

    The socket must leave pings and pongs to this function (`autoping=False`, no heartbeat of its own).
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    stop_listening = log.listen(wake)
    tasks = [
        asyncio.create_task(_send(socket, log, cursor, changed), name="API stream"),
        asyncio.create_task(_ping(socket, heartbeat_s), name="API stream's pings"),
    ]
    try:
        with suppress(TimeoutError):
            await _listen(socket, heartbeat_s)
    finally:
        stop_listening()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await socket.close()


async def _listen(socket: web.WebSocketResponse, heartbeat_s: float) -> None:
    """Read until the client leaves; what it says is not looked at. Raises TimeoutError when it is silent."""
    while True:
        message = await socket.receive(timeout=_PATIENCE * heartbeat_s)
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type in _ENDS:
            return


async def _ping(socket: web.WebSocketResponse, heartbeat_s: float) -> None:
    while True:
        await asyncio.sleep(heartbeat_s)
        await socket.ping()


async def _send(socket: web.WebSocketResponse, log: EventLog, cursor: str, changed: asyncio.Event) -> None:
    await _send_page(socket, Events(items=[], cursor=cursor))
    while True:
        changed.clear()
        try:
            items = await asyncio.to_thread(log.page, cursor, _PAGE)
        except CursorError as error:
            await socket.close(code=CURSOR_LOST, message=error.code.encode())
            return
        if not items:
            await changed.wait()
            continue
        cursor = items[-1].cursor
        await _send_page(socket, Events(items=items, cursor=cursor))


async def _send_page(socket: web.WebSocketResponse, page: Events) -> None:
    await socket.send_str(msgspec.json.encode(page).decode())


async def go_away(sockets: list[web.WebSocketResponse]) -> None:
    """Tell clients that the node stops."""
    closing = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node stops") for socket in sockets]
    await asyncio.gather(*closing, return_exceptions=True)
