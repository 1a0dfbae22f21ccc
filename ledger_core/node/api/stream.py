"""Events over a WebSocket, at the client's pace: nothing is queued in memory."""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import WSCloseCode, web

from ledger_core.node.api.event_log import CursorError, EventLog
from ledger_core.node.api.model import Events

CURSOR_LOST: Final = 4410
"""Close code: the client fell so far behind that events after its cursor are gone."""
_PAGE: Final = 200


async def follow(socket: web.WebSocketResponse, log: EventLog, cursor: str) -> None:
    """Send what happens after a cursor until the client leaves."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    stop_listening = log.listen(wake)
    sender = asyncio.create_task(_send(socket, log, cursor, changed), name="API stream")
    try:
        async for _ in socket:
            pass  # what a client says is not looked at
    finally:
        stop_listening()
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


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
