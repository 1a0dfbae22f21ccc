"""Difficulty: compact targets, and ASERT against an independent reference (aserti3-2d).

The specification and its test vectors were published for Bitcoin Cash's upgrade of November 2020.
"""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.rules.difficulty import (
    MAX_HASH,
    asert_target,
    compact_target,
    easiest_target,
    expand_target,
    next_target,
    work_of,
)
from tests.core.actions import parameters
from tests.core.strategies import PROFILE

BITCOIN_CASH_LIMIT = 0xFFFF << 208
TWO_DAYS = 172_800


def reference(anchor: int, seconds_behind: int, half_life: int, limit: int) -> int:
    """The target by the published formula, with exact fractions where it rounds towards zero."""
    exponent = Fraction(seconds_behind * 65_536, half_life)
    whole = int(exponent)  # towards zero, as C++ divides
    shifts, fraction = divmod(whole, 65_536)
    cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction**2 + 5_127 * fraction**3
    factor = 65_536 + (cubic + 2**47) // 2**48
    target = int(Fraction(anchor * factor) * Fraction(2) ** shifts / 65_536)
    return min(max(target, 1), limit)


@pytest.mark.parametrize(
    ("anchor", "blocks", "seconds", "compact"),
    [
        (0x1802AEE8, 1, 900, 0x1802AE16),
        (0x1802AEE8, 2, 1200, 0x1802AD44),
        (0x1802AEE8, 5, 2100, 0x1802AACD),
        (0x1802AEE8, 10, 3600, 0x1802A6B7),
        (0x1D00FFFF, 1, 0, 0x1D00FEC5),
        (0x1D00FFFF, 289, 0, 0x1C7F62C0),
        (0x1D00FFFF, 2593, 0, 0x1B7F62C0),
        (0x1D00FFFF, 60_193, 0, 0x027F6200),
        (0x1D00FFFF, 64_513, 0, 0x01010000),
    ],
)
def test_published_vectors(anchor: int, blocks: int, seconds: int, compact: int) -> None:
    """Runs 5 and 9 of the published vectors: blocks since the anchor, seconds since the anchor's parent."""
    target = expand_target(anchor)
    assert target is not None
    behind = seconds - 600 * (blocks + 1)
    assert compact_target(asert_target(target, behind, TWO_DAYS, BITCOIN_CASH_LIMIT)) == compact
    assert compact_target(reference(target, behind, TWO_DAYS, BITCOIN_CASH_LIMIT)) == compact


@PROFILE
@given(
    bits=st.integers(1, 64),
    spacing=st.integers(1, 3600),
    half_life=st.integers(3600, 7 * 86_400),
    height=st.integers(0, 10**6),
    off=st.integers(-400 * 86_400, 10**6),
)
def test_target_follows_the_reference(bits: int, spacing: int, half_life: int, height: int, off: int) -> None:
    given_parameters = parameters(
        min_difficulty_bits=bits, block_spacing_s=spacing, difficulty_half_life_s=half_life
    )
    created = 1_700_000_000
    easiest = MAX_HASH >> bits
    target = reference(easiest, off, half_life, easiest)
    parent_time = created + spacing * height + off
    assert next_target(given_parameters, created, height, parent_time) == compact_target(target)


def test_difficulty_doubles_one_half_life_ahead_of_schedule() -> None:
    given_parameters = parameters(min_difficulty_bits=8, difficulty_half_life_s=3600)
    on_time = expand_target(next_target(given_parameters, 0, 120, 3600))
    ahead = expand_target(next_target(given_parameters, 0, 120, 0))
    behind = expand_target(next_target(given_parameters, 0, 120, 10 * 3600))
    assert on_time is not None
    assert ahead is not None
    assert behind is not None
    assert compact_target(on_time) == compact_target(behind) == easiest_target(given_parameters)
    assert 1.99 < work_of(ahead) / work_of(on_time) < 2.01


@pytest.mark.parametrize(
    ("compact", "target"),
    [
        (0x1D00FFFF, 0xFFFF << 208),
        (0x01010000, 1),
        (0x017F0000, 0x7F),
        (0x02008000, 0x80),
        (0x03123456, 0x123456),
        (0x207FFFFF, 0x7FFFFF << 232),
        (0x2100FFFF, 0xFFFF << 240),
    ],
)
def test_compact_targets(compact: int, target: int) -> None:
    assert expand_target(compact) == target
    assert compact_target(target) == compact


@pytest.mark.parametrize(
    "compact",
    [
        0,
        0x00FFFFFF,
        0x01000000,
        0x01FF0000,  # a sign bit
        0x0400FFFF + 0x800000,  # a sign bit
        0x04000001,  # not the shortest
        0x01010001,  # digits below one
        0x2200FFFF,  # above 256 bits
        0xFF7FFFFF,
        0xFFFFFFFF,
    ],
)
def test_other_compact_numbers_are_no_target(compact: int) -> None:
    assert expand_target(compact) is None


@PROFILE
@given(st.integers(1, MAX_HASH))
def test_compact_rounds_down_by_less_than_one_part_in_two_to_the_fifteen(target: int) -> None:
    rounded = expand_target(compact_target(target))
    assert rounded is not None
    assert rounded <= target
    assert (target - rounded) << 15 <= target


@PROFILE
@given(st.integers(1, MAX_HASH))
def test_work_is_the_mean_number_of_hashes(target: int) -> None:
    assert work_of(target) == int(Fraction(2**256, target + 1))
