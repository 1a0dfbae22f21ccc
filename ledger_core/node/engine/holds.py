"""Why a node does not mine or vote."""

from typing import Final

from msgspec import Struct

MINING_CODES: Final = ("switched_off", "disk_full", "clock_wrong", "not_a_node", "syncing", "no_peer")
"""Codes of all that can keep a node from mining, as the API tells them."""
VOTING_CODES: Final = (
    "switched_off",
    "other_copy",
    "clock_wrong",
    "syncing",
    "not_a_node",
    "no_peer",
    "watching",
)
"""Codes of all that can keep a node from voting."""


class Hold(Struct, frozen=True):
    """What holds a node back: a stable code for programs, a sentence for people."""

    code: str
    reason: str


SYNCING = Hold("syncing", "syncing")
NO_PEER = Hold("no_peer", "waiting for a first peer")
NO_LINK = Hold("no_peer", "waiting for a link to another node, which would tell of a copy of this one")
NOT_A_NODE = Hold("not_a_node", "this node's key is not, or no longer, that of a node of the community")
MINING_OFF = Hold("switched_off", "switched off")
VOTING_OFF = Hold("switched_off", "switched off by the setting voting")


def clock_wrong(doubt: str) -> Hold:
    """The clock can't be right."""
    return Hold("clock_wrong", doubt)


def other_copy(sign: str) -> Hold:
    """Another process has, or had, this node's key."""
    remedy = (
        "make sure that no other copy of this data directory runs, then confirm that: energy-ledger "
        "resume-voting, or energy-ledger node --resume-voting at its next start"
    )
    return Hold("other_copy", f"{sign}; {remedy}")


def watching(first: int) -> Hold:
    """A process before this one may have cast votes that its journal lost."""
    return Hold("watching", f"looking for own votes after the start; votes again from checkpoint {first} on")


def disk_full(trouble: str) -> Hold:
    """The data can't be written."""
    return Hold("disk_full", trouble)
