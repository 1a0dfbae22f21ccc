"""The state of a community after a block: tables, remembered ids, and its hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ledger_core.community import Genesis, Parameters, decode_genesis, encode_genesis
from ledger_core.errors import ChainError, RecordError
from ledger_core.records.readings import ReadingRow
from ledger_core.records.types import Role
from ledger_core.rules import rows
from ledger_core.rules.seen import SeenIds
from ledger_core.rules.table import Change, Journal, Table, revert

STATE_DOMAIN = b"energy-ledger/state/1\0"
SNAPSHOT_VERSION = 1
CHAIN = 0
"""Key of the only row of the table `chain`."""

_encoder = msgspec.msgpack.Encoder()


class Undo(Struct, frozen=True, gc=False):
    """What takes one block back."""

    changes: Sequence[Change]
    seen_created: Sequence[int]
    """Creation times of the record ids that the block added, in order."""
    forgotten: Sequence[tuple[int, list[bytes]]]


class _UndoWire(Struct, frozen=True, array_like=True):
    changes: list[tuple[int, Raw, Raw]]
    seen_created: list[int]
    forgotten: list[tuple[int, list[bytes]]]


class _Snapshot(Struct, frozen=True, array_like=True):
    version: int
    genesis: bytes
    tables: list[tuple[int, bytes]]
    seen: list[tuple[int, list[bytes]]]


_undo_decoder = msgspec.msgpack.Decoder(_UndoWire)
_snapshot_decoder = msgspec.msgpack.Decoder(_Snapshot)


@dataclass(frozen=True)
class FurtherTable[K, V]:
    """A table that a further record kind brings along; `of` gives a state's own."""

    number: int
    name: str
    key_type: Any
    row_type: Any

    def of(self, state: State) -> Table[K, V]:
        """Return the table of a state."""
        return state.by_number(self.number)


_further: list[FurtherTable[Any, Any]] = []


def declare_table[K, V](number: int, name: str, key_type: type[K], row_type: type[V]) -> FurtherTable[K, V]:
    """Give every state made from now on a further table; numbers from 64 on are free, each for ever.

    An empty table leaves no trace in hashes and snapshots, so that a community without the new kind is as
    before. Raises ValueError for a number that is taken.
    """
    if number < 64 or any(table.number == number for table in _further):
        raise ValueError(f"table number {number} is taken")
    table: FurtherTable[K, V] = FurtherTable(number, name, key_type, row_type)
    _further.append(table)
    return table


