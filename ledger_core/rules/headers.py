"""Headers: place in the chain, time, target, work, and the miner."""

from collections.abc import Sequence

from msgspec import Struct

from ledger_core.community import FUTURE_LIMIT_S, Genesis
from ledger_core.errors import RuleError
from ledger_core.records.block import HEADER_VERSION, NO_STATE_HASH, Header
from ledger_core.rules.difficulty import expand_target, next_target
from ledger_core.rules.rows import ChainRow

MEDIAN_SPAN = 11


class Parent(Struct, frozen=True, gc=False):
    """What a header must know of the chain below it."""

    height: int
    hash: bytes
    times: Sequence[int]
    """Times of up to the last 11 blocks, oldest first; of the genesis alone for block 1."""


def median_time(times: Sequence[int]) -> int:
    """Return the median of the last block times."""
    return sorted(times)[len(times) // 2]


def is_checkpoint(height: int, interval: int) -> bool:
    """Return whether a block of this height is a checkpoint."""
    return height % interval == 0


def check_header(header: Header, block_hash: bytes, parent: Parent | ChainRow, genesis: Genesis) -> None:
    """Check a header against its parent, whatever the clock says.

    Raises RuleError `header_version`, `header_height`, `header_previous`, `time_too_old`, `target_wrong`,
    `work_missing`, `state_hash_unexpected`.
    """
    if header.version != HEADER_VERSION:
        raise RuleError(
            "header_version",
            f"header version {header.version}; this program knows {HEADER_VERSION}",
            version=header.version,
        )
    if header.previous != parent.hash:
        raise RuleError("header_previous", "the block does not follow this parent", previous=header.previous)
    if header.height != parent.height + 1:
        raise RuleError(
            "header_height",
            f"the block after height {parent.height} has height {parent.height + 1}, not {header.height}",
            height=header.height,
        )
    median = median_time(parent.times)
    if header.time <= median:
        raise RuleError(
            "time_too_old",
            f"the block's time {header.time} is not above the median {median} of the last blocks",
            time=header.time,
            median=median,
        )
    wanted = next_target(genesis.parameters, genesis.created, parent.height, parent.times[-1])
    if header.target != wanted:
        raise RuleError(
            "target_wrong",
            f"the target is {header.target:#010x}, the rule gives {wanted:#010x}",
            target=header.target,
            wanted=wanted,
        )
    target = expand_target(header.target)
    if target is None or int.from_bytes(block_hash) > target:
        raise RuleError("work_missing", "the block's hash does not meet its target", hash=block_hash)
    if header.state_hash != NO_STATE_HASH and not is_checkpoint(
        header.height, genesis.parameters.checkpoint_interval
    ):
        raise RuleError("state_hash_unexpected", "only checkpoints carry a state hash", height=header.height)


def check_not_future(header: Header, now: int) -> None:
    """Raise RuleError `time_too_new` for a block ahead of the clock; it may be right later: defer it."""
    if header.time > now + FUTURE_LIMIT_S:
        raise RuleError(
            "time_too_new",
            f"the block's time {header.time} is more than {FUTURE_LIMIT_S} s ahead of {now}",
            time=header.time,
            now=now,
            limit_s=FUTURE_LIMIT_S,
        )


def next_times(times: Sequence[int], time: int) -> tuple[int, ...]:
    """Return the last block times with one more."""
    return (*times[-(MEDIAN_SPAN - 1) :], time)
