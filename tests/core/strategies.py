"""Hypothesis strategies for every record kind, derived from the fields' own types and bounds.

A kind that is registered later is covered without a change here.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec import Struct, inspect

from ledger_core.community import Genesis
from ledger_core.records.block import BlockBody, Header
from ledger_core.records.body import Body
from ledger_core.records.codec import Cosignature, Envelope, kinds
from ledger_core.records.votes import VOTE_BYTES, VoteBundle

settings.register_profile(
    "quick",
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("ci", parent=settings.get_profile("quick"), derandomize=True, print_blob=True)
PROFILE = settings.get_profile("ci" if os.environ.get("CI") else "quick")
"""Bounded runs everywhere; the same examples every time where `CI` is set."""

FREE_LENGTH = 96
"""Longest text or bytes drawn where the format has no bound of its own or a larger one."""

FREE_ITEMS = 5
"""The same for tuples."""


def _length(minimum: int | None, maximum: int | None) -> dict[str, int]:
    least = minimum or 0
    most = FREE_LENGTH if maximum is None else min(maximum, max(least, FREE_LENGTH))
    return {"min_size": least, "max_size": most}


def _integers(kind: inspect.IntType) -> st.SearchStrategy[int]:
    low = kind.ge if kind.ge is not None else -(2**31)
    high = kind.le if kind.le is not None else 2**63 - 1
    low, high = int(low), int(high)
    return st.one_of(st.integers(low, high), st.sampled_from([low, high]))


def of_type(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return values of a field's type within its bounds."""
    match kind:
        case inspect.NoneType():
            return st.none()
        case inspect.IntType():
            return _integers(kind)
        case inspect.BytesType():
            return st.binary(**_length(kind.min_length, kind.max_length))
        case inspect.StrType():
            alphabet = st.characters(codec="utf-8")
            return st.text(alphabet, **_length(kind.min_length, kind.max_length))
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.UnionType():
            return st.one_of(*(of_type(part) for part in kind.types))
        case inspect.VarTupleType():
            least = kind.min_length or 0
            most = max(least, min(FREE_ITEMS if kind.max_length is None else kind.max_length, FREE_ITEMS))
            return st.lists(of_type(kind.item_type), min_size=least, max_size=most).map(tuple)
        case inspect.StructType():
            return of_struct(kind.cls)
    raise TypeError(f"no strategy for {kind}")


@cache
def of_struct[S: Struct](kind: type[S]) -> st.SearchStrategy[S]:
    """Return instances of a struct, every field drawn from its own type."""
    described = inspect.type_info(kind)
    if not isinstance(described, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    fields: Mapping[str, Any] = {field.name: of_type(field.type) for field in described.fields}
    return st.builds(kind, **fields)


def bodies() -> st.SearchStrategy[Body]:
    """Return bodies of every registered kind."""
    return st.sampled_from(kinds()).flatmap(of_struct)


def envelopes() -> st.SearchStrategy[Envelope]:
    """Return envelopes of any form, whatever their bytes say."""
    return of_struct(Envelope)


def cosignatures() -> st.SearchStrategy[Cosignature]:
    """Return co-signatures of any form."""
    return of_struct(Cosignature)


def bundles() -> st.SearchStrategy[VoteBundle]:
    """Return vote bundles whose votes have whole lengths."""
    votes = st.integers(1, 3).flatmap(
        lambda count: st.binary(min_size=count * VOTE_BYTES, max_size=count * VOTE_BYTES)
    )
    base = of_struct(VoteBundle)
    return st.builds(_with_votes, base, votes)


def _with_votes(bundle: VoteBundle, votes: bytes) -> VoteBundle:
    return VoteBundle(
        bundle.created,
        bundle.source_height,
        bundle.source_hash,
        bundle.target_height,
        bundle.target_hash,
        votes,
    )


def block_bodies() -> st.SearchStrategy[BlockBody]:
    """Return block bodies of any envelopes and bundles."""
    return st.builds(
        BlockBody,
        st.lists(envelopes(), max_size=3).map(tuple),
        st.lists(bundles(), max_size=2).map(tuple),
    )


def headers() -> st.SearchStrategy[Header]:
    """Return headers with every field over its whole width."""
    hashes = st.binary(min_size=32, max_size=32)
    return st.builds(
        Header,
        version=st.integers(0, 2**16 - 1),
        height=st.integers(0, 2**32 - 1),
        previous=hashes,
        merkle_root=hashes,
        count=st.integers(0, 2**32 - 1),
        state_hash=hashes,
        time=st.integers(0, 2**64 - 1),
        target=st.integers(0, 2**32 - 1),
        miner=hashes,
        nonce=st.integers(0, 2**64 - 1),
    )


def geneses() -> st.SearchStrategy[Genesis]:
    """Return geneses within the bounds of their fields, consistent or not."""
    return of_struct(Genesis)
