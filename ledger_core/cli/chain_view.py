"""A stored chain and its blocks as people read them."""

import re
from collections.abc import Callable
from typing import Any

from ledger_core.chain.store.store import SqliteStore
from ledger_core.cli.output import table
from ledger_core.cli.quantities import show_utc
from ledger_core.cli.record_view import view_record
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.records.block import Block, decode_block_body, decode_header, header_hash, open_records
from ledger_core.records.codec import record_prefix
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.finality import votes_in

_HASH = re.compile("[0-9a-fA-F]{64}")
_HEIGHT = re.compile("[0-9]{1,10}")
_HEADERS_AT_ONCE = 960


def view_chain(store: SqliteStore) -> tuple[dict[str, Any], list[str]]:
    """Return where a chain stands, as data and as lines."""
    head, genesis, usage = store.head(), store.genesis, store.usage()
    tip_header = store.header_at(head.tip[0])
    tip_time = genesis.created if tip_header is None else decode_header(tip_header).time
    recent = list(store.recent())
    kept = store.snapshots()
    side = sum(not row.active for row in recent)
    data: dict[str, Any] = {
        "name": genesis.name,
        "chain_id": genesis.chain_id.hex(),
        "height": head.tip[0],
        "hash": head.tip[1].hex(),
        "time": tip_time,
        "final": {"height": head.final[0], "hash": head.final[1].hex()},
        "pruned": head.pruned,
        "side_blocks": side,
        "snapshots": [
            {"height": info.height, "hash": info.hash.hex(), "state_hash": info.state_hash.hex()}
            for info in kept
        ],
        "database_bytes": usage.database,
        "free_bytes": usage.free,
        "log_bytes": usage.log,
    }
    lines = table(
        {
            "community": genesis.name,
            "chain id": genesis.chain_id.hex(),
            "tip": f"{head.tip[0]}  {head.tip[1].hex()}  {show_utc(tip_time)}",
            "final": f"{head.final[0]}  {head.final[1].hex()}",
            "bodies from": head.pruned + 1,
            "side blocks": side,
            "snapshots": ", ".join(str(info.height) for info in kept) or "none",
            "database": f"{usage.database} bytes, {usage.free} of them free",
            "log": f"{usage.log} bytes",
        }
    )
    return data, lines


def find_block(store: SqliteStore, wanted: str, progress: Callable[[int], None]) -> Block:
    """Return the block that a height or a hash names.

    Raises LedgerError `block_unknown`, `block_pruned` or `input_unknown`.
    """
    if _HASH.fullmatch(wanted):
        block_hash = bytes.fromhex(wanted)
        block = store.block(block_hash)
        if block is not None:
            return block
        height = _height_of(store, block_hash, progress)
    elif _HEIGHT.fullmatch(wanted):
        height = int(wanted)
    else:
        shown = wanted if len(wanted) <= 80 else wanted[:80] + "..."
        raise LedgerError(
            "input_unknown", f"'{shown}' is neither a height nor a hash of 64 hexadecimal digits"
        )
    tip, pruned = store.tip()[0], store.head().pruned
    if not 1 <= height <= tip:
        raise LedgerError(
            "block_unknown", f"there is no block {height}: the chain has 1 to {tip}", height=height, tip=tip
        )
    found = store.block_at(height)
    if found is None:
        raise LedgerError(
            "block_pruned",
            f"the body of block {height} was pruned, as all up to {pruned}",
            height=height,
        )
    return found


def _height_of(store: SqliteStore, block_hash: bytes, progress: Callable[[int], None]) -> int:
    """Search the archive, which has no index by hash."""
    for first in range(1, store.final()[0] + 1, _HEADERS_AT_ONCE):
        for height, (header, _) in enumerate(store.sealed_headers(first, _HEADERS_AT_ONCE), first):
            if header_hash(header) == block_hash:
                return height
        progress(first)
    raise LedgerError(
        "block_unknown", f"no block of the chain has the hash {block_hash.hex()}", hash=block_hash
    )


def view_block(block: Block, store: SqliteStore) -> dict[str, Any]:
    """Return a block with all its records and votes as JSON-friendly data."""
    header = decode_header(block.header)
    chain_id = store.genesis.chain_id
    body = decode_block_body(block.body)
    return {
        "hash": block.hash.hex(),
        "height": header.height,
        "version": header.version,
        "previous": header.previous.hex(),
        "merkle_root": header.merkle_root.hex(),
        "count": header.count,
        "state_hash": header.state_hash.hex() if any(header.state_hash) else None,
        "time": header.time,
        "target": f"{header.target:#010x}",
        "miner": address(header.miner),
        "nonce": header.nonce,
        "signature": block.signature.hex(),
        "final": header.height <= store.final()[0],
        "records": [view_record(record, chain_id) for record in open_records(body, record_prefix(chain_id))],
        "votes": [_view_bundle(bundle) for bundle in body.votes],
    }


def _view_bundle(bundle: VoteBundle) -> dict[str, Any]:
    return {
        "source": {"height": bundle.source_height, "hash": bundle.source_hash.hex()},
        "target": {"height": bundle.target_height, "hash": bundle.target_hash.hex()},
        "created": bundle.created,
        "members": [index for index, _ in votes_in(bundle)],
    }
