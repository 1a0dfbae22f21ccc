"""What this node voted: kept before a vote leaves, asked before the next one is signed."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ledger_core.errors import ChainError, RecordError
from ledger_core.node.engine.logfile import LogFile
from ledger_core.records.codec import decode_body, encode_body
from ledger_core.records.votes import SignedVote, Vote

KEPT_VOTES = 512
"""Votes kept in full: five days of checkpoints a quarter of an hour apart."""


class Floors(msgspec.Struct, frozen=True, array_like=True):
    """No vote is signed with a source below `source`, nor with a target at or below `target`.

    Both hold for all votes ever signed, so that no two of them can conflict: targets differ, and none goes
    around another.
    """

    source: int = 0
    target: int = 0


class VoteJournal(Protocol):
    """Remembers this node's votes."""

    @property
    def is_new(self) -> bool:
        """Whether the journal began empty in this process, together with the node's key."""
        ...

    @property
    def floors(self) -> Floors:
        """What the next vote must be above."""
        ...

    def knows(self, vote: Vote) -> bool:
        """Return whether a vote was recorded here."""
        ...

    def votes(self) -> Sequence[tuple[Vote, bytes]]:
        """Return the latest votes with their signatures, oldest first."""
        ...

    def record(self, vote: Vote, signature: bytes) -> None:
        """Keep a vote; it is durable when the call returns."""
        ...

    def raise_floors(self, floors: Floors) -> None:
        """Take over what another copy of the node may have voted; never lowers anything."""
        ...


class MemoryVoteJournal:
    """A journal that lives as long as the process."""

    def __init__(self, *, is_new: bool = True) -> None:
        self._votes: OrderedDict[Vote, bytes] = OrderedDict()
        self._floors = Floors()
        self._forgotten = 0
        self._is_new = is_new

    @property
    def is_new(self) -> bool:
        """Whether no process before this one can have voted with it."""
        return self._is_new

    @property
    def floors(self) -> Floors:
        """What the next vote must be above."""
        return self._floors

    def knows(self, vote: Vote) -> bool:
        """Return whether a vote was recorded here; of very old ones that is believed."""
        return vote in self._votes or vote.target_height <= self._forgotten

    def votes(self) -> Sequence[tuple[Vote, bytes]]:
        """Return the latest votes with their signatures, oldest first."""
        return list(self._votes.items())

    def record(self, vote: Vote, signature: bytes) -> None:
        """Keep a vote."""
        self._votes[vote] = signature
        floors = self._floors
        self._floors = Floors(max(floors.source, vote.source_height), max(floors.target, vote.target_height))
        if len(self._votes) > KEPT_VOTES:
            oldest, _ = self._votes.popitem(last=False)
            self._forgotten = max(self._forgotten, oldest.target_height)

    def raise_floors(self, floors: Floors) -> None:
        """Take over what another copy of the node may have voted."""
        self._floors = Floors(
            max(self._floors.source, floors.source), max(self._floors.target, floors.target)
        )
        self._forgotten = max(self._forgotten, floors.target)

    def copy(self) -> MemoryVoteJournal:
        """Return an independent copy, as a restored backup is."""
        twin = MemoryVoteJournal(is_new=False)
        twin._votes = self._votes.copy()
        twin._floors, twin._forgotten = self._floors, self._forgotten
        return twin


_VOTE = b"v"
_FLOORS = b"f"
_MAX_ENTRY = 4096
_encoder = msgspec.msgpack.Encoder()
_vote_decoder = msgspec.msgpack.Decoder(SignedVote)
_floors_decoder = msgspec.msgpack.Decoder(Floors)


class FileVoteJournal(MemoryVoteJournal):
    """A journal in one append-only file, written anew now and then."""

    def __init__(self, path: Path, *, key_is_new: bool, compact_at: int = 4 * KEPT_VOTES) -> None:
        """Open or begin a journal; `key_is_new`: the node's key was made by this process."""
        self._log = LogFile(path, _MAX_ENTRY)
        super().__init__(is_new=self._log.is_new and key_is_new)
        entries = self._log.read()
        for entry in entries:
            self._replay(entry)
        if len(entries) > compact_at:
            self._compact()

    def record(self, vote: Vote, signature: bytes) -> None:
        """Keep a vote; it is on disk when the call returns."""
        self._log.append(_VOTE + _encoder.encode(SignedVote(encode_body(vote), signature)))
        super().record(vote, signature)

    def raise_floors(self, floors: Floors) -> None:
        """Take over what another copy of the node may have voted; on disk when the call returns."""
        self._log.append(_FLOORS + _encoder.encode(floors))
        super().raise_floors(floors)

    def _replay(self, entry: bytes) -> None:
        kind, data = entry[:1], entry[1:]
        try:
            if kind == _FLOORS:
                super().raise_floors(_floors_decoder.decode(data))
                return
            signed = _vote_decoder.decode(data)
            vote = decode_body(signed.body)
        except (msgspec.DecodeError, RecordError) as error:
            raise self._foreign() from error
        if kind != _VOTE or not isinstance(vote, Vote):
            raise self._foreign()
        super().record(vote, signed.signature)

    def _foreign(self) -> ChainError:
        return ChainError(
            "journal_foreign",
            f"{self._log.path}: this is no journal of votes; put the right file back, or move this one away "
            f"(the node then watches for its own votes before it votes again)",
        )

    def _compact(self) -> None:
        votes = [
            _VOTE + _encoder.encode(SignedVote(encode_body(vote), signature))
            for vote, signature in self.votes()
        ]
        self._log.replace([_FLOORS + _encoder.encode(self.floors), *votes])
