"""What each route does: questions to the backend, answers as structs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ledger_core import __version__
from ledger_core.errors import LedgerError, RecordError
from ledger_core.node.api import block_views, model, views
from ledger_core.node.api.backend import Backend, Ledger
from ledger_core.node.api.views import NotFoundError
from ledger_core.node.engine.holds import MINING_OFF, Hold, disk_full
from ledger_core.records.block import Block
from ledger_core.records.codec import Envelope, decode_envelope
from ledger_core.rules.state import State

SEARCHED_BLOCKS = 128
"""How many of the newest blocks are searched for a record whose height is not told."""
_SEARCHED_AT_ONCE = 16


class Call(Struct, frozen=True):
    """A request whose parts were checked against the route."""

    path: Any
    query: Any
    body: Any = None


type Handler = Callable[[Backend, Call], Awaitable[Struct]]


def of_state(view: Callable[[State, Any], Struct]) -> Handler:
    """Return a handler that gives a view of the state, asked with the query."""

    async def handle(backend: Backend, call: Call) -> Struct:
        return await backend.ask(lambda ledger: view(ledger.state, call.query))

    return handle


def of_one(view: Callable[[State, str], Struct], name: str) -> Handler:
    """Return a handler that gives one row of the state, named by the path."""

    async def handle(backend: Backend, call: Call) -> Struct:
        return await backend.ask(lambda ledger: view(ledger.state, getattr(call.path, name)))

    return handle


async def status(backend: Backend, _call: Call) -> model.StatusView:
    """Return how the node and its community are."""
    peers = len(backend.peers())

    def answer(ledger: Ledger) -> model.StatusView:
        state, progress = ledger.state, ledger.progress
        mining_hold, mining_blocked = _told(_mining_held(backend, ledger))
        voting_hold, voting_blocked = _told(progress.voting_blocked)
        tip = state.tip
        return model.StatusView(
            version=__version__,
            community=state.genesis.name,
            currency=state.genesis.currency,
            chain_id=state.chain_id.hex(),
            tip=views.as_of(state),
            tip_time=tip.times[-1],
            target_height=max(progress.target, tip.height),
            synced=progress.synced,
            justified=tip.justified,
            final=tip.final,
            settled_until=tip.settled_until,
            slot_s=state.parameters.slot_s,
            waiting_records=ledger.waiting_records,
            peers=peers,
            node=views.optional_party(backend.node_key),
            mining_blocked=mining_blocked,
            voting_blocked=voting_blocked,
            mining_hold=mining_hold,
            voting_hold=voting_hold,
            sync_phase=progress.phase,
            claimed_height=progress.claimed,
            disk_trouble=backend.disk_trouble,
            parted=progress.parted,
            cursor=backend.events.cursor,
        )

    return await backend.ask(answer)


async def community(backend: Backend, _call: Call) -> model.CommunityView:
    """Return what the community was founded with."""
    addresses = backend.addresses()
    return await backend.ask(lambda ledger: views.community(ledger.state, addresses))


async def peers(backend: Backend, _call: Call) -> model.Peers:
    """Return the links that are up, and what could not be reached."""
    links = backend.peers()

    def heights(ledger: Ledger) -> list[int | None]:
        return [ledger.peer_height(bytes.fromhex(link.node.key)) for link in links]

    told = await backend.ask(heights)
    items = [replace(link, height=height) for link, height in zip(links, told, strict=True)]
    return model.Peers(items=items, dialling=backend.dials())


async def state_hash(backend: Backend, _call: Call) -> model.StateHashView:
    """Return the hash of the state at the tip."""

    def answer(ledger: Ledger) -> model.StateHashView:
        state = ledger.state
        return model.StateHashView(as_of=views.as_of(state), state_hash=state.hash().hex())

    return await backend.ask(answer)


async def mining(backend: Backend, _call: Call) -> model.MiningView:
    """Return whether and how much this node mines."""
    switch = backend.mining
    _, blocked = _told(await backend.ask(lambda ledger: _mining_held(backend, ledger)))
    return model.MiningView(on=switch.on, share=switch.share, rate=switch.rate, blocked=blocked)


async def change_mining(backend: Backend, call: Call) -> model.MiningView:
    """Switch mining, or give it another share of a core."""
    if call.body.on is None and call.body.share is None:
        raise LedgerError("request_invalid", "nothing to change: give on, share, or both")
    await backend.mining.change(on=call.body.on, share=call.body.share)
    return await mining(backend, call)


async def resume_voting(backend: Backend, call: Call) -> model.StatusView:
    """Vote again: the owner says that no other copy of the node runs."""
    await backend.resume_voting()
    return await status(backend, call)


async def blocks(backend: Backend, call: Call) -> model.Blocks:
    """Return blocks downwards."""

    def answer(ledger: Ledger) -> model.Blocks:
        state, query = ledger.state, call.query
        top = state.tip.height if query.before is None else min(query.before - 1, state.tip.height)
        low = max(top - query.limit, 0)
        items = [_block_view(ledger, height) for height in range(top, low, -1)]
        return model.Blocks(
            as_of=views.as_of(state), items=items, next=str(low + 1) if items and low > 0 else None
        )

    return await backend.ask(answer)


async def block(backend: Backend, call: Call) -> model.BlockView:
    """Return the active branch's block at a height."""
    return await backend.ask(lambda ledger: _block_view(ledger, call.path.height))


