"""Waiting for a record to stand in a block, or in one that is never undone."""

import asyncio
from contextlib import aclosing

from ledger_core.client.errors import ContestedError, RefusedError, TimedOutError, UnreachableError
from ledger_core.client.node_client import NodeClient
from ledger_core.client.views import EventView, RecordView

_TELLING = frozenset({"block_connected", "checkpoint_final", "record_final", "resync", "snapshot_adopted"})


async def wait_for_record(
    client: NodeClient, record: str, *, final: bool = False, timeout_s: float = 300.0
) -> RecordView:
    """Return a submitted record once a block holds it, or (`final`) once that block is never undone.

    A record that was submitted at another node is waited for as well. Raises RefusedError with the rule's
    code if it became impossible meanwhile, and TimedOutError. Who does not wait for the end learns by
    ContestedError, with that code, that a block refuses the record, though this may still be undone.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _wait(client, record, final=final)
    except TimeoutError as error:
        what = "is not final" if final else "stands in no block"
        raise TimedOutError(
            "timeout", f"after {timeout_s:g} s the record {what} yet; it may come later", record=record
        ) from error


async def _wait(client: NodeClient, record: str, *, final: bool) -> RecordView:
    wanted = ("final",) if final else ("included", "final")
    stream = client.stream((await client.status()).cursor)
    found = await _look(client, record, None)
    if found is not None and found.state in wanted:
        return found
    async with aclosing(aiter(stream)) as events:
        async for event in events:
            if event.data.get("record") == record:
                if event.event == "record_lost":
                    raise _refusal(RefusedError, event)
                if event.event == "record_contested" and not final:
                    raise _refusal(ContestedError, event)
            if event.event in _TELLING:
                # Where it stood before, which may be long ago; or anywhere near the tip.
                height = None if found is None else found.height
                found = await _look(client, record, height) or await _look(client, record, None)
                if found is not None and found.state in wanted:
                    return found
    raise AssertionError("a stream of events has no end")


def _refusal(kind: type[RefusedError], event: EventView) -> RefusedError:
    error = kind(event.data["code"], event.data["message"], 409)
    error.details = event.data["details"]
    return error


async def _look(client: NodeClient, record: str, height: int | None) -> RecordView | None:
    """Return the record; None while nobody knows it, or the node can't be asked (the stream waits for it)."""
    try:
        return await client.record(record, height)
    except UnreachableError, TimedOutError:
        return None
    except RefusedError as error:
        if error.status == 404 or error.may_pass:
            return None
        raise