class State:
    """All that a rule may look at. Only `apply` and `undo` change it, through a journal."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.parameters: Parameters = genesis.parameters
        self.chain_id = genesis.chain_id
        self.seen = SeenIds()
        self.chain: Table[int, rows.ChainRow] = Table(0, "chain", int, rows.ChainRow)
        self.members: Table[bytes, rows.MemberRow] = Table(1, "members", bytes, rows.MemberRow)
        self.nodes: Table[int, rows.NodeRow] = Table(2, "nodes", int, rows.NodeRow)
        self.last_votes: Table[int, int] = Table(3, "last_votes", int, int)
        self.assets: Table[bytes, rows.AssetRow] = Table(4, "assets", bytes, rows.AssetRow, big=True)
        self.stores: Table[bytes, rows.StoreRow] = Table(5, "stores", bytes, rows.StoreRow)
        self.boundaries: Table[bytes, tuple[ReadingRow, ...]] = Table(
            6, "boundaries", bytes, tuple[ReadingRow, ...]
        )
        self.offers: Table[bytes, rows.OfferRow] = Table(7, "offers", bytes, rows.OfferRow)
        self.waiting: Table[bytes, rows.WaitingRow] = Table(8, "waiting", bytes, rows.WaitingRow)
        self.trades: Table[bytes, rows.TradeRow] = Table(9, "trades", bytes, rows.TradeRow)
        self.closed: Table[bytes, rows.ClosedRow] = Table(10, "closed", bytes, rows.ClosedRow, big=True)
        self.accounts: Table[bytes, rows.AccountRow] = Table(11, "accounts", bytes, rows.AccountRow)
        self.energy: Table[tuple[bytes, str], rows.EnergyRow] = Table(
            12, "energy", tuple[bytes, str], rows.EnergyRow
        )
        self.reputation: Table[bytes, rows.ReputationRow] = Table(13, "reputation", bytes, rows.ReputationRow)
        self.invitations: Table[bytes, int] = Table(14, "invitations", bytes, int)
        self.checkpoints: Table[int, rows.CheckpointRow] = Table(15, "checkpoints", int, rows.CheckpointRow)
        self.tallies: Table[tuple[int, int], bytes] = Table(16, "tallies", tuple[int, int], bytes)
        self.fees: Table[int, rows.FeeRow] = Table(17, "fees", int, rows.FeeRow)
        self.deadlines: Table[int, tuple[tuple[int, int, bytes], ...]] = Table(
            18, "deadlines", int, tuple[tuple[int, int, bytes], ...], big=True
        )
        self.former_nodes: Table[bytes, rows.FormerNodeRow] = Table(
            19, "former_nodes", bytes, rows.FormerNodeRow
        )
        self.node_keys: Table[bytes, int] = Table(32, "node_keys", bytes, int, hashed=False)
        self.meter_keys: Table[bytes, bytes] = Table(33, "meter_keys", bytes, bytes, hashed=False)
        self.booked: Table[tuple[bytes, str], tuple[bytes, ...]] = Table(
            34, "booked", tuple[bytes, str], tuple[bytes, ...], hashed=False
        )
        self.waiting_on: Table[bytes, tuple[bytes, ...]] = Table(
            35, "waiting_on", bytes, tuple[bytes, ...], hashed=False
        )
        self.meters_of: Table[bytes, tuple[bytes, ...]] = Table(
            36, "meters_of", bytes, tuple[bytes, ...], hashed=False
        )
        own = [value for value in vars(self).values() if isinstance(value, Table)]
        more: list[Table[Any, Any]] = [
            Table(table.number, table.name, table.key_type, table.row_type) for table in _further
        ]
        self.tables: tuple[Table[Any, Any], ...] = tuple(sorted(own + more, key=_number))
        self._by_number = {table.number: table for table in self.tables}
        self._hashed = tuple(table for table in self.tables if table.hashed)

    def by_number(self, number: int) -> Table[Any, Any]:
        """Return a table by its number; raises KeyError."""
        return self._by_number[number]

    @property
    def tip(self) -> rows.ChainRow:
        """Where the chain stands."""
        return self.chain[CHAIN]

    def member_with(self, key: bytes, role: Role) -> rows.MemberRow | None:
        """Return a member that has a role, or None."""
        member = self.members.get(key)
        return member if member is not None and member.roles & int(role) else None

    def hash(self) -> bytes:
        """Return the state hash: equal for equal states, however they were reached."""
        digests = b"".join([table.number.to_bytes(2) + table.digest() for table in self._hashed if table])
        return sha256(STATE_DOMAIN + self.chain_id + digests + self.seen.digest()).digest()

    def undo(self, undo: Undo) -> None:
        """Take one block back; `undo` must be that of the tip."""
        revert(undo.changes)
        for created in reversed(undo.seen_created):
            self.seen.remove_last(created)
        self.seen.restore(undo.forgotten)

    def encode_undo(self, undo: Undo) -> bytes:
        """Return undo data as bytes for the store."""
        changes = [(table.number, key, row) for table, key, row in undo.changes]
        return _encoder.encode((changes, undo.seen_created, undo.forgotten))

    def decode_undo(self, data: bytes) -> Undo:
        """Return undo data from `encode_undo`; raises ChainError `undo_damaged`."""
        try:
            wire = _undo_decoder.decode(data)
            changes: list[Change] = []
            for number, raw_key, raw_row in wire.changes:
                table = self._by_number[number]
                key, row = table.decode_change(raw_key, raw_row)
                changes.append((table, key, row))
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            raise ChainError("undo_damaged", f"the undo data of a block can't be read: {error}") from error
        return Undo(changes, wire.seen_created, wire.forgotten)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes; `load_snapshot` gives it back."""
        tables = [(table.number, table.encode()) for table in self._hashed if table]
        return _encoder.encode(
            _Snapshot(SNAPSHOT_VERSION, encode_genesis(self.genesis), tables, self.seen.items())
        )

    def copy(self) -> State:
        """Return an independent copy; rows are shared, they never change."""
        twin = State(self.genesis)
        for mine, theirs in zip(self.tables, twin.tables, strict=True):
            theirs.update(mine)
        twin.seen.restore(self.seen.items())
        return twin

    def rebuild_indexes(self) -> None:
        """Fill the tables that follow from the others."""
        for table in self.tables:
            if not table.hashed:
                table.clear()
        journal = Journal()
        for index, node in self.nodes.items():
            self.node_keys[node.key] = index
        for asset_id, asset in self.assets.items():
            if asset.meter_key is not None:
                self.meter_keys[asset.meter_key] = asset_id
                add_to_index(journal, self.meters_of, asset.owner, asset_id)
        for trade_id, trade in self.trades.sorted_items():
            book(journal, self, trade_id, trade)
        for waiting_id, waiting in self.waiting.sorted_items():
            add_to_index(journal, self.waiting_on, waiting.offer, waiting_id)