async def record(backend: Backend, call: Call) -> model.RecordView:
    """Return a record that waits or stands in a block."""
    record_id = bytes.fromhex(call.path.id)
    if call.query.height is None:
        waiting = await backend.ask(lambda ledger: _waiting(ledger, record_id))
        if waiting is not None:
            return waiting
    height = await _height_of(backend, record_id, call.query.height)

    def answer(ledger: Ledger) -> model.RecordView:
        found = _record_at(ledger, height, record_id)
        if found is None:
            raise _no_record(record_id)
        return block_views.record(found, height, ledger.state.tip.final)

    return await backend.ask(answer)


def _waiting(ledger: Ledger, record_id: bytes) -> model.RecordView | None:
    found = ledger.waiting_record(record_id)
    return None if found is None else block_views.waiting(found, contested=ledger.is_contested(record_id))


async def proof(backend: Backend, call: Call) -> model.ProofView:
    """Return the proof that a record stands in a block."""
    record_id = bytes.fromhex(call.path.id)
    height = await _height_of(backend, record_id, call.query.height)

    def answer(ledger: Ledger) -> model.ProofView:
        if _record_at(ledger, height, record_id) is None:
            raise _no_record(record_id)
        return block_views.proof(_whole(ledger, height), ledger.state.chain_id, record_id)

    return await backend.ask(answer)


async def submit(backend: Backend, call: Call) -> model.Submitted:
    """Take a signed record."""
    record_id = await backend.submit(decode_envelope(call.body.envelope))
    return model.Submitted(record=record_id.hex())


async def submit_batch(backend: Backend, call: Call) -> model.SubmittedBatch:
    """Take signed records, each by itself."""
    results: list[bytes | LedgerError] = []
    envelopes: list[Envelope] = []
    places: list[int] = []
    for data in call.body.envelopes:
        try:
            envelopes.append(decode_envelope(data))
        except RecordError as error:
            results.append(error)
        else:
            places.append(len(results))
            results.append(b"")
    for place, result in zip(places, await backend.submit_all(envelopes), strict=True):
        results[place] = result
    return model.SubmittedBatch(items=[_batch_item(result) for result in results])


def _batch_item(result: bytes | LedgerError) -> model.BatchItem:
    if isinstance(result, bytes):
        return model.BatchItem(record=result.hex(), problem=None)
    details = msgspec.to_builtins(result.details, enc_hook=str)
    return model.BatchItem(
        record=None, problem=model.Problem(code=result.code, message=result.message, details=details)
    )


async def events(backend: Backend, call: Call) -> model.Events:
    """Return events after a cursor."""
    newest = backend.events.cursor
    items = await asyncio.to_thread(backend.events.page, call.query.after, call.query.limit)
    if items:
        return model.Events(items=items, cursor=items[-1].cursor)
    return model.Events(items=[], cursor=call.query.after or newest)


def _told(held: Hold | None) -> tuple[str | None, str | None]:
    """Return code and sentence of what holds the node back."""
    return (None, None) if held is None else (held.code, held.reason)


def _mining_held(backend: Backend, ledger: Ledger) -> Hold | None:
    if not backend.mining.on:
        return MINING_OFF
    trouble = backend.disk_trouble
    return ledger.progress.mining_blocked if trouble is None else disk_full(trouble)


def _block_view(ledger: Ledger, height: int) -> model.BlockView:
    header = ledger.store.header_at(height) if height else None
    if header is None:
        raise _no_block(ledger, height)
    state = ledger.state
    return block_views.block(header, ledger.store.block_at(height), state.chain_id, state.tip.final)


def _whole(ledger: Ledger, height: int) -> Block:
    if not 0 < height <= ledger.state.tip.height:
        raise _no_block(ledger, height)
    found = ledger.store.block_at(height)
    if found is None:
        raise NotFoundError(
            "block_pruned", f"this node has forgotten what block {height} holds", height=height
        )
    return found


def _record_at(ledger: Ledger, height: int, record_id: bytes) -> Any:
    return block_views.find_record(_whole(ledger, height), ledger.state.chain_id, record_id)


async def _height_of(backend: Backend, record_id: bytes, told: int | None) -> int:
    """Return the height to look at: what was told, or where one of the newest blocks holds the record."""
    if told is not None:
        return told
    top = await backend.ask(lambda ledger: ledger.state.tip.height)
    lowest = max(top - SEARCHED_BLOCKS, 0)
    for high in range(top, lowest, -_SEARCHED_AT_ONCE):
        heights = range(high, max(high - _SEARCHED_AT_ONCE, lowest), -1)
        found = await backend.ask(_search(heights, record_id))
        if found is not None:
            return found
    raise _no_record(record_id)


def _search(heights: range, record_id: bytes) -> Callable[[Ledger], int | None]:
    def search(ledger: Ledger) -> int | None:
        for height in heights:
            whole = ledger.store.block_at(height)
            if whole and block_views.find_record(whole, ledger.state.chain_id, record_id) is not None:
                return height
        return None

    return search


def _no_record(record_id: bytes) -> NotFoundError:
    return NotFoundError(
        "record_unknown",
        f"the record neither waits nor stands in that block, or in the {SEARCHED_BLOCKS} newest where no "
        "height is given",
        record=record_id,
    )


def _no_block(ledger: Ledger, height: int) -> NotFoundError:
    tip = ledger.state.tip.height
    return NotFoundError(
        "block_unknown", f"there are blocks from 1 to {tip}, none at {height}", height=height, tip=tip
    )
