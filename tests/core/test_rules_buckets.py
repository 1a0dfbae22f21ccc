"""Digests by bucket: the same for equal tables, however they came about, and another after any change."""

from hashlib import sha256
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.rules.buckets import BUCKETS
from ledger_core.rules.table import Journal, Table

encode = msgspec.msgpack.Encoder().encode


def table(key_type: type = bytes) -> Table[bytes, int]:
    return Table(1, "big", key_type, int, big=True)


def filled(rows: dict[bytes, int]) -> Table[bytes, int]:
    big = table()
    journal = Journal()
    for key, row in rows.items():
        journal.put(big, key, row)
    return big


def naive(rows: dict[bytes, int]) -> bytes:
    """The definition, without memory of anything."""
    parts = []
    for number in range(BUCKETS):
        content = [(key, rows[key]) for key in sorted(rows) if key[0] % BUCKETS == number]
        parts.append(sha256(encode(content)).digest() if content else bytes(32))
    return sha256(b"".join(parts)).digest()


keys = st.binary(min_size=1, max_size=2)


@given(st.lists(st.tuples(keys, st.integers(0, 3), st.sampled_from(["put", "drop", "digest", "revert"]))))
def test_follows_the_definition_through_every_change(
    steps: list[tuple[bytes, int, str]],
) -> None:
    big = table()
    journal = Journal()
    expected: dict[bytes, int] = {}
    before: list[dict[bytes, int]] = [{}]
    for key, value, what in steps:
        if what == "put" or (what == "drop" and key not in expected):
            journal.put(big, key, value)
            expected = {**expected, key: value}
            before.append(expected)
        elif what == "drop":
            journal.drop(big, key)
            expected = {other: row for other, row in expected.items() if other != key}
            before.append(expected)
        elif what == "revert":
            keep = len(journal.changes) // 2
            journal.revert_to(keep)
            del before[keep + 1 :]
            expected = before[-1]
        else:
            assert big.digest() == naive(expected)
    assert big.digest() == naive(expected)
    assert dict(big) == expected


@given(st.dictionaries(keys, st.integers(0, 5), max_size=40), st.randoms(use_true_random=False))
def test_order_and_way_do_not_matter(rows: dict[bytes, int], random: Random) -> None:
    shuffled = list(rows.items())
    random.shuffle(shuffled)
    other = filled(dict(shuffled))
    loaded = table()
    loaded.load(encode(sorted(rows.items())))
    updated = table()
    updated.update(rows)
    assert filled(rows).digest() == other.digest() == loaded.digest() == updated.digest() == naive(rows)


def test_loading_forgets_what_was_there() -> None:
    big = filled({b"a": 1, b"b": 2})
    first = big.digest()
    big.load(encode([(b"c", 1), (b"d", 2)]))
    assert big.digest() == naive({b"c": 1, b"d": 2}) != first


def test_numbers_are_keys_as_well() -> None:
    first: Table[int, int] = Table(1, "big", int, int, big=True)
    second: Table[int, int] = Table(1, "big", int, int, big=True)
    journal = Journal()
    for key in range(200):
        journal.put(first, key, key)
        journal.put(second, 199 - key, 199 - key)
    assert first.digest() == second.digest()
    journal.put(first, 7, 8)
    assert first.digest() != second.digest()
