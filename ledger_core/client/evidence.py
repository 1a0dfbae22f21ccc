"""Proof that a node voted in two ways: what a home's node saw, handed in by the home.

A node that sees two conflicting votes tells so as the event `equivocation`, with both votes and their
signatures. It holds no member's key, so a home signs the evidence. One piece is enough: the same again, from
whichever home, is refused as `evidence_no_node`.
"""

from collections.abc import Mapping
from typing import Any, Final

from ledger_core.client.bodies import IntentError, Stamp, checked
from ledger_core.client.home import Home
from ledger_core.records.codec import encode_body
from ledger_core.records.votes import Evidence, SignedVote, Vote

EVENT: Final = "equivocation"


def evidence_of(stamp: Stamp, data: Mapping[str, Any]) -> Evidence:
    """Return the evidence in an event's data; raises IntentError `evidence_malformed`."""
    try:
        votes = [
            SignedVote(encode_body(_vote(data[name])), bytes.fromhex(data[f"{name}_signature"]))
            for name in ("first", "second")
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise IntentError(
            "evidence_malformed", f"this is not the data of an event {EVENT!r}: {error!r}"
        ) from error
    return Evidence(stamp.author, stamp.created, stamp.nonce, *votes)


async def publish_evidence(home: Home, data: Mapping[str, Any]) -> str:
    """Hand in the evidence in an event's data as this home; returns the record's id.

    Raises as every acting method of `Home`.
    """
    return await home.submit(await home.sign(checked(evidence_of(home.stamp(), data))))


def _vote(data: Mapping[str, Any]) -> Vote:
    return Vote(
        bytes.fromhex(data["author"]),
        data["created"],
        bytes.fromhex(data["nonce"]),
        data["source_height"],
        bytes.fromhex(data["source_hash"]),
        data["target_height"],
        bytes.fromhex(data["target_hash"]),
    )
