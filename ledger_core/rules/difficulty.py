"""Proof of work: compact targets, the work of a block, and the difficulty rule.

The rule is ASERT (aserti3-2d, as Bitcoin Cash has used it since November 2020), in integers: the target
follows how far the chain is ahead of or behind its schedule, so that a burst of hash power does not leave a
hard chain behind.
"""

from functools import lru_cache

from ledger_core.community import Parameters

MAX_HASH = 2**256 - 1
RADIX_BITS = 16
RADIX = 1 << RADIX_BITS


@lru_cache(maxsize=256)
def expand_target(compact: int) -> int | None:
    """Return the target in a compact number (as Bitcoin's nBits); None unless it is positive and shortest."""
    exponent, mantissa = compact >> 24, compact & 0xFFFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if not 0 < target <= MAX_HASH or compact_target(target) != compact:
        return None
    return target


@lru_cache(maxsize=256)
def compact_target(target: int) -> int:
    """Return the compact number of the largest representable target at or below the given one."""
    size = (target.bit_length() + 7) // 8
    mantissa = target >> 8 * (size - 3) if size > 3 else target << 8 * (3 - size)
    if mantissa & 0x800000:
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


def easiest_target(parameters: Parameters) -> int:
    """Return the compact target of the community's floor of difficulty."""
    return compact_target(MAX_HASH >> parameters.min_difficulty_bits)


def work_of(target: int) -> int:
    """Return the hashes that a block at a target takes on average."""
    return (MAX_HASH + 1) // (target + 1)


def next_target(parameters: Parameters, genesis_time: int, parent_height: int, parent_time: int) -> int:
    """Return the compact target of the block after a parent.

    The genesis is the anchor: at its easiest target, on schedule.
    """
    drift = parent_time - genesis_time - parameters.block_spacing_s * parent_height
    # Behind schedule it stays at the easiest.
    return _compact_target_at(
        min(drift, 0), parameters.difficulty_half_life_s, parameters.min_difficulty_bits
    )


@lru_cache(maxsize=1024)
def _compact_target_at(drift: int, half_life: int, min_difficulty_bits: int) -> int:
    """Return what ASERT gives at a drift; a chain on schedule comes back to the same few seconds."""
    easiest = MAX_HASH >> min_difficulty_bits
    return compact_target(asert_target(easiest, drift, half_life, easiest))


def asert_target(anchor: int, drift: int, half_life: int, limit: int) -> int:
    """Return the target of aserti3-2d: the anchor's, doubled for every half-life behind schedule.

    `drift` is how many seconds the chain is behind (negative: ahead); the result lies from 1 to `limit`.
    """
    if drift >= 0 and anchor >= limit:
        return limit
    exponent = abs(drift) * RADIX // half_life
    if drift < 0:
        exponent = -exponent  # towards zero, as the reference rounds
    shifts = exponent >> RADIX_BITS
    if shifts > 256:
        return limit
    if shifts < -512:
        return 1
    fraction = exponent - (shifts << RADIX_BITS)
    factor = RADIX + (
        (fraction * (195_766_423_245_049 + fraction * (971_821_376 + fraction * 5127)) + 2**47) >> 48
    )
    scaled = anchor * factor
    target = scaled << shifts if shifts > 0 else scaled >> -shifts
    return min(max(target >> RADIX_BITS, 1), limit)
