"""The search for a nonce: the lowest that meets the target, within its bounds, for any header."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.records.block import HEADER_BYTES, NONCE_OFFSET, Header, decode_header
from ledger_core.rules.assemble import search_nonce
from ledger_core.rules.difficulty import MAX_HASH, compact_target, expand_target
from ledger_core.rules.work import NONCES, search


def naive(prefix: bytes, target: int, first: int, tries: int) -> int | None:
    for nonce in range(first, min(first + tries, NONCES)):
        if int.from_bytes(sha256(prefix + nonce.to_bytes(8)).digest()) <= target:
            return nonce
    return None


@given(
    st.binary(min_size=NONCE_OFFSET, max_size=NONCE_OFFSET),
    st.integers(0, 12),
    st.one_of(st.integers(0, 1000), st.integers(NONCES - 300, NONCES - 1), st.integers(0, NONCES - 1)),
    st.integers(0, 700),
)
def test_finds_what_the_naive_search_finds(prefix: bytes, bits: int, first: int, tries: int) -> None:
    target = MAX_HASH >> bits
    found = search(prefix, target, first, tries)
    assert found == naive(prefix, target, first, tries)
    assert search(prefix + bytes(8), target, first, tries) == found


def test_a_target_is_met_by_an_equal_hash() -> None:
    prefix = bytes(NONCE_OFFSET)
    exact = int.from_bytes(sha256(prefix + (77).to_bytes(8)).digest())
    assert search(prefix, exact, 77, 1) == 77
    assert search(prefix, exact - 1, 77, 1) is None


def test_bounds_of_targets_and_nonces() -> None:
    prefix = bytes(NONCE_OFFSET)
    assert search(prefix, MAX_HASH, 5, 1) == 5
    assert search(prefix, MAX_HASH + 1, 5, 1) == 5
    assert search(prefix, -1, 0, 10) is None
    assert search(prefix, MAX_HASH, NONCES - 1, 10) == NONCES - 1
    assert search(prefix, MAX_HASH, NONCES, 10) is None
    assert search(prefix, MAX_HASH, 0, 0) is None


@pytest.mark.parametrize("size", [0, NONCE_OFFSET - 1, NONCE_OFFSET + 1, HEADER_BYTES + 1])
def test_another_length_is_no_header(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}$"):
        search(bytes(size), MAX_HASH, 0, 1)


def test_a_header_gets_its_nonce() -> None:
    header = Header(1, 2, bytes(32), bytes(32), 0, bytes(32), 3, compact_target(MAX_HASH >> 6), bytes(32), 9)
    mined = search_nonce(header, first=100)
    assert mined is not None
    assert mined.nonce >= 100
    target = expand_target(header.target)
    assert target is not None
    assert int.from_bytes(sha256(mined.encode()).digest()) <= target
    assert decode_header(mined.encode()) == mined
    assert search_nonce(header, first=mined.nonce + 1, tries=0) is None