def _number(table: Table[Any, Any]) -> int:
    return table.number


def add_to_index[K](journal: Journal, index: Table[K, tuple[bytes, ...]], key: K, value: bytes) -> None:
    """Add an id to the sorted ids of a key."""
    journal.put(index, key, tuple(sorted((*index.get(key, ()), value))))


def remove_from_index[K](journal: Journal, index: Table[K, tuple[bytes, ...]], key: K, value: bytes) -> None:
    """Take an id out of the sorted ids of a key."""
    rest = tuple(item for item in index[key] if item != value)
    if rest:
        journal.put(index, key, rest)
    else:
        journal.drop(index, key)


SUPPLY = "supply"
EXPORT = "export"
IMPORT = "import"


def bookings(trade: rows.TradeRow) -> tuple[tuple[bytes, str], ...]:
    """Return what a trade books: the supplying asset, the seller's connection, the buyer's connection."""
    return ((trade.asset, SUPPLY), (trade.seller_meter, EXPORT), (trade.buyer_meter, IMPORT))


def book(journal: Journal, state: State, trade_id: bytes, trade: rows.TradeRow) -> None:
    """Book a trade on its asset and both connections."""
    for key in bookings(trade):
        add_to_index(journal, state.booked, key, trade_id)


def release(journal: Journal, state: State, trade_id: bytes, trade: rows.TradeRow) -> None:
    """Take a trade's bookings back."""
    for key in bookings(trade):
        remove_from_index(journal, state.booked, key, trade_id)


def load_snapshot(data: bytes) -> State:
    """Return the state in a snapshot; raises ChainError `snapshot_damaged`.

    The caller compares `State.hash()` with a proven state hash before it trusts the result.
    """
    try:
        snapshot = _snapshot_decoder.decode(data)
        if snapshot.version != SNAPSHOT_VERSION:
            raise ChainError(
                "snapshot_version",
                f"snapshot version {snapshot.version}; this program reads {SNAPSHOT_VERSION}",
            )
        state = State(decode_genesis(snapshot.genesis))
        for number, content in snapshot.tables:
            state.by_number(number).load(content)
        state.seen.restore(snapshot.seen)
        state.rebuild_indexes()
    except (msgspec.DecodeError, UnicodeDecodeError, RecordError, KeyError) as error:
        raise ChainError("snapshot_damaged", f"the snapshot can't be read: {error}") from error
    return state
