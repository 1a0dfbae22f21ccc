"""Checkpoint votes (Casper FFG, Buterin and Griffith 2017) and the proof of two that conflict."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from ledger_core.records.body import Body
from ledger_core.records.types import Hash, Height, Signature, Time

VOTE_NONCE = bytes(8)
"""A vote's nonce: nothing in a vote is free, so that it can be rebuilt from its link and its voter."""

VOTE_BYTES = 66
"""A vote inside a bundle: member index (2, big-endian) and signature (64)."""


class Vote(Body, frozen=True, tag=12):
    """A node's signed link from a justified checkpoint (source) to a later one (target).

    Author is the node's key, `created` the time of the target block, the nonce is zero.
    """

    KIND: ClassVar[str] = "vote"

    source_height: Height
    source_hash: Hash
    target_height: Height
    target_hash: Hash


class SignedVote(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A vote's body as it was signed, and its signature."""

    body: Annotated[bytes, Meta(max_length=256)]
    signature: Signature


class Evidence(Body, frozen=True, tag=13):
    """Two votes of one node that no honest node signs: same target height, or one around the other."""

    KIND: ClassVar[str] = "evidence"

    first: SignedVote
    second: SignedVote


class VoteBundle(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The votes for one link as a block carries them: 66 bytes a vote."""

    created: Time
    source_height: Height
    source_hash: Hash
    target_height: Height
    target_hash: Hash
    votes: Annotated[bytes, Meta(min_length=VOTE_BYTES)]
    """Member index (2 bytes, big-endian) and signature (64 bytes) of each, ascending by index."""
